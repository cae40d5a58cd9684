from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from deidlib.faces import Faces, five_points
from deidlib.geometry.camera import Camera
from deidlib.geometry.face_model import face_model
from deidlib.metrics import (
    DiffScore,
    Miss,
    NormalisedDiffScore,
    difference,
    face_size,
    gaze_angle,
    landmark_distance,
    nme_interocular,
    pair,
)

SCORES: list[Callable[[], DiffScore]] = [DiffScore, NormalisedDiffScore]
TERMS = ("box", "landmarks", "gaze")


def random_faces(n: int, seed: int, *, side: float = 60.0, points: int = 5, near: Faces | None = None) -> Faces:
    """Faces anywhere in a small frame, so that they overlap; or each near one of other faces."""
    g = torch.Generator().manual_seed(seed)
    if near is None:
        corners = torch.rand(n, 2, 2, generator=g) * side
        boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    else:
        boxes = near.boxes[:n] + torch.randn(n, 4, generator=g) * 0.05 * face_size(near.boxes[:n])[:, None]
        boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    size, corner = (boxes[:, 2:] - boxes[:, :2])[:, None], boxes[:, None, :2]
    landmarks = corner + torch.rand(n, points, 2, generator=g) * size
    return Faces(boxes, torch.rand(n, generator=g), landmarks, torch.randn(n, 3, generator=g))


def separate_faces(n: int, seed: int) -> Faces:
    """Faces that lie well apart."""
    faces = random_faces(n, seed, side=40.0)
    shift = torch.arange(n)[:, None] * 100.0
    assert faces.landmarks is not None
    boxes = faces.boxes + torch.cat([shift, torch.zeros(n, 1)], 1).repeat(1, 2)
    # None without area: such a face overlaps nothing, itself included.
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 5)], dim=1)
    return Faces(boxes, faces.scores, faces.landmarks + torch.stack([shift, torch.zeros(n, 1)], -1), faces.gaze)


def values(make: Callable[[], DiffScore], original: Faces, protected: Faces) -> dict[str, float]:
    score = make()
    score.update([original], [protected])
    return {name: value.item() for name, value in score.compute().items()}


# Pairing


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.5]))
def test_pairing_is_the_best_of_all(n: int, m: int, seed: int, min_iou: float) -> None:
    a, b = random_faces(n, seed), random_faces(m, seed + 1)
    found = pair(a, b, min_iou=min_iou)
    overlap = box_iou(a.boxes.double(), b.boxes.double())
    allowed = overlap.where(overlap > min_iou, torch.zeros(()).double())
    # Every one-to-one assignment, by brute force.
    if n <= m:
        best = max(sum(allowed[i, j].item() for i, j in enumerate(p)) for p in permutations(range(m), n))
    else:
        best = max(sum(allowed[i, j].item() for j, i in enumerate(p)) for p in permutations(range(n), m))
    assert found.iou.sum().item() == pytest.approx(best, abs=1e-5)
    assert (found.iou > min_iou).all()
    assert torch.allclose(found.iou.double(), overlap[found.original, found.protected], atol=1e-6)
    assert sorted([*found.original.tolist(), *found.missed.tolist()]) == list(range(n))
    assert sorted([*found.protected.tolist(), *found.spurious.tolist()]) == list(range(m))


def test_greedy_pairing_would_be_worse() -> None:
    a = Faces(torch.tensor([[0.0, 0.0, 10.0, 10.0], [3.0, 0.0, 13.0, 10.0]]), torch.ones(2))
    b = Faces(torch.tensor([[1.0, 0.0, 11.0, 10.0], [-6.0, 0.0, 4.0, 10.0]]), torch.ones(2))
    # Box 0 of b fits box 0 of a best, but then nothing is left for box 1 of a.
    assert pair(a, b).protected.tolist() == [1, 0]


