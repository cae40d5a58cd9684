"""``CoSegmentationSwapper``: the source's look in the driver's pose, by co-part segmentation and first-order motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from deidlib.images import check_image_shape, check_images
from deidlib.nets.bisenet import FACE_CLASSES
from deidlib.nets.cosegmentation.part_swap import PartSwap, Source
from deidlib.nets.cosegmentation.segmentation import PartSegmentation

# What the paper's code calls by one word: its "hair" is the face with its hair.
_WORDS = {
    "face": FACE_CLASSES[1:16],
    "hair": (*FACE_CLASSES[1:16], "hair"),
    "all": FACE_CLASSES[1:],
}


class SourceFace(NamedTuple):
    """A source with all that is computed of it once.

    Args:
        look: for the part swap net.
        mask: ``(1, 1, h, w)`` which of its pixels to swap in; ``None`` if the targets say that.
    """

    look: Source
    mask: Tensor | None


class CropSwapper(nn.Module):
    """Swaps parts of faces in square crops: the core of :class:`CoSegmentationSwapper`, without any placing.

    Per frame: a crop's result does not depend on the crops beside it. The nets are frozen for ever.

    Args:
        segmentation: finds parts and how they moved.
        swap: puts the source's features where they belong, and decodes.
        parser: from images ``(B, 3, H, W)`` in [0, 1] to probabilities ``(B, 19, h, w)`` of the face classes, such
            as :class:`FaceParser`; ``None``: parts are the segmentation's own, by number.
        parts: with a parser ``"face"`` (skin, brows, eyes, ears, nose, mouth, neck, and what is worn there),
            ``"hair"`` (those and the hair), ``"all"`` (everything but the background), or names among
            :data:`FACE_CLASSES`; without one ``"all"``, or numbers of segments, from 1. Only what is named is
            swapped: the rest of the face stays the driver's.
        mask_from: whose pixels say where the parts are: the ``"source"``, moved as its features are, the
            ``"target"``, or ``"both"``, the larger share of the two. With ``"source"``, as the paper's code has it,
            what of the driver's face lies outside of the source's, once moved, stays as it is.
        hard: whether a pixel is swapped wholly or not at all, from a share of more than one half; shares otherwise.

    Raises:
        ValueError: parts that do not exist, or none; a segmentation that cannot tell them.
    """

    def __init__(
        self,
        segmentation: PartSegmentation,
        swap: PartSwap,
        parser: Callable[[Tensor], Tensor] | None = None,
        *,
        parts: str | Sequence[str] | Sequence[int] = "face",
        mask_from: Literal["source", "target", "both"] = "source",
        hard: bool = False,
    ) -> None:
        super().__init__()
        if mask_from not in ("source", "target", "both"):
            raise ValueError(f"mask_from must be 'source', 'target' or 'both', got {mask_from!r}.")
        if parser is None and segmentation.segmentation is None:
            raise ValueError(
                "this checkpoint has key points but no segmentation head, so it cannot tell parts: give a parser."
            )
        self.channels = (
            _segment_channels(parts, segmentation.shift.out_channels) if parser is None else _class_channels(parts)
        )
        self.segmentation = segmentation
        self.swap = swap
        self.parser = parser
        self.mask_from = mask_from
        self.hard = hard
        self.multiple = math.lcm(segmentation.multiple, swap.multiple)
        # Channels last: a sixth less time.
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def source(self, image: Tensor) -> SourceFace:
        """All that is to be known of a source.

        Args:
            image: ``(1, 3, H, W)`` a crop of one face, RGB in [0, 1]; the nets were trained on 256 x 256.

        Raises:
            TypeError, ValueError: no valid image, not one image, or of a size that the nets cannot take.
        """
        check_images(image, name="image")
        if len(image) != 1:
            raise ValueError(f"a source is one image, got {len(image)}.")
        self._check_size(image)
        parts = self.segmentation(image)
        mask = None if self.mask_from == "target" else self._mask(image, parts.masks)
        return SourceFace(self.swap.source(image, parts), mask)

    @torch.no_grad()
    def forward(self, source: SourceFace, crops: Tensor) -> Tensor:
        """Put the source's parts onto faces.

        Args:
            source: from :meth:`source`.
            crops: ``(B, 3, H, W)`` crops of one face each, RGB in [0, 1], as large as the source's.

        Returns:
            ``(B, 3, H, W)`` in [0, 1]. All of a crop is decoded anew, also where nothing was swapped.

        Raises:
            TypeError, ValueError: no valid images, or not of the source's size.
        """
        check_image_shape(crops, name="crops")
        if crops.shape[-2:] != source.look.image.shape[-2:]:
            raise ValueError(
                f"crops must be as large as the source's, {tuple(source.look.image.shape[-2:])}, "
                f"got {tuple(crops.shape[-2:])}. Resize them."
            )
        parts = self.segmentation(crops)
        mask = None if self.mask_from == "source" else self._mask(crops, parts.masks)
        swapped: Tensor = self.swap(source.look, crops, parts, source_mask=source.mask, target_mask=mask)
        return swapped

    def _mask(self, images: Tensor, segments: Tensor | None) -> Tensor:
        shares = segments if self.parser is None else self.parser(images)
        assert shares is not None  # the constructor saw to it
        mask = shares[:, self.channels].sum(dim=1, keepdim=True)
        return (mask > 0.5).to(mask.dtype) if self.hard else mask

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"height and width must be divisible by {self.multiple} for these nets, got {height} x {width}. "
                "They were trained on 256 x 256: resize to that."
            )


def _class_channels(parts: str | Sequence[str] | Sequence[int]) -> list[int]:
    """Channels of the face classes that are meant."""
    names = _WORDS.get(parts, ()) if isinstance(parts, str) else tuple(parts)
    unknown = [name for name in names if name not in FACE_CLASSES]
    if unknown or not names:
        raise ValueError(
            f"parts must be {', '.join(map(repr, _WORDS))}, or a list of names among {', '.join(FACE_CLASSES)}; "
            f"got {parts!r}."
        )
    return [FACE_CLASSES.index(str(name)) for name in names]


def _segment_channels(parts: str | Sequence[str] | Sequence[int], count: int) -> list[int]:
    """Channels of the segments that are meant; the background is channel 0."""
    numbers = range(1, count + 1) if parts == "all" else () if isinstance(parts, str) else parts
    channels = [number for number in numbers if isinstance(number, int) and 1 <= number <= count]
    if len(channels) < len(numbers) or not channels:
        raise ValueError(
            f"without a parser parts must be 'all', or a list of numbers from 1 to {count}; got {parts!r}."
        )
    return channels
