"""Obfuscators hide faces: pixelation, blur, a solid colour. Any ``(images, faces) -> images`` may stand in for them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from deidlib.faces import Faces, check_per_frame
from deidlib.geometry.boxes import expand
from deidlib.geometry.region import FaceRegion
from deidlib.images import check_image_shape, check_images


class Rectangle(NamedTuple):
    """Whole pixels: columns ``left`` to ``right`` and rows ``top`` to ``bottom``, the last ones exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class Concealment(Protocol):
    """Whatever hides faces: every :class:`Obfuscator`, every face swapper, or an object of yours.

    In a clip it is given smoothed boxes in the place of the faces found, unless it says ``follows_face = True``: a
    cover that trembled with the detector's box would show, from frame to frame, more than one frame does. What draws a
    face where the face is, as a swapper does, follows the face itself.
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
            covers = self.region.cover(known, height, width).to(images)
            boxes = expand(known.boxes, self.region.factor)
            corners = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).long().tolist()
            for cover, corner in zip(covers, corners, strict=True):
                inside = _bounds(cover)
                if inside is None:
                    continue
                rows, columns = slice(inside.top, inside.bottom), slice(inside.left, inside.right)
                share = cover[rows, columns]
                shown = self.fill(image, inside, Rectangle(*corner)).clamp(0, 1)
                # This form of the blend is exact at both ends: share 0 keeps the pixel, share 1 keeps nothing of it.
                out[frame, :, rows, columns] = out[frame, :, rows, columns] * (1 - share) + shown * share
        return out

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

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """Means of the cells."""
        width, height = face.right - face.left, face.bottom - face.top
        columns = _cell_count(self.blocks, width)
        rows = _cell_count(round(columns * height / max(width, 1)), height)
        x = _cell_sizes(face.left, face.right, columns, inside.left, inside.right)
        y = _cell_sizes(face.top, face.bottom, rows, inside.top, inside.bottom)
        # In float64 the sum of equal float32 values is exact: a second pass changes nothing. (MPS has no float64.)
        wide = image.dtype if image.device.type == "mps" else torch.float64
        patch = image[:, inside.top : inside.bottom, inside.left : inside.right].to(wide)
        across, down = _membership(x, patch), _membership(y, patch)
        area = torch.outer(down.sum(dim=1), across.sum(dim=1))
        means = (down @ patch @ across.T / area).to(image.dtype)
        return means[:, down.argmax(dim=0)][:, :, across.argmax(dim=0)]


@dataclass(frozen=True)
class GaussianBlur(Obfuscator):
    """Gaussian blur of the frame, shown in the region. The weights are renormalised at the frame's border.

    A blur is a linear filter and can in part be undone; pixelation loses more.

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

        def weights(distance: Tensor) -> Tensor:
            return _normalised(torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= reach))

        source, x, y = _surroundings(image, inside, reach)
        return weights(y) @ source @ weights(x).T


@dataclass(frozen=True)
class BoxBlur(Obfuscator):
    """Moving mean of the frame over a square window, shown in the region. Only pixels within the frame count.

    Args:
        size: side of the window as a share of the region's width; rounded to an odd number of pixels, at least 3.
        region: which pixels belong to a face.

    Raises:
        ValueError: size is not positive and finite.

    Example:
        >>> faces = Faces(boxes=torch.tensor([[0., 0., 1., 3.]]), scores=torch.ones(1))
        >>> hide = BoxBlur(region=FaceRegion(factor=1.0))
        >>> hide(torch.eye(3).expand(1, 3, 3, 3), [faces])[0, 0]
        tensor([[0.5000, 0.0000, 0.0000],
                [0.3333, 1.0000, 0.0000],
                [0.2500, 0.0000, 1.0000]])
    """

    size: float = 0.25

    def __post_init__(self) -> None:
        if not (self.size > 0 and math.isfinite(self.size)):
            raise ValueError(f"size must be a positive share of the region's width, got {self.size}.")

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """The frame's moving mean."""
        reach = max(1, round((self.size * (face.right - face.left) - 1) / 2))
        source, x, y = _surroundings(image, inside, reach)
        across, down = (_normalised((distance.abs() <= reach).to(image.dtype)) for distance in (x, y))
        return down @ source @ across.T


@dataclass(frozen=True)
class Solid(Obfuscator):
    """One colour: nothing of the face is left, not even its brightness.

    Args:
        color: red, green, blue in [0, 1].
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

    color: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.color) != 3 or not all(0 <= part <= 1 for part in self.color):
            raise ValueError(f"color must be (red, green, blue) in [0, 1], got {self.color}. Divide 0..255 by 255.")

    def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
        """The colour."""
        return image.new_tensor(self.color)[:, None, None]


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


def _membership(sizes: list[int], like: Tensor) -> Tensor:
    """``(cells, pixels)``: 1 where the pixel belongs to the cell."""
    counts = torch.tensor(sizes, device=like.device)
    cells = torch.arange(len(sizes), device=like.device)
    return (cells[:, None] == cells.repeat_interleave(counts)).to(like.dtype)


def _surroundings(image: Tensor, inside: Rectangle, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a filter of that reach needs to fill ``inside``.

    Returns:
        The part of the frame within reach ``(3, h', w')``, and how far its columns lie from the columns to fill
        ``(w, w')`` and its rows from the rows to fill ``(h, h')``, in pixels.
    """
    height, width = image.shape[1:]
    top, bottom = max(0, inside.top - reach), min(height, inside.bottom + reach)
    left, right = max(0, inside.left - reach), min(width, inside.right + reach)

    def positions(start: int, stop: int) -> Tensor:
        return torch.arange(start, stop, device=image.device, dtype=image.dtype)

    x = positions(inside.left, inside.right)[:, None] - positions(left, right)
    y = positions(inside.top, inside.bottom)[:, None] - positions(top, bottom)
    return image[:, top:bottom, left:right], x, y


def _normalised(weights: Tensor) -> Tensor:
    """Rows that sum to 1: what lies beyond the frame has no weight, and no brightness is lost."""
    return weights / weights.sum(dim=1, keepdim=True)