def test_equal_overlaps_are_decided_by_landmarks_and_gaze() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    points, gaze = torch.rand(1, 5, 2) * 10, torch.tensor([[0.0, 0.0, -1.0]])
    original = Faces(box, torch.ones(1), points, gaze)
    twice = Faces(box.repeat(2, 1), torch.ones(2), torch.cat([points + 4, points]), gaze.repeat(2, 1))
    assert pair(original, twice).protected.tolist() == [1]
    assert pair(original, twice[[1, 0]]).protected.tolist() == [0]
    looks = twice.replace(landmarks=points.repeat(2, 1, 1), gaze=torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]))
    assert pair(original, looks).protected.tolist() == [1]


def test_min_iou_is_checked() -> None:
    with pytest.raises(ValueError, match=r"min_iou must lie in \[0, 1\), got 1"):
        pair(Faces.empty(), Faces.empty(), min_iou=1)
    with pytest.raises(ValueError, match="min_iou"):
        DiffScore(min_iou=-0.1)


# One frame


def test_difference_by_hand() -> None:
    original = Faces(
        torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 140.0, 90.0]]),
        torch.ones(2),
        torch.zeros(2, 5, 2),
        torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
    )
    protected = Faces(
        torch.tensor([[300.0, 300.0, 310.0, 310.0], [0.0, 0.0, 10.0, 5.0]]),
        torch.ones(2),
        torch.tensor([3.0, 4.0]).expand(2, 5, 2),
        torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
    )
    result = difference(original, protected)
    assert result.iou.tolist() == [0.5, 0.0]
    assert result.box.tolist() == [0.5, 1.0]
    assert result.landmarks is not None
    assert result.nme_box is not None
    assert result.gaze is not None
    assert result.landmarks.tolist() == [5.0, 60.0]
    assert result.nme_box.tolist() == [0.5, 1.0]
    assert result.gaze.tolist() == pytest.approx([45.0, 180.0])
    assert result.pairing.spurious.tolist() == [0]
    assert values(DiffScore, original, protected) == pytest.approx(
        {
            "score": 0.75 + 32.5 + 112.5, "box": 0.75, "landmarks": 32.5, "gaze": 112.5,
            "coverage": 0.5, "spurious": 1.0, "faces": 2.0, "frames": 1.0,
        }
    )  # fmt: skip
    assert values(NormalisedDiffScore, original, protected)["score"] == pytest.approx(0.75 + 0.75 + 112.5 / 180)


def test_the_papers_sum_over_frames() -> None:
    """Against the formula written out, where every face is found."""
    originals = [separate_faces(1, seed) for seed in range(6)]
    shift = torch.tensor([2.0, 1.0, 2.0, 1.0])
    protected = []
    for frame in originals:
        assert frame.landmarks is not None
        protected.append(
            frame.replace(boxes=frame.boxes + shift, landmarks=frame.landmarks + 1, gaze=torch.randn(1, 3))
        )
    score = DiffScore()
    score.update(originals[:4], protected[:4])
    score.update(originals[4:], protected[4:])
    total = 0.0
    for a, b in zip(originals, protected, strict=True):
        assert a.landmarks is not None
        assert b.landmarks is not None
        assert a.gaze is not None
        assert b.gaze is not None
        cosine = torch.nn.functional.cosine_similarity(a.gaze.double(), b.gaze.double()).item()
        total += 1 - box_iou(a.boxes, b.boxes).item()
        total += (a.landmarks - b.landmarks).norm(dim=-1).mean().item() + math.degrees(math.acos(cosine))
    assert score.compute()["score"].item() == pytest.approx(total / 6, rel=1e-5)
    assert score.per_frame()["score"].mean().item() == pytest.approx(total / 6, rel=1e-5)
    assert score.compute()["coverage"] == 1


def test_sixty_eight_against_five_points() -> None:
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    full = torch.rand(1, 68, 2) * 100
    five = torch.stack([full[:, 36:42].mean(1), full[:, 42:48].mean(1), full[:, 30], full[:, 48], full[:, 54]], 1)
    a, b = Faces(box, torch.ones(1), full), Faces(box, torch.ones(1), five + torch.tensor([0.0, 2.0]))
    for result in (difference(a, b), difference(b, a)):
        assert result.landmarks is not None
        assert result.landmarks.item() == pytest.approx(2.0)


