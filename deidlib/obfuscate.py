"""Obfuscators hide faces: a solid colour, pixelation, blur. Any ``(images, faces) -> images`` may stand in for them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Protocol, final

import torch
from torch import Tensor

from deidlib.faces import Faces, check_per_frame
from deidlib.geometry.boxes import Rectangle, expand, outwards
from deidlib.geometry.region import FaceRegion
from deidlib.images import check_image_shape, check_images, sum_in_order, widest


class Concealment(Protocol):
    """Whatever hides faces: every :class:`Obfuscator`, every face swapper, or an object of yours.

    In a clip it is given smoothed boxes in the place of the faces found, unless it says ``follows_face = True``: a
    cover that trembled with the detector's box would show, from frame to frame, more than one frame does. What draws a
    face where the face is, as a swapper does, follows the face itself.

    It is taken to carry something of the face into what it shows, unless it says ``takes_from_face = False``, as
    :class:`Solid` does: see :func:`takes_from_face`.
    """

    def __call__(self, images: Tensor, faces: Sequence[Faces]) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] with the faces hidden; pixels outside :meth:`mask` are the input's."""
        ...

    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        """``(B, 1, H, W)`` in [0, 1]: where faces are hidden."""
        ...

    def hide_frame(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] with every pixel hidden."""
        ...


@dataclass(frozen=True)
class Obfuscator(ABC):
    """Hides the faces of a batch, and nothing else. Subclasses say only what fills the place of a face.

    Args:
        region: which pixels belong to a face.

    Example:
        >>> class Noise(Obfuscator):
        ...     def fill(self, image, inside, face):
        ...         return torch.rand_like(image[:, inside.top : inside.bottom, inside.left : inside.right])
        >>> faces = Faces(boxes=torch.tensor([[2., 2., 7., 7.]]), scores=torch.ones(1))
        >>> Noise()(torch.zeros(1, 3, 9, 9), [faces])[0, 0].ne(0).sum()
        tensor(49)
    """

    takes_from_face: ClassVar[bool] = True
    """Whether what is shown depends on the pixels of the face. Say False only of a fill that does not look at them."""

    region: FaceRegion = field(default=FaceRegion(), kw_only=True)

    @abstractmethod
    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """What to show in place of one face.

        Args:
            image: ``(3, H, W)`` the original frame; not to be modified.
            inside: the pixels to fill, within the frame: the bounding rectangle of the face's region,
                feather included.
            face: the face's region without feather, *not* cut at the frame. How coarse a fill is belongs
                to this one, so that half a face is hidden as well as a whole one.

        Returns:
            ``(3, bottom - top, right - left)`` of ``inside``, or a shape that broadcasts to it.
        """

    @final
    def __call__(self, images: Tensor, faces: Sequence[Faces]) -> Tensor:
        """Hide the faces.

        Where regions overlap, the later face's fill lies on top; every fill is computed from the original,
        and no original pixel shows through.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1]; not modified.
            faces: one :class:`Faces` per frame.

        Returns:
            ``(B, 3, H, W)`` in [0, 1]; pixels outside the regions are the input's, bit for bit.

        Raises:
            TypeError: images are not a float tensor.
            ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
        """
        check_images(images)
        check_per_frame(faces, images)
        height, width = images.shape[2:]
        out = images.clone()
        for frame, (image, known) in enumerate(zip(images, faces, strict=True)):
            for inside, cover, corner in self._places(known, height, width):
                rows, columns = slice(inside.top, inside.bottom), slice(inside.left, inside.right)
                share = cover.to(images)
                shown = self.fill(image, inside, corner).clamp(0, 1)
                # This form of the blend is exact at both ends: share 0 keeps the pixel, share 1 keeps nothing of it.
                out[frame, :, rows, columns] = out[frame, :, rows, columns] * (1 - share) + shown * share
        return out

    def _places(self, faces: Faces, height: int, width: int) -> Iterator[tuple[Rectangle, Tensor, Rectangle]]:
        """Per face in the frame: the pixels to fill, how much each is filled, and the face's region, not cut."""
        boxes = expand(faces.boxes, self.region.factor)
        corners = outwards(boxes).long().tolist()
        for face, corner in enumerate(corners):
            for window, cover in self.region.patches(faces[face : face + 1], height, width):
                inside = _bounds(cover)
                if inside is not None:
                    share = cover[inside.top : inside.bottom, inside.left : inside.right]
                    x, y = window.left, window.top
                    place = Rectangle(inside.left + x, inside.top + y, inside.right + x, inside.bottom + y)
                    yield place, share, Rectangle(*corner)

    @final
    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        """Where faces are hidden.

        Returns:
            ``(B, 1, H, W)`` in [0, 1], as :meth:`FaceRegion.mask`.
        """
        return self.region.mask(faces, height, width)

    @final
    def hide_frame(self, images: Tensor) -> Tensor:
        """Hide whole frames, every pixel of them, as if each were one face: for when the faces' places are unknown.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1]; not modified.

        Example:
            >>> Pixelate(blocks=2).hide_frame(torch.eye(4).expand(1, 3, 4, 4))[0, 0]
            tensor([[0.5000, 0.5000, 0.0000, 0.0000],
                    [0.5000, 0.5000, 0.0000, 0.0000],
                    [0.0000, 0.0000, 0.5000, 0.5000],
                    [0.0000, 0.0000, 0.5000, 0.5000]])
        """
        check_image_shape(images)
        height, width = images.shape[2:]
        frame = Faces(images.new_tensor([[0, 0, width, height]]), images.new_ones(1))
        # The user's own region may be an ellipse, which leaves the corners open.
        return replace(self, region=FaceRegion(factor=1.0))(images, [frame] * len(images))


