"""Channels against the codecs they stand in for, their gradients, and attacks that are to survive them."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import SHARED, T002, frames
from PIL import Image
from protection import Reading, compare
from skimage.data import astronaut
from torch import Tensor
from toys import Pixels, painted

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.distortion import Distortion
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.attack.steps import APGDStep, SignStep
from deidlib.images import to_grid
from deidlib.media import VideoReader, VideoWriter
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

EVERY = [JPEG(75), JPEG(20), H264(23), H264(35), ChromaSubsampling(), Blur(1.5)]


def picture(height: int = 192, width: int = 176, top: int = 20, left: int = 140) -> Tensor:
    """The astronaut's face, ``(1, 3, height, width)``."""
    pixels = np.ascontiguousarray(astronaut()[top : top + height, left : left + width])
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def pillow(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    pixels = image[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255


def stored(images: Tensor, folder: Path, crf: int) -> Tensor:
    """Written by VideoWriter and read back."""
    path = folder / "clip.mp4"
    with VideoWriter(path, Fraction(30), (images.shape[-2], images.shape[-1]), codec="h264", quality=crf) as writer:
        writer.write(images)
    with VideoReader(path) as reader:
        return torch.cat([batch.images for batch in reader.batches(len(images))])


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def test_jpeg_is_what_pillow_writes_and_reads() -> None:
    for quality in (95, 75, 50, 20):
        for size in ((192, 176), (93, 71), (16, 17)):
            image = picture(*size)
            real, ours = pillow(image, quality), JPEG(quality)(image)
            error = 255 * (ours - real).abs()
            assert error.mean() <= 0.7, (quality, size)
            assert (error <= 2.5).float().mean() >= 0.94, (quality, size)
            # The bound says something: the picture itself is no such guess.
            assert 255 * (image - real).abs().mean() >= 2.5 * error.mean()


def test_h264_is_nearer_to_what_x264_leaves_than_the_frame_is(tmp_path: Path) -> None:
    clip = torch.cat([picture(left=140 + 2 * step) for step in range(6)])
    for crf in (18, 23, 28):
        real = stored(clip, tmp_path, crf)
        assert psnr(H264(crf)(clip), real) >= psnr(clip, real) + 0.2, crf


def test_h264_stands_in_for_that_rate_factor_on_protected_faces(shared: Path, tmp_path: Path) -> None:
    # Noise of the size and shape of a perturbation on hidden faces.
    originals = frames(T002[0], range(4))
    faces = RetinaFace().predict(originals)
    obfuscator = Pixelate(blocks=4)
    mask = obfuscator.mask(faces, *originals.shape[-2:])
    noise = torch.randint(-8, 9, originals.shape, generator=torch.Generator().manual_seed(0)) / 255
    noise = Blur(0.7)((noise + 0.5).float()) - 0.5
    sent = to_grid((obfuscator(originals, faces) + 2 * noise * mask).clamp(0, 1))
    for crf in (18, 23, 28):
        real = stored(sent, tmp_path, crf)
        inside = (mask > 0).expand_as(real)
        assert psnr(H264(crf)(sent)[inside], real[inside]) >= psnr(sent[inside], real[inside]) + 1.0, crf


def test_chroma_is_kept_as_video_keeps_it(tmp_path: Path) -> None:
    # At crf 0 the conversion is nearly all that is lost; FFmpeg's own conversion to RGB is a level too dark.
    for image in (picture(), picture(93, 71)):
        real = stored(image, tmp_path, 0)
        real = real + (image - real).mean(dim=(2, 3), keepdim=True)
        ours = ChromaSubsampling()(image)
        assert psnr(ours, real) >= psnr(image, real) + (3.0 if image.shape[-1] % 2 == 0 else -1.0)
    odd = picture(93, 71)
    assert 255 * (ChromaSubsampling()(odd) - odd).abs().mean() <= 0.7


@pytest.mark.parametrize("through", EVERY, ids=str)
class TestEveryChannel:
    def test_shape_range_and_grid(self, through: Distortion) -> None:
        for size in ((1, 1), (7, 5), (16, 16), (33, 18)):
            image = torch.rand(2, 3, *size)
            seen = through(image)
            assert seen.shape == image.shape
            assert ((seen >= 0) & (seen <= 1)).all()
            if not isinstance(through, Blur):
                assert torch.equal(seen, to_grid(seen))

    def test_grey_stays_grey(self, through: Distortion) -> None:
        for level in (0.0, 0.25, 0.5, 1.0):
            assert (through(torch.full((1, 3, 21, 34), level)) - level).abs().max() <= 5 / 255

    def test_frames_do_not_matter_to_each_other(self, through: Distortion) -> None:
        batch = torch.cat([picture(64, 48, top=20 * i, left=100) for i in range(4)])
        together = through(batch)
        for i in range(4):
            assert torch.equal(through(batch[i : i + 1])[0], together[i])
        assert torch.equal(through(batch), together)

    def test_inputs_are_not_modified(self, through: Distortion) -> None:
        image = picture(40, 40)
        before = image.clone()
        through(image)
        assert torch.equal(image, before)

    def test_gradient_predicts_the_change(self, through: Distortion) -> None:
        # Along broad changes, the sum of what a whole face's pixels do is hardly touched by rounding.
        image = 0.2 + 0.6 * picture(96, 96)
        ramp = torch.linspace(-1, 1, 96, dtype=image.dtype)
        for change in (ramp[:, None] * ramp, ramp[:, None].expand(96, 96) ** 2, torch.ones(96, 96)):
            change = change * torch.tensor([1.0, 0.7, 0.4])[:, None, None]
            weights = change.sign() + 0.3
            leaf = image.clone().requires_grad_()
            (slope,) = torch.autograd.grad((through(leaf) * weights).sum(), leaf)
            predicted = (slope * change).sum() * 0.1
            actual = ((through(image + 0.05 * change) - through(image - 0.05 * change)) * weights).sum()
            assert abs(predicted - actual) <= 0.15 * abs(actual)

    def test_a_flat_face_feels_a_gradient(self, through: Distortion) -> None:
        # Where all coefficients are 0: an attack starts there.
        leaf = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
        pattern = torch.randn(1, 3, 32, 32)
        (slope,) = torch.autograd.grad((through(leaf) * pattern).sum(), leaf)
        assert slope.abs().mean() >= 0.01
        # And along it the weighted sum rises, if the change is large enough to be coded.
        change = 0.4 * slope / slope.abs().max()
        rise = ((through(leaf + change) - through(leaf)) * pattern).sum()
        assert rise >= 0.3 * (slope * change).sum() > 0


def test_the_blur_passes_gradcheck() -> None:
    image = torch.rand(1, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Blur(0.8), image)


def test_the_blur_is_kornias() -> None:
    from kornia.filters import gaussian_blur2d

    image = picture(40, 30)
    expected = gaussian_blur2d(image, (9, 9), (1.2, 1.2), border_type="replicate")
    torch.testing.assert_close(Blur(1.2)(image), expected)


class Darker(Distortion):
    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, images: Tensor) -> Tensor:
        return images * self.share


class TestAttack:
    def test_a_channel_that_changes_nothing_changes_nothing(self) -> None:
        originals, hidden = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
        plain = IFGSMAttacker([Pixels()], max_iterations=6)(hidden, painted(originals))
        same = IFGSMAttacker([Pixels()], max_iterations=6, distortions=[Darker(1.0)])(hidden, painted(originals))
        twice = IFGSMAttacker([Pixels()], max_iterations=6, distortions=[Darker(1.0), Darker(1.0)])(
            hidden, painted(originals)
        )
        for other in (same, twice):
            assert torch.equal(plain.images, other.images)
            assert torch.equal(plain.objective, other.objective)

    def test_what_is_lowered_is_the_mean_over_the_channels(self) -> None:
        # L(x) = mean over shares s of (s x - t)^2 / 2, lowest at x = t sum(s) / sum(s^2): 0.5 * 1.5 / 1.25 = 0.6.
        originals = torch.full((1, 3, 4, 4), 0.5)
        hidden = torch.full((1, 3, 4, 4), 0.59)
        both = IFGSMAttacker(
            [Pixels()], max_iterations=9, step=SignStep(1 / 255), distortions=[Darker(1.0), Darker(0.5)]
        )
        result = both(hidden, painted(originals))
        assert torch.allclose(result.images, torch.full_like(hidden, 153 / 255))
        levels = 48 / 2 * torch.tensor([(0.6 - 0.5) ** 2, (0.3 - 0.5) ** 2])
        (loss,) = result.final_losses().values()
        assert float(loss) == pytest.approx(float(levels.mean()), rel=1e-4)

    def test_two_runs_give_the_same_bits_whatever_shares_the_batch(self) -> None:
        originals = torch.cat([picture(48, 48, top=20 * i) for i in range(3)])
        hidden = to_grid(Blur(4.0)(originals))
        attacker = IFGSMAttacker([Pixels()], max_iterations=5, step=APGDStep(), distortions=[JPEG(60), H264(25)])
        together = attacker(hidden, painted(originals))
        assert torch.equal(attacker(hidden, painted(originals)).images, together.images)
        for i in range(3):
            alone = attacker(hidden[i : i + 1], painted(originals[i : i + 1]))
            assert torch.equal(alone.images[0], together.images[i])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared media and weights")
def test_a_protected_face_survives_what_the_attack_was_told_of() -> None:
    originals = frames(T002[0], (0, 2))[..., 16:304, 104:392].contiguous()
    model = RetinaFace()
    truth = model.predict(originals)
    obfuscator = Pixelate(blocks=4)
    hidden, mask = to_grid(obfuscator(originals, truth)), obfuscator.mask(truth, *originals.shape[-2:])
    plain, told = (
        IFGSMAttacker([model], max_iterations=25, step=APGDStep(), distortions=channels)(
            hidden, truth, mask=mask
        ).images
        for channels in ((), [JPEG(15)])
    )

    def reading(images: Tensor, quality: int) -> Reading:
        return compare(truth, model.predict(torch.cat([pillow(image[None], quality) for image in images])))

    assert compare(truth, model.predict(plain)).found == 1
    assert reading(plain, 15).found < 1
    assert reading(told, 15).found == 1
    assert reading(told, 15).iou.mean() >= 0.85