def test_a_reading_counts_at_most_as_a_miss() -> None:
    box = torch.tensor([[0.0, 0.0, 40.0, 90.0]])
    original = Faces(box, torch.ones(1), torch.zeros(1, 5, 2), torch.tensor([[0.0, 0.0, 1.0]]))
    bad = Faces(box, torch.ones(1), torch.full((1, 5, 2), 1e4), torch.tensor([[0.0, 0.0, -1.0]]))
    small = Miss(box=0.5, landmarks=0.1, gaze=90.0)
    for faces in (bad, Faces.empty()):
        result = difference(original, faces, miss=small)
        assert result.landmarks is not None
        assert result.nme_box is not None
        assert result.gaze is not None
        assert result.landmarks.item() == pytest.approx(6.0)
        assert result.nme_box.item() == pytest.approx(0.1)
        assert result.gaze.item() == 90
    assert difference(original, Faces.empty(), miss=small).box.item() == 0.5
    unlimited = Miss(landmarks=math.inf)
    result = difference(original, bad, miss=unlimited)
    assert result.landmarks is not None
    assert result.landmarks.item() == pytest.approx(1e4 * math.sqrt(2))
    assert values(lambda: DiffScore(miss=unlimited), original, Faces.empty())["score"] == math.inf


def test_miss_is_checked() -> None:
    with pytest.raises(ValueError, match=r"Miss.gaze must be >= 0, got -1"):
        Miss(gaze=-1)
    with pytest.raises(ValueError, match=r"Miss.box must be >= 0, got nan"):
        Miss(box=math.nan)


@pytest.mark.parametrize("spoil", ["absent", "nan", "no direction"])
def test_what_the_reader_does_not_read_is_a_miss(spoil: str) -> None:
    original = separate_faces(2, 0)
    assert original.landmarks is not None
    assert original.gaze is not None
    landmarks: Tensor | None = original.landmarks.clone()
    gaze: Tensor | None = original.gaze.clone()
    if spoil == "absent":
        landmarks = gaze = None
    elif spoil == "nan":
        assert landmarks is not None
        assert gaze is not None
        landmarks[:, 2] = torch.nan
        gaze[:, 0] = torch.nan
    else:
        landmarks, gaze = None, torch.zeros(2, 3)
    result = difference(original, original.replace(landmarks=landmarks, gaze=gaze))
    assert result.box.tolist() == [0.0, 0.0]
    assert result.nme_box is not None
    assert result.gaze is not None
    assert result.nme_box.tolist() == [1.0, 1.0]
    assert result.gaze.tolist() == [180.0, 180.0]


def test_what_the_original_lacks_is_left_out() -> None:
    faces = separate_faces(1, 3)
    bare = Faces(faces.boxes, faces.scores)
    score = DiffScore()
    score.update([bare], [faces])
    assert difference(bare, faces).landmarks is None
    assert score.compute()["landmarks"].isnan()
    assert score.compute()["gaze"].isnan()
    assert score.compute()["score"] == 0
    # A frame that has it counts for the term, the others do not dilute it.
    score.update([faces], [Faces.empty()])
    assert score.compute()["gaze"] == 180
    assert score.compute()["box"] == 0.5


