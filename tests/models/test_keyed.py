from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from footage import T002, frames
from protection import compare
from torch import Tensor
from toys import Pixels, one_face, painted, seen_on

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord, new_nonce
from deidlib.keys.scramble import CellPermutation
from deidlib.models.base import TargetModel
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe, read_originals
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

KEY = Key(bytes(range(32)))
SCRAMBLE = CellPermutation(1, 8)
NONCE = "0123456789abcdef0123456789abcdef"


class Seen(Pixels):
    """Keeps what it is shown; finds a face whose score is the top left pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[Tensor] = []

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        self.images.append(images)
        return seen_on(images, [Faces(known.boxes, images[i, 0, 0, :1]) for i, known in enumerate(one_face(images))])


def scrambled(image: Tensor, number: int | None, key: Key = KEY) -> Tensor:
    label = "every frame" if number is None else f"{NONCE}/frame {number}"
    return SCRAMBLE(image[None], SCRAMBLE.plan(key, label, *image.shape[1:])[None])[0]


def keyed(model: TargetModel[Any] | None = None, key: Key = KEY, nonce: str | None = NONCE) -> Keyed:
    return Keyed(model or Seen(), key, scramble=SCRAMBLE, nonce=nonce)


@pytest.fixture
def images() -> Tensor:
    return to_grid(torch.rand(3, 3, 21, 30))


def test_the_model_sees_protected_frames_scrambled_and_originals_as_they_are(images: Tensor) -> None:
    inner = Seen()
    model = keyed(inner).at([5, 6, 9])
    model.predict(images)
    read_originals(images, [model])
    expected = torch.stack([scrambled(image, n) for image, n in zip(images, (5, 6, 9), strict=True)])
    assert torch.equal(inner.images[0], expected)
    assert not torch.equal(inner.images[0], images)
    assert torch.equal(inner.images[1], images)
    assert model.for_originals is inner


def test_without_a_nonce_all_frames_are_scrambled_alike(images: Tensor) -> None:
    inner = Seen()
    keyed(inner, nonce=None).predict(images)
    assert torch.equal(inner.images[0], torch.stack([scrambled(image, None) for image in images]))


def test_the_frame_of_a_clip_decides_and_not_its_place_in_the_batch(images: Tensor) -> None:
    same = images[:1].expand(3, -1, -1, -1)
    inner = Seen()
    keyed(inner).at([0, 1, 0]).predict(same)
    first, second, third = inner.images[0]
    assert torch.equal(first, third)
    assert (first == second).float().mean() < 0.1
    Keyed(inner, KEY, scramble=SCRAMBLE, nonce=new_nonce()).at([0, 1, 0]).predict(same)
    assert (inner.images[1][0] == first).float().mean() < 0.1


def test_the_loss_is_the_models_on_scrambled_frames(images: Tensor) -> None:
    hidden = to_grid(torch.rand_like(images))
    model = keyed().at([7, 8, 9])
    loss = model.loss(hidden, model.target(painted(images, frames=[0, 2]), (21, 30)))
    for i, number in ((0, 7), (2, 9)):
        expected = (scrambled(hidden[i], number) - images[i]).square().sum() / 2
        torch.testing.assert_close(loss[i], expected)
    assert loss[1] == 0


def test_frames_that_leave_the_batch_take_their_scramble_with_them(images: Tensor) -> None:
    hidden = to_grid(torch.rand_like(images))
    model = keyed().at([7, 8, 9])
    target = model.target(painted(images), (21, 30))
    loss = model.loss(hidden, target)
    assert len(set(loss.tolist())) == 3
    for rows in ([2], [0, 2], [2, 0], [1, 2, 0]):
        chosen = target.select(torch.tensor(rows))
        torch.testing.assert_close(model.loss(hidden[rows], chosen), loss[rows])
        again = chosen.select(torch.tensor([0]))
        torch.testing.assert_close(model.loss(hidden[rows[:1]], again), loss[rows[:1]])


def test_the_attack_writes_what_only_the_key_reads(images: Tensor) -> None:
    """The optimum is known: the original with its pixels moved back, as near as the ball allows."""
    hidden = torch.full_like(images, 128 / 255)
    model = keyed(Pixels())
    result = IFGSMAttacker([model], epsilon=16 / 255, max_iterations=40)(hidden, painted(images), numbers=[3, 4, 5])
    for i, number in enumerate((3, 4, 5)):
        plan = SCRAMBLE.plan(KEY, f"{NONCE}/frame {number}", *images.shape[2:])
        back = SCRAMBLE(images[i : i + 1], plan.flip(0)[None])[0]
        expected = hidden[i] + (back - hidden[i]).clamp(-16 / 255, 16 / 255)
        assert (result.images[i] - expected).abs().max() <= 1.01 / 255
    with pytest.raises(ValueError, match="say which frames of the clip these are"):
        IFGSMAttacker([model])(hidden, painted(images))


def test_gradients_are_right() -> None:
    images = torch.rand(2, 3, 9, 12, dtype=torch.float64)
    hidden = torch.rand_like(images).requires_grad_()
    model = keyed(Pixels()).at([0, 1])
    target = model.target(painted(images), (9, 12))
    assert torch.autograd.gradcheck(lambda x: model.loss(x, target), hidden)


def test_several_keys_and_none_in_one_attack(images: Tensor) -> None:
    models: dict[str, TargetModel[Any]] = {"a": keyed(), "b": keyed(key=KEY.derive("b"), nonce=None), "plain": Pixels()}
    result = IFGSMAttacker(models, max_iterations=3)(images, painted(images), numbers=[0, 1, 2])
    assert list(result.losses) == ["a", "b", "plain"]
    assert (result.losses["plain"][0] == 0).all()
    for name in ("a", "b"):
        assert (result.losses[name][0] > 0).all()
    assert [len(faces) for faces in observe(images, [models["b"], Pixels()])] == [1, 1, 1]


def test_numbers_have_to_be_said_and_to_fit(images: Tensor) -> None:
    model = keyed()
    with pytest.raises(ValueError, match=r"model\.at\(range\(first, first \+ len\(images\)\)\)"):
        model.predict(images)
    with pytest.raises(ValueError, match="told 2 frame numbers, and 3 frames came"):
        model.at([0, 1]).predict(images)
    with pytest.raises(ValueError, match="numbered from 0, got -1"):
        model.at([0, -1])
    with pytest.raises(TypeError, match=r"must be a Key, got bytes\. Use Key\.generate"):
        Keyed(Seen(), bytes(32))  # type: ignore[arg-type]


def test_at_makes_a_copy_and_tells_models_within(images: Tensor) -> None:
    inner = keyed(nonce="0" * 32)
    outer = keyed(inner, KEY.derive("outer"))
    told = outer.at([1, 2, 3])
    assert len(told.predict(images)) == 3
    assert told is not outer
    assert outer.model is inner
    with pytest.raises(ValueError, match="say which frames"):
        outer.predict(images)
    assert told.name == "keyed-keyed-seen"
    assert told.task == "boxes"


def test_the_key_is_not_shown_and_not_saved() -> None:
    model = keyed(RetinaFaceLike())
    assert KEY.id in repr(model)
    assert bytes(range(32)).hex() not in repr(model)
    assert list(model.state_dict()) == ["model.net.weight", "model.net.bias"]
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(model)
    assert copy.deepcopy(model).key == KEY


class RetinaFaceLike(Pixels):
    """With weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)


