from __future__ import annotations

import math
import pickle

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.metrics import LPIPS, ImageQuality, flicker, psnr, ssim

TIGHT = FaceRegion(factor=1.0)


def at(*box: float) -> Faces:
    return Faces(torch.tensor([box], dtype=torch.float32), torch.ones(1))


def mask_of(frames: int, height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    mask = torch.zeros(frames, 1, height, width)
    mask[..., box[1] : box[3], box[0] : box[2]] = 1
    return mask


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(6, 40), st.integers(6, 40), st.integers(0, 10**6))
def test_psnr_and_ssim_are_torchmetrics(frames: int, height: int, width: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(frames, 3, height, width, generator=g)
    b = (a + torch.randn(a.shape, generator=g) * 0.1).clamp(0, 1)
    for row, (x, y) in enumerate(zip(a, b, strict=True)):
        expected = peak_signal_noise_ratio(x, y, data_range=1.0)
        assert psnr(a, b)[row].item() == pytest.approx(expected.item(), rel=1e-5)
        similarity = structural_similarity_index_measure(x[None], y[None], data_range=1.0)
        assert isinstance(similarity, Tensor)
        assert ssim(a, b)[row].item() == pytest.approx(similarity.item(), abs=1e-5)
    assert torch.equal(psnr(a, b), psnr(b, a))
    assert torch.allclose(ssim(a, b), ssim(b, a), atol=1e-6)


def test_ssim_is_skimages() -> None:
    a = torch.rand(1, 3, 40, 50, dtype=torch.float64)
    b = (a + torch.randn_like(a) * 0.2).clamp(0, 1)
    _, full = structural_similarity(
        a[0].numpy(), b[0].numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    # The two treat the border of the image differently.
    mask = mask_of(1, 40, 50, (5, 5, 45, 35))
    assert ssim(a, b, mask).item() == pytest.approx(full[:, 5:35, 5:45].mean(), abs=1e-6)


def test_psnr_by_hand() -> None:
    a, b = torch.zeros(3, 3, 8, 8), torch.zeros(3, 3, 8, 8)
    b[0] = 0.1
    b[1, :, :4, :4] = 1.0
    mask = mask_of(3, 8, 8, (0, 0, 4, 8))
    assert psnr(a, b).tolist() == pytest.approx([20.0, 10 * math.log10(4), math.inf])
    assert psnr(a, b, mask).tolist() == pytest.approx([20.0, 10 * math.log10(2), math.inf])
    assert psnr(a, b, 1 - mask).tolist() == pytest.approx([20.0, math.inf, math.inf])
    assert psnr(a, b, torch.zeros(3, 1, 8, 8)).isnan().all()


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_inside_and_outside_make_the_whole(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 3, 12, 16, generator=g), torch.rand(2, 3, 12, 16, generator=g)
    mask = mask_of(2, 12, 16, (3, 2, 9, 10))
    share = mask.mean()
    mse = share * 10 ** (-psnr(a, b, mask) / 10) + (1 - share) * 10 ** (-psnr(a, b, 1 - mask) / 10)
    assert torch.allclose(-10 * torch.log10(mse), psnr(a, b), rtol=1e-5)
    assert torch.allclose(share * ssim(a, b, mask) + (1 - share) * ssim(a, b, 1 - mask), ssim(a, b), atol=1e-6)


def test_flicker_by_hand() -> None:
    changes = torch.zeros(4, 3, 4, 4)
    changes[1] = 2 / 255
    changes[2, :, :2] = -1 / 255
    changes[2, :, 2:] = 2 / 255
    changes[3] = changes[2]
    assert torch.allclose(flicker(changes), torch.tensor([2.0, 1.5, 0.0]))
    top = torch.zeros(4, 1, 4, 4)
    top[2:, :, :2] = 1
    assert flicker(changes, top).nan_to_num(nan=-1).tolist() == pytest.approx([-1.0, 3.0, 0.0])
    assert flicker(changes[:1]).shape == (0,)


def test_identical_frames() -> None:
    images = torch.rand(3, 3, 20, 20)
    quality = ImageQuality(lpips=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    quality.update(images, images.clone(), [at(2, 2, 9, 9)] * 3)
    got = {name: value.item() for name, value in quality.compute().items()}
    for where in ("", "_inside", "_outside"):
        assert got["psnr" + where] == math.inf
        assert got["ssim" + where] == pytest.approx(1, abs=1e-4)
        assert got["lpips" + where] == 0
    assert got["flicker"] == got["flicker_inside"] == 0


def test_a_change_inside_leaves_the_outside_perfect() -> None:
    images = torch.rand(2, 3, 40, 40)
    protected = images.clone()
    protected[:, :, 10:20, 10:20] = 0.5
    quality = ImageQuality(TIGHT, lpips=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    quality.update(images, protected, [at(10, 10, 20, 20)] * 2)
    got = quality.compute()
    assert got["psnr_outside"] == math.inf
    # Windows that straddle the border would see the change.
    assert got["ssim_outside"].item() == pytest.approx(1, abs=1e-5)
    assert got["lpips_outside"] == 0
    assert got["lpips_inside"] == got["lpips"]
    assert got["psnr_inside"] < 15
    assert got["ssim_inside"] < 0.5


def test_a_frame_without_faces_has_no_inside() -> None:
    quality = ImageQuality()
    quality.update(torch.rand(1, 3, 9, 9), torch.rand(1, 3, 9, 9), [Faces.empty()])
    got = quality.compute()
    assert got["psnr_inside"].isnan()
    assert got["psnr_outside"] == got["psnr"]
    assert got["lpips"].isnan()


def test_batching_does_not_matter_and_flicker_goes_on() -> None:
    images, protected = torch.rand(5, 3, 12, 12), torch.rand(5, 3, 12, 12)
    faces = [at(i, 2, i + 5, 9) for i in range(5)]
    whole, parts, called = ImageQuality(), ImageQuality(), ImageQuality()
    whole.update(images, protected, faces)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        parts.update(images[start:end], protected[start:end], faces[start:end])
        called(images[start:end], protected[start:end], faces[start:end])
    for name, values in whole.per_frame().items():
        for other in (parts, called):
            assert torch.allclose(other.per_frame()[name], values, rtol=1e-4, equal_nan=True)
    masks = FaceRegion().mask(faces, 12, 12)
    assert torch.allclose(whole.per_frame()["flicker"][1:], flicker(protected - images))
    assert torch.allclose(whole.per_frame()["flicker_inside"][1:], flicker(protected - images, masks))
    assert whole.per_frame()["flicker"].isnan().tolist() == [True, False, False, False, False]


def test_another_size_or_a_reset_begins_another_video() -> None:
    quality = ImageQuality()
    quality.update(torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12), [Faces.empty()] * 2)
    quality.update(torch.rand(1, 3, 9, 12), torch.rand(1, 3, 9, 12), [Faces.empty()])
    assert quality.per_frame()["flicker"].isnan().tolist() == [True, False, True]
    twin = pickle.loads(pickle.dumps(quality))
    assert torch.equal(twin.per_frame()["psnr"], quality.per_frame()["psnr"])
    quality.reset()
    assert quality.per_frame()["psnr"].shape == (0,)
    quality.update(torch.rand(1, 3, 9, 12), torch.rand(1, 3, 9, 12), [Faces.empty()])
    assert quality.per_frame()["flicker"].isnan().tolist() == [True]


def test_it_says_what_is_wrong() -> None:
    images = torch.rand(1, 3, 9, 9)
    with pytest.raises(ValueError, match="both images must have one shape"):
        psnr(images, torch.rand(1, 3, 9, 8))
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 1, 9, 9\), got \(1, 9, 9\)"):
        ssim(images, images, torch.ones(1, 9, 9))
    with pytest.raises(ValueError, match="at least 6 x 6 pixels, got"):
        ssim(images[..., :5], images[..., :5])
    with pytest.raises(ValueError, match="1 frames, got 0 entries"):
        ImageQuality().update(images, images, [])
    with pytest.raises(ValueError, match="lie in"):
        psnr(images * 255, images)
    with pytest.raises(ValueError, match="flicker needs"):
        flicker(images, torch.ones(2, 1, 9, 9))


def test_lpips_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a random backbone in place of the downloaded one."""
    backbone = torchvision.models.alexnet(weights=None)
    monkeypatch.setattr(torchvision.models, "alexnet", lambda weights=None: backbone)
    lpips = LPIPS("alex")
    a, b = torch.rand(3, 3, 64, 64), torch.rand(3, 3, 64, 64)
    b[1] = a[1]
    together = lpips(a, b)
    assert together.shape == (3,)
    assert together[1] == 0
    assert (together[[0, 2]] > 0).all()
    for row in range(3):
        assert torch.allclose(lpips(a[row : row + 1], b[row : row + 1])[0], together[row], rtol=1e-4)
    quality = ImageQuality(lpips=lpips)
    quality.update(a, b, [at(8, 8, 40, 40)] * 3)
    assert torch.allclose(quality.per_frame()["lpips"], together, rtol=1e-4)