def test_by_the_eyes_is_by_those_of_the_original_however_many_points_are_compared() -> None:
    box, full = torch.tensor([[0.0, 0.0, 40.0, 90.0]]), torch.rand(1, 68, 2) * 40
    full[0, 36], full[0, 45] = torch.tensor([5.0, 20.0]), torch.tensor([35.0, 20.0])
    original = Faces(box, torch.ones(1), full)
    shift = torch.tensor([0.0, 6.0])
    for points in (full, five_points(full)):
        result = difference(original, Faces(box, torch.ones(1), points + shift))
        assert result.nme_interocular is not None
        assert result.nme_interocular.item() == pytest.approx(6 / 30)
    # A miss is a face size off, 60 pixels, twice the distance of the eyes.
    for faces in (Faces.empty(), Faces(box, torch.ones(1), full + 1e4)):
        result = difference(original, faces)
        assert result.nme_interocular is not None
        assert result.nme_interocular.item() == pytest.approx(60 / 30)
    assert difference(Faces(box, torch.ones(1)), original).nme_interocular is None
    a, b = separate_faces(2, 4), separate_faces(2, 4)
    assert a.landmarks is not None
    result = difference(a, b.replace(landmarks=a.landmarks + 0.5))
    assert result.nme_interocular is not None
    assert torch.allclose(result.nme_interocular, nme_interocular(a.landmarks + 0.5, a.landmarks))


def test_head_poses_are_compared_where_a_camera_is_given() -> None:
    camera = Camera.default(480, 480)
    far = torch.tensor([[-0.15, 0.0, 0.7], [0.15, 0.0, 0.7]], dtype=torch.float64)
    straight = torch.stack([camera.project(face_model() + at) for at in far]).float()
    angle = math.radians(20)
    turn = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]], dtype=torch.float64
    )
    turned = torch.stack([camera.project(face_model() @ turn.T + at) for at in far]).float()
    boxes = torch.cat([straight.amin(dim=1), straight.amax(dim=1)], dim=1)
    original, other = Faces(boxes, torch.ones(2), straight), Faces(boxes, torch.ones(2), turned)
    # In another order; then one face without points, and one that is not found.
    poses = difference(original, other[[1, 0]], camera=camera).head_pose
    assert poses is not None
    assert poses.tolist() == pytest.approx([20.0, 20.0], abs=0.01)
    poses = difference(original, original, camera=camera).head_pose
    assert poses is not None
    assert poses.tolist() == [0.0, 0.0]
    blind = turned.clone()
    blind[0, 5] = torch.nan
    for faces in (other.replace(landmarks=blind), other[[1]]):
        poses = difference(original, faces, camera=camera).head_pose
        assert poses is not None
        assert poses.tolist() == pytest.approx([180.0, 20.0], abs=0.01)
    poses = difference(original, Faces(boxes, torch.ones(2)), camera=camera).head_pose
    assert poses is not None
    assert poses.tolist() == [180.0, 180.0]
    assert difference(original, other).head_pose is None
    assert difference(Faces(boxes, torch.ones(2)), other, camera=camera).head_pose is None


def test_an_original_that_is_no_ground_truth_is_refused() -> None:
    faces = separate_faces(1, 3)
    with pytest.raises(ValueError, match="original's gaze must be finite"):
        difference(faces.replace(gaze=torch.zeros(1, 3)), faces)
    with pytest.raises(ValueError, match="original's landmarks hold NaN"):
        difference(faces.replace(landmarks=torch.full((1, 5, 2), torch.nan)), faces)


# Properties


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(SCORES))
def test_identity_is_zero(n: int, seed: int, make: Callable[[], DiffScore]) -> None:
    faces = random_faces(n, seed)
    got = values(make, faces, faces[torch.randperm(n).tolist()])
    assert got["score"] == 0
    assert got["coverage"] == 1
    assert got["spurious"] == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 10**6), st.sampled_from(SCORES))
def test_the_order_of_faces_does_not_matter(n: int, m: int, seed: int, make: Callable[[], DiffScore]) -> None:
    a, b = random_faces(n, seed), random_faces(m, seed + 1)
    g = torch.Generator().manual_seed(seed)
    shuffled = (a[torch.randperm(n, generator=g).tolist()], b[torch.randperm(m, generator=g).tolist()])
    assert values(make, *shuffled) == pytest.approx(values(make, a, b), nan_ok=True, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 10**6))