@dataclass(frozen=True)
class Pixelate(Obfuscator):
    """Mosaic: every pixel of a cell becomes the mean of the cell's original pixels.

    The cells partition the region's rectangle; a cell that the frame cuts off is the mean of what is left of it.

    **Of a clip, this is no protection.** Each frame shows some sums over the face, and the face moves against the
    cells: over enough frames the sums say what it looks like (docs/privacy.md). It is here to be compared with the
    paper, which hides so. :class:`Solid` takes nothing from the face.

    Args:
        blocks: cells across the width of the region; as many down its height as make them nearly square.
            A region too small for that gets fewer, since a cell of one pixel hides nothing.
        region: which pixels belong to a face.

    Raises:
        ValueError: blocks is not a whole number >= 1.

    Example:
        >>> faces = Faces(boxes=torch.tensor([[0., 0., 4., 2.]]), scores=torch.ones(1))
        >>> hide = Pixelate(blocks=2, region=FaceRegion(factor=1.0))
        >>> hide(torch.arange(8.).div(8).reshape(2, 4).expand(1, 3, 2, 4), [faces])[0, 0]
        tensor([[0.3125, 0.3125, 0.5625, 0.5625],
                [0.3125, 0.3125, 0.5625, 0.5625]])
    """

    blocks: int = 4

    def __post_init__(self) -> None:
        if not (isinstance(self.blocks, int) and self.blocks >= 1):
            raise ValueError(f"blocks must be a whole number >= 1, got {self.blocks!r}.")

    def cells(self, inside: Rectangle, face: Rectangle) -> tuple[list[int], list[int]]:
        """The widths and the heights, in pixels, of the cells that ``inside`` is cut into; as for :meth:`fill`.

        Example:
            >>> Pixelate(blocks=4).cells(Rectangle(0, 0, 10, 8), Rectangle(0, 0, 10, 8))
            ([3, 2, 3, 2], [3, 2, 3])
        """
        width, height = face.right - face.left, face.bottom - face.top
        columns = _cell_count(self.blocks, width)
        rows = _cell_count(round(columns * height / max(width, 1)), height)
        return (
            _cell_sizes(face.left, face.right, columns, inside.left, inside.right),
            _cell_sizes(face.top, face.bottom, rows, inside.top, inside.bottom),
        )

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """Means of the cells."""
        x, y = self.cells(inside, face)
        patch = image[:, inside.top : inside.bottom, inside.left : inside.right]
        # Cells differ by a pixel, so this is no reshape.
        strips = [sum_in_order(_wide(strip).movedim(1, 0)) for strip in torch.split(patch, y, dim=1)]
        cells = [sum_in_order(strip.movedim(2, 0)) for strip in torch.split(torch.stack(strips), x, dim=2)]
        down, across = torch.tensor(y, device=image.device), torch.tensor(x, device=image.device)
        means = (torch.stack(cells).permute(2, 1, 0) / torch.outer(down, across)).to(image.dtype)
        return means.repeat_interleave(down, dim=1).repeat_interleave(across, dim=2)


