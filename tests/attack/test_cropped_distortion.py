from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import Pixels, PixelTarget, Sees, boxed

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.distortion import CroppedDistortion, Distortion
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling

CHANNELS = [H264(23), H264(35), JPEG(60), Blur(1.0), Blur(2.5), ChromaSubsampling()]
# Left, top, right, bottom of what may change: inside, at two borders, a pixel, at the last row and column.
PLACES = [(70, 50, 101, 83), (0, 0, 30, 41), (97, 64, 98, 65), (230, 140, 250, 170)]
HEIGHT, WIDTH = 170, 250


def frames(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Known frames, a mask, and frames changed within it; in double precision, so that roundings agree."""
    start = torch.rand(count, 3, HEIGHT // 2, WIDTH // 2, dtype=torch.float64)
    start = torch.nn.functional.interpolate(start, (HEIGHT, WIDTH), mode="bilinear")
    mask = torch.zeros(count, 1, HEIGHT, WIDTH, dtype=torch.float64)
    for row, (x1, y1, x2, y2) in zip(mask, PLACES, strict=False):
        row[:, y1:y2, x1:x2] = 1
    return start, mask, (start + 0.1 * torch.randn_like(start) * mask).clamp(0, 1)


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
def test_it_is_the_channel(channel: Distortion) -> None:
    start, mask, changed = frames(4)
    part = channel.within(start, mask)
    assert isinstance(part, CroppedDistortion)
    changed.requires_grad_()
    expected, got = channel(changed), part(changed)
    # What the mask cannot reach has not been touched, and what it reaches has.
    assert torch.equal(got, part.known) is False
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    weights = torch.randn_like(start)
    (a,), (b,) = (torch.autograd.grad((seen * weights).sum(), changed) for seen in (expected, got))
    torch.testing.assert_close(b * mask, a * mask, rtol=1e-9, atol=1e-9)
    assert float((a * mask).abs().amax()) > 0
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(part.select(rows)(changed[rows]), expected[rows], rtol=0, atol=1e-9)


def test_the_reach_is_no_longer_than_it_must_be() -> None:
    """A change is cut out with its surroundings, and not much more."""
    start, mask, _ = frames(4)
    part = H264(23).within(start, mask)
    assert isinstance(part, CroppedDistortion)
    # 70 - 24 and 101 + 24, 50 - 24 and 83 + 24, each on to a multiple of 16.
    assert part.places[0] == (32, 16, 128, 112)


def test_a_frame_goes_its_way_whatever_is_beside_it() -> None:
    start, mask, changed = frames(2)
    mask[1] = 1
    both, alone = H264(23).within(start, mask), H264(23).within(start[:1], mask[:1])
    assert isinstance(both, CroppedDistortion)
    assert isinstance(alone, CroppedDistortion)
    # What changes nearly everywhere is not cut out, and what lies beside it is.
    assert both.places == (alone.places[0], (0, 0, WIDTH, HEIGHT))
    assert torch.equal(both(changed)[:1], alone(changed[:1]))


def test_where_it_is_not_worth_it_or_not_known() -> None:
    class Anywhere(Distortion):
        def __call__(self, images: Tensor) -> Tensor:
            return images - images.mean(dim=(2, 3), keepdim=True)

    start, mask, _ = frames(4)
    for distortion, shown, where in [
        (Anywhere(), start, mask),
        (H264(23), start, torch.ones_like(mask)),
        # A mask for all pixels at once.
        (H264(23), start, torch.ones(len(start), 1, 1, 1)),
        # Colour of frames with an odd side is not halved, that of their parts would be.
        (H264(23), start[..., :-1], mask[..., :-1]),
    ]:
        assert distortion.within(shown, where) is distortion
        assert distortion.select(torch.tensor([1])) is distortion
    nothing = H264(23).within(start, torch.zeros_like(mask))
    assert isinstance(nothing, CroppedDistortion)
    torch.testing.assert_close(nothing(start), H264(23)(start), rtol=0, atol=1e-9)


def test_a_mask_by_colour_counts_wherever_a_colour_may_change() -> None:
    start, mask, _ = frames(2)
    colours = torch.cat([torch.zeros_like(mask), mask, torch.zeros_like(mask)], dim=1)
    part, whole = H264(23).within(start, colours), H264(23).within(start, mask)
    assert isinstance(part, CroppedDistortion)
    assert isinstance(whole, CroppedDistortion)
    assert part.places == whole.places


def test_an_attack_without_a_mask_is_felt_everywhere() -> None:
    hidden = torch.full((1, 3, 64, 64), 100 / 255)
    original = hidden + 20 / 255
    result = IFGSMAttacker([Pixels()], epsilon=8 / 255, max_iterations=3, distortions=[Blur(1.0)])(
        hidden, Pixels().predict(original)
    )
    # Every pixel has a gradient and goes up, not only those around the corner that a mask of one pixel names.
    assert torch.equal((result.images * 255).round(), torch.full((1, 3, 64, 64), 103.0))


def test_an_attack_is_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Middle(Sees):
        def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
            return super().loss(images, target) / 1000

    start, mask, _ = frames(2)
    originals = torch.rand_like(start)
    # Frames that end at different times: what is local must follow those that stay.
    originals[1] = start[1]
    middle = Middle(boxed((60, 40, 110, 90)))
    attacker = IFGSMAttacker([middle], max_iterations=6, threshold=2.0, distortions=[H264(20), Blur(1.0)])
    used: list[int] = []
    call = CroppedDistortion.__call__

    def counted(self: CroppedDistortion, images: Tensor) -> Tensor:
        used.append(len(images))
        return call(self, images)

    monkeypatch.setattr(CroppedDistortion, "__call__", counted)
    got = attacker(start, Middle(boxed((60, 40, 110, 90))).predict(originals), mask=mask)
    monkeypatch.setattr(Distortion, "within", lambda self, start, mask: self)
    expected = attacker(start, Middle(boxed((60, 40, 110, 90))).predict(originals), mask=mask)
    assert used[0] == 2
    assert used[-1] == 1
    assert torch.equal(got.images, expected.images)
    torch.testing.assert_close(got.objective, expected.objective, rtol=1e-9, atol=0, equal_nan=True)
    assert not torch.equal(got.images, got.images.new_tensor(0) + start.mul(255).round() / 255)