def test_symmetric_where_it_holds(n: int, seed: int) -> None:
    """Equally many faces, all paired: box, pixels and degrees do not care which side is the original."""
    a = separate_faces(n, seed)
    b = random_faces(n, seed, near=a)
    there, back = difference(a, b), difference(b, a)
    if len(there.pairing) == n:
        assert torch.allclose(there.box, back.box[there.pairing.protected], atol=1e-6)
        unlimited = Miss(landmarks=math.inf)
        one, two = difference(a, b, miss=unlimited), difference(b, a, miss=unlimited)
        assert one.landmarks is not None
        assert two.landmarks is not None
        assert one.gaze is not None
        assert two.gaze is not None
        assert torch.allclose(one.landmarks, two.landmarks[there.pairing.protected], rtol=1e-4)
        assert torch.allclose(one.gaze, two.gaze[there.pairing.protected], atol=1e-3)
        if n:
            assert values(lambda: DiffScore(miss=unlimited), a, b)["score"] == pytest.approx(
                values(lambda: DiffScore(miss=unlimited), b, a)["score"], rel=1e-4
            )


misses = st.builds(
    Miss,
    box=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    landmarks=st.sampled_from([0.0, 0.1, 1.0, math.inf]),
    gaze=st.sampled_from([0.0, 10.0, 180.0, math.inf]),
)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 5),
    st.integers(0, 10**6),
    st.sampled_from([DiffScore, NormalisedDiffScore]),
    misses,
    st.sampled_from([0.0, 0.5]),
)
def test_losing_any_face_never_lowers_the_score(
    n: int, seed: int, kind: type[DiffScore], miss: Miss, min_iou: float
) -> None:
    """However bad its reading was, and whatever a miss is said to cost."""
    original = separate_faces(n, seed)
    protected = random_faces(n, seed, near=original)
    assert protected.landmarks is not None
    protected = protected.replace(landmarks=protected.landmarks + torch.randn(n, 5, 2) * 500)
    before = values(lambda: kind(miss=miss, min_iou=min_iou), original, protected)
    for row in range(n):
        kept = [i for i in range(n) if i != row]
        after = values(lambda: kind(miss=miss, min_iou=min_iou), original, protected[kept])
        for name in ("score", *TERMS):
            assert after[name] >= before[name] * (1 - 1e-6)
        assert after["coverage"] <= before["coverage"]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_losing_any_of_a_crowd_never_lowers_the_box_term(n: int, m: int, seed: int, min_iou: float) -> None:
    """Also where faces overlap and another detection may take the place of the one that is lost."""
    original, protected = random_faces(n, seed), random_faces(m, seed + 1)
    before = values(lambda: DiffScore(min_iou=min_iou), original, protected)
    for row in range(m):
        kept = protected[[i for i in range(m) if i != row]]
        after = values(lambda: DiffScore(min_iou=min_iou), original, kept)
        assert after["box"] >= before["box"] - 1e-6


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from(SCORES))
def test_reading_nothing_is_worst(n: int, m: int, seed: int, make: Callable[[], DiffScore]) -> None:
    original, protected = random_faces(n, seed), random_faces(m, seed + 1)
    nothing = values(make, original, Faces.empty())
    got = values(make, original, protected)
    for name in ("score", *TERMS):
        assert got[name] <= nothing[name] * (1 + 1e-6)
    assert nothing["coverage"] == 0
    assert nothing["box"] == 1
    assert nothing["gaze"] == (180 if make is DiffScore else 1)


def test_spurious_faces_do_not_help_or_harm_the_score() -> None:
    original = separate_faces(2, 1)
    more = random_faces(2, 5).replace(boxes=torch.tensor([[900.0, 0.0, 910.0, 10.0], [950.0, 0.0, 960.0, 10.0]]))
    assert original.landmarks is not None
    assert original.gaze is not None
    assert more.landmarks is not None
    assert more.gaze is not None
    extra = Faces(
        torch.cat([more.boxes, original.boxes]),
        torch.ones(4),
        torch.cat([more.landmarks, original.landmarks]),
        torch.cat([more.gaze, original.gaze]),
    )
    got = values(DiffScore, original, extra)
    assert (got["score"], got["spurious"], got["coverage"]) == (0.0, 2.0, 1.0)