@dataclass(frozen=True)
class GaussianBlur(Obfuscator):
    """Gaussian blur of the frame, shown in the region. The weights are renormalised at the frame's border.

    A blur is a linear filter and can in part be undone, from one frame already, and better from a clip; pixelation
    loses more. It is here for comparison. :class:`Solid` takes nothing from the face.

    Args:
        sigma: standard deviation as a share of the region's width, so that big and small faces are
            equally hidden; never below one pixel.
        region: which pixels belong to a face.

    Raises:
        ValueError: sigma is not positive and finite.

    Example:
        >>> faces = Faces(boxes=torch.tensor([[4., 4., 12., 12.]]), scores=torch.ones(1))
        >>> GaussianBlur(sigma=0.2)(torch.full((1, 3, 16, 16), 0.5), [faces]).sub(0.5).abs().max() < 1e-6
        tensor(True)
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma must be a positive share of the region's width, got {self.sigma}.")

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """The blurred frame, cut off at 4 sigma."""
        sigma = max(1.0, self.sigma * (face.right - face.left))
        reach = math.ceil(4 * sigma)

        bell = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(reach + 1)]
        source = _wide(_surroundings(image, inside, reach))
        height, width = image.shape[1:]
        across = _shares(inside.left, inside.right, width, bell, source)
        down = _shares(inside.top, inside.bottom, height, bell, source)
        # Whole numbers, and sums of them below 2 ** 53: float64 holds them all, so that the order of a matrix product's
        # sums does not matter. Frames in float64 are for checks of the gradient, which rounding would spoil.
        whole = _whole if image.dtype == torch.float32 else torch.clone
        levels = whole(down @ whole(source * 2**24) / down.sum(dim=1, keepdim=True))
        return (levels @ across.T / (across.sum(dim=1) * 2**24)).to(image.dtype)


@dataclass(frozen=True)
class Solid(Obfuscator):
    """One colour: nothing of the face is left, not even its brightness. This is the default everywhere.

    What is shown depends on where the face is, and not on how it looks; with an attack that never sees the face either,
    so does the protected file (docs/privacy.md).

    Args:
        color: red, green, blue in [0, 1]. The default is the middle of the 256 levels, so that a perturbation can
            brighten and darken as far: on black it can only brighten, and RetinaFace, MTCNN and gaze take more steps.
        region: which pixels belong to a face.

    Raises:
        ValueError: color is not three numbers in [0, 1].

    Example:
        >>> faces = Faces(boxes=torch.tensor([[1., 0., 2., 1.]]), scores=torch.ones(1))
        >>> Solid((1.0, 0.5, 0.0), region=FaceRegion(factor=1.0))(torch.zeros(1, 3, 1, 3), [faces])[0, :, 0]
        tensor([[0.0000, 1.0000, 0.0000],
                [0.0000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """

    takes_from_face: ClassVar[bool] = False

    color: tuple[float, float, float] = (128 / 255, 128 / 255, 128 / 255)

    def __post_init__(self) -> None:
        if len(self.color) != 3 or not all(0 <= part <= 1 for part in self.color):
            raise ValueError(f"color must be (red, green, blue) in [0, 1], got {self.color}. Divide 0..255 by 255.")

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """The colour."""
        return image.new_tensor(self.color)[:, None, None]


def takes_from_face(concealment: Concealment) -> bool:
    """Whether what a way of hiding shows may depend on the pixels of the face: yes, unless it says that it does not.

    Example:
        >>> takes_from_face(Solid()), takes_from_face(Pixelate())
        (False, True)
    """
    return bool(getattr(concealment, "takes_from_face", True))


def _bounds(cover: Tensor) -> Rectangle | None:
    """The rectangle around all pixels of ``cover`` ``(H, W)`` that are not 0."""
    touched = cover > 0
    x, y = touched.any(dim=0).nonzero().flatten().tolist(), touched.any(dim=1).nonzero().flatten().tolist()
    return Rectangle(x[0], y[0], x[-1] + 1, y[-1] + 1) if x else None


def _cell_count(wanted: int, pixels: int) -> int:
    """At most ``wanted`` cells along a side, each of two pixels at least, and always one."""
    return max(1, min(wanted, pixels // 2))


def _cell_sizes(start: int, stop: int, count: int, low: int, high: int) -> list[int]:
    """Pixels of each cell when [start, stop) has ``count`` cells and the pattern goes on to fill [low, high)."""
    step = max(stop - start, 1) / count
    first, last = math.floor((low - start) / step), math.ceil((high - start) / step)
    edges = [min(max(math.floor(start + step * k + 0.5), low), high) for k in range(first, last + 1)]
    return [b - a for a, b in pairwise(edges) if b > a]


def _whole(values: Tensor) -> Tensor:
    """Rounded to whole numbers going forward, the gradient of the values going back."""
    return values + (values.round() - values).detach()


def _wide(values: Tensor) -> Tensor:
    """Values in float64, in which sums of equal float32 values are exact, so that a second pass changes nothing.

    MPS has no float64: there they stay as they are.
    """
    return values.to(widest(values.device))


def _surroundings(image: Tensor, inside: Rectangle, reach: int) -> Tensor:
    """The part of the frame within ``reach`` of ``inside``: what a filter needs to fill it."""
    return image[
        :, max(0, inside.top - reach) : inside.bottom + reach, max(0, inside.left - reach) : inside.right + reach
    ]


def _shares(start: int, stop: int, length: int, bell: Sequence[float], like: Tensor) -> Tensor:
    """How much each pixel within reach counts for those from ``start`` to ``stop``: whole numbers, 2 ** 28 in all."""
    reach = len(bell) - 1
    unit = 2**28 / (bell[0] + 2 * math.fsum(bell[1:]))
    # One beyond the reach for all that lies further away.
    table = like.new_tensor([*(round(weight * unit) for weight in bell), 0])
    wanted = torch.arange(start, stop, device=like.device)[:, None]
    there = torch.arange(max(0, start - reach), min(length, stop + reach), device=like.device)
    return table[(wanted - there).abs().clamp(max=reach + 1)]