def record() -> KeyRecord:
    return KeyRecord.of(KEY, nonce=NONCE, scramble=SCRAMBLE, models=["retinaface", "mpiigaze"])


def test_a_record_goes_through_json_and_makes_the_same_reader(images: Tensor) -> None:
    text = json.dumps(record().to_dict())
    assert bytes(range(32)).hex() not in text
    back = KeyRecord.from_dict(json.loads(text))
    assert back == record()
    inner = Seen()
    Keyed.from_record(back, inner, KEY).at([0, 1, 2]).predict(images)
    assert torch.equal(inner.images[0][1], scrambled(images[1], 1))


def test_a_wrong_key_is_recognised_before_anything_is_read() -> None:
    other = KEY.derive("other")
    assert record().opened_by(KEY)
    assert not record().opened_by(other)
    with pytest.raises(ValueError, match=rf"nothing is readable with this key \(id {other.id}\).*key {KEY.id}"):
        Keyed.from_record(record(), Seen(), other)


@pytest.mark.parametrize(
    "change",
    [{"nonce": "0" * 32}, {"nonce": None}, {"models": ["retinaface"]}, {"scramble": {"scramble": "X"}}, {"seal": ""}],
)
def test_a_record_that_was_changed_is_not_opened(change: dict[str, Any]) -> None:
    changed = KeyRecord.from_dict({**record().to_dict(), **change})
    assert not changed.opened_by(KEY)
    with pytest.raises(ValueError, match="nothing is readable"):
        Keyed.from_record(changed, Seen(), KEY)


@pytest.mark.parametrize("field", ["key_id", "seal", "nonce", "scramble", "models"])
def test_a_record_that_misses_something_is_refused(field: str) -> None:
    values = record().to_dict()
    del values[field]
    with pytest.raises(ValueError, match=f"no record of a key.*{field}"):
        KeyRecord.from_dict(values)


def test_nonces_are_new() -> None:
    assert len({new_nonce() for _ in range(20)}) == 20
    assert len(bytes.fromhex(new_nonce())) == 16


def test_only_the_key_reads_real_frames(shared: Path) -> None:
    """RetinaFace with public weights, 25 iterations: it reads with the key, and finds nothing otherwise."""
    originals = frames(T002[0], [0, 24, 48])[:, :, :320, 96:416].contiguous()
    retinaface, twin, mtcnn = RetinaFace(), RetinaFace("retinaface_mobilenet0.25_1mb"), MTCNN()
    faces = retinaface.predict(originals)
    obfuscator = Pixelate()
    model = Keyed(retinaface, KEY, nonce=NONCE).at([0, 24, 48])
    protected = IFGSMAttacker([model], max_iterations=25, step=APGDStep())(
        obfuscator(originals, faces),
        faces,
        mask=obfuscator.mask(faces, *originals.shape[2:]),
    ).images
    right = compare(faces, model.predict(protected))
    assert right.found == 1
    assert right.iou.mean() >= 0.95
    assert right.nme.mean() <= 0.02
    neighbour = Key(bytes([1, *range(1, 32)]))
    strangers: dict[str, TargetModel[Any]] = {
        "no key": retinaface,
        "twin": twin,
        "mtcnn": mtcnn,
        "a bit of the key": Keyed(retinaface, neighbour, nonce=NONCE).at([0, 24, 48]),
        "other frames": model.at([1, 25, 49]),
        "no nonce": Keyed(retinaface, KEY),
        **{f"wrong {i}": Keyed(retinaface, KEY.derive(str(i)), nonce=NONCE).at([0, 24, 48]) for i in range(4)},
    }
    for name, stranger in strangers.items():
        assert [len(found) for found in stranger.predict(protected)] == [0, 0, 0], name