def test_normalised_score_does_not_change_with_resolution() -> None:
    a = separate_faces(3, 11)
    b = random_faces(3, 11, near=a)

    def scaled(faces: Faces) -> Faces:
        assert faces.landmarks is not None
        return faces.replace(boxes=faces.boxes * 2.5, landmarks=faces.landmarks * 2.5)

    assert values(NormalisedDiffScore, scaled(a), scaled(b)) == pytest.approx(values(NormalisedDiffScore, a, b))
    assert values(DiffScore, scaled(a), scaled(b))["score"] > values(DiffScore, a, b)["score"]


# The holder


def test_frames_without_faces_are_left_out_and_their_spurious_faces_counted() -> None:
    faces = separate_faces(1, 2)
    score = DiffScore()
    score.update([Faces.empty(), faces], [faces, Faces.empty()])
    got = {name: value.item() for name, value in score.compute().items()}
    assert got["box"] == 1
    assert got["coverage"] == 0
    assert got["spurious"] == 0.5
    assert (got["faces"], got["frames"]) == (1, 2)
    per_frame = score.per_frame()
    assert per_frame["score"].isnan().tolist() == [True, False]
    assert per_frame["spurious"].tolist() == [1, 0]


def test_nothing_measured_is_nan() -> None:
    score = DiffScore()
    score.update([], [])
    got = score.compute()
    assert got["score"].isnan()
    assert got["coverage"].isnan()
    assert score.per_frame()["score"].shape == (0,)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="got 2 original and 1 protected frames"):
        DiffScore().update([Faces.empty()] * 2, [Faces.empty()])


@pytest.mark.parametrize("make", SCORES)
def test_forward_reset_pickle_and_clone(make: Callable[[], DiffScore]) -> None:
    a, b = separate_faces(2, 7), random_faces(2, 7, near=separate_faces(2, 7))
    score = make()
    first = score([a], [b])
    second = score([a], [a])
    assert second["score"] == 0
    assert score.compute()["score"].item() == pytest.approx(first["score"].item() / 2)
    assert len(score.per_frame()["box"]) == 2
    twin = pickle.loads(pickle.dumps(score.clone()))
    assert twin.compute()["score"] == score.compute()["score"]
    score.reset()
    score.update([a], [b])
    assert score.compute()["score"] == first["score"]
    assert list(score.state_dict()) == []


def test_frames_of_two_processes_are_joined() -> None:
    a, b = separate_faces(2, 7), separate_faces(2, 8)
    score, both = DiffScore(), DiffScore()
    score.update([a, a], [b, Faces.empty()])
    # The other process holds the same.
    score.distributed_available_fn = lambda: True
    score.dist_sync_fn = lambda state, group=None: [state, state]
    both.update([a, a] * 2, [b, Faces.empty()] * 2)
    assert score.compute() == both.compute()
    assert score.compute()["frames"] == 4
    assert len(score.per_frame()["box"]) == 2


def test_order_and_batching_of_frames_do_not_matter() -> None:
    frames = [(random_faces(3, s), random_faces(2, s + 100)) for s in range(5)]
    one, two = DiffScore(), DiffScore()
    one.update(*zip(*frames, strict=True))
    for a, b in reversed(frames):
        two.update([a], [b])
    for name, value in one.compute().items():
        assert value.item() == pytest.approx(two.compute()[name].item(), rel=1e-5)


def test_terms_are_the_functional_metrics() -> None:
    a = separate_faces(1, 9)
    b = random_faces(1, 9, near=a)
    result = difference(a, b)
    assert a.landmarks is not None
    assert b.landmarks is not None
    assert a.gaze is not None
    assert b.gaze is not None
    assert result.landmarks is not None
    assert result.gaze is not None
    assert result.landmarks.item() == pytest.approx(landmark_distance(a.landmarks, b.landmarks).item())
    assert result.gaze.item() == pytest.approx(gaze_angle(a.gaze, b.gaze).item(), abs=1e-3)
