"""``CoSegmentationSwapper``: the source's look in the driver's pose, by co-part segmentation and first-order motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deidlib import weights
from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.images import check_image_shape, check_images
from deidlib.nets.bisenet import FACE_CLASSES, BiSeNet, FaceParser
from deidlib.nets.cosegmentation.checkpoint import build
from deidlib.nets.cosegmentation.part_swap import PartSwap, SwapSource
from deidlib.nets.cosegmentation.segmentation import PartSegmentation
from deidlib.nets.precision import full_precision
from deidlib.obfuscate import Obfuscator
from deidlib.swap.base import FaceSwapper, Patch

_SIDE = 256  # what the published nets were trained on

# What the paper's code calls by one word: its "hair" is the face with its hair.
_WORDS = {
    "face": FACE_CLASSES[1:16],
    "hair": (*FACE_CLASSES[1:16], "hair"),
    "all": FACE_CLASSES[1:],
}


class CoSegmentationSwapper(FaceSwapper):
    """Shows the source's face in the driver's pose and expression (Siarohin et al., arXiv 2004.03234).

    Each face is cut out as a square, resized to 256 x 256, swapped and put back: wholly over the face's box, fading
    to nothing at the edge of the fallback's region. Of all that, only the parts that ``net`` swaps look like the
    source; the rest is the driver, redrawn. To show more than the face (``"hair"``), give a fallback with a larger
    region, ``Pixelate(region=FaceRegion(1.8))``, and a margin to match.

    The weights are not free: CC BY-NC 4.0, and BiSeNet's were trained on pictures for non-commercial research. See
    :class:`~deidlib.swap.warp.WarpSwapper` for one that needs none.

    Faces that are too small, and those for which the nets give no finite numbers, are hidden by the fallback.

    Args:
        source: ``(3, H, W)`` or ``(1, 3, H, W)`` a picture with the face to show, RGB in [0, 1].
        source_faces: where that face is, as a detector finds it; ``None``: the picture is a square with the face in
            it already, as the nets want it.
        net: swaps square crops, on the device where its weights are; ``CropSwapper.load()`` if not given.
        margin: how much larger than the box's longer side the square is, as a share of it. The nets were trained on
            a tenth on either side of a box that held the face all through a clip.
        smallest: least length of a box's longer side in pixels; the greatest is twice that of the frame.
        batch_size: how many faces the net sees at once.
        fallback: see :class:`FaceSwapper`.

    Raises:
        ValueError: the source has no face, or more than one; it is no valid image, or not square.
        FileNotFoundError, CorruptWeights: as :meth:`CropSwapper.load`.

    Example:
        >>> from deidlib.nets.cosegmentation.dense_motion import DenseMotion
        >>> from deidlib.nets.cosegmentation.reconstruction import Generator
        >>> segmentation = PartSegmentation(3, (4, 8))  # untrained; net=None takes the published weights
        >>> net = CropSwapper(segmentation, PartSwap(Generator((4, 8, 8), 1), DenseMotion(3, (4, 8))), parts="all")
        >>> swapper = CoSegmentationSwapper(torch.rand(3, 64, 64), net=net)
        >>> faces = Faces(torch.tensor([[30., 20., 70., 70.]]), torch.ones(1))
        >>> image = torch.rand(1, 3, 90, 100)
        >>> changed = (swapper(image, [faces]) != image).any(dim=1)
        >>> changed[0, 45, 50], changed[0, 5, 5]
        (tensor(True), tensor(False))
    """

    def __init__(
        self,
        source: Tensor,
        *,
        source_faces: Faces | None = None,
        net: CropSwapper | None = None,
        margin: float = 0.2,
        smallest: float = 24.0,
        batch_size: int = 8,
        fallback: Obfuscator | None = None,
    ) -> None:
        super().__init__(fallback)
        if not margin >= 0:
            raise ValueError(f"margin must be >= 0, so that the whole face is in the square; got {margin}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        image = source[None] if source.ndim == 3 else source
        check_images(image, name="source")
        if len(image) != 1:
            raise ValueError(f"source must be one image (1, 3, H, W), got {len(image)}.")
        self.margin = margin
        self.smallest = smallest
        self.batch_size = batch_size
        square = _whole(image) if source_faces is None else self._only_face(image, source_faces)
        self.net = CropSwapper.load() if net is None else net
        self.source = self.net.source(self._to_net(_cut(image[0], square)[None]))

    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
        """The source in place of each face."""
        found: list[list[Patch | None]] = [[None] * len(known) for known in faces]
        places = self._places(faces, images.shape[-2], images.shape[-1])
        for start in range(0, len(places), self.batch_size):
            batch = places[start : start + self.batch_size]
            crops = torch.stack([_cut(images[place.frame], place.square) for place in batch])
            swapped = self.net(self.source, self._to_net(crops)).to(images)
            finite = swapped.flatten(1).isfinite().all(dim=1).tolist()
            for place, crop, good in zip(batch, swapped, finite, strict=True):
                if good:
                    found[place.frame][place.face] = _patch(crop, place)
        return found

    def _places(self, faces: Sequence[Faces], height: int, width: int) -> list[_Place]:
        """The faces that can be swapped."""
        places = []
        for frame, known in enumerate(faces):
            for face, box in enumerate(known.boxes.tolist()):
                side = max(box[2] - box[0], box[3] - box[1])
                # A box of several frames' size is no face; nobody could hold what is in its square.
                if not self.smallest <= side <= 2 * max(height, width):
                    continue
                for bounds in self.fallback.region.rectangles(known[[face]], height, width):
                    square = _square(box, height, width, self.margin)
                    places.append(_Place(frame, face, box, square, Rectangle(*bounds)))
        return places

    def _only_face(self, image: Tensor, faces: Faces) -> Rectangle:
        if not len(faces):
            raise ValueError("no face was found in the source. Take a picture that shows one.")
        if len(faces) > 1:
            raise ValueError(f"the source shows {len(faces)} faces. Choose one: source_faces=faces[[0]].")
        height, width = image.shape[-2:]
        return _square(faces.boxes[0].tolist(), height, width, self.margin)

    def _to_net(self, crops: Tensor) -> Tensor:
        """Crops on the net's device, in its type."""
        return crops.to(next(self.net.parameters()))


class _Place(NamedTuple):
    """Where a face is: number of the frame, of the face in it, its box, its square, and what may be changed."""

    frame: int
    face: int
    box: list[float]
    square: Rectangle
    bounds: Rectangle


class SourceFace(NamedTuple):
    """A source with all that is computed of it once.

    Args:
        look: for the part swap net.
        mask: ``(1, 1, h, w)`` which of its pixels to swap in; ``None`` if the targets say that.
    """

    look: SwapSource
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

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Mapping[str, Any] = "cosegmentation_vox_first_order",
        parser: str | Path | Callable[[Tensor], Tensor] | None = "bisenet",
        *,
        parts: str | Sequence[str] | Sequence[int] = "face",
        mask_from: Literal["source", "target", "both"] = "source",
        hard: bool = False,
        first_order: bool | None = None,
        align_corners: bool = True,
    ) -> Self:
        """The nets with published weights.

        Args:
            checkpoint: a name in :mod:`deidlib.weights.store`, a file, or what is in one; of either layout, see
                :func:`~deidlib.nets.cosegmentation.checkpoint.build`. The first-order one, the default, cannot tell
                parts by itself and needs a parser.
            parser: weights of :class:`BiSeNet`, by name or file; or a function from images to probabilities; or
                ``None``.
            parts: see :class:`CropSwapper`.
            mask_from: likewise.
            hard: likewise.
            first_order: whether parts move as a dense motion net says; if the checkpoint has one, by default.
            align_corners: how pictures are sampled. The published weights were trained with ``True``, which
                torch 1.0 always did; their own code gets ``False`` from any torch since 1.3.

        Raises:
            WeightsNotFound: the weights cannot be had; the message says where to put what.
            CorruptWeights: a file is no such checkpoint.
            ValueError: the checkpoint cannot do what is asked for.
        """
        content = checkpoint if isinstance(checkpoint, Mapping) else weights.load(checkpoint)
        if not isinstance(content, Mapping):
            raise weights.CorruptWeights(f"{checkpoint} holds a {type(content).__name__}, and no nets by name.")
        nets = build(content, first_order=first_order, align_corners=align_corners)
        if isinstance(parser, str | Path):
            net = BiSeNet()
            weights.fill(net, weights.load_state(parser), parser)
            parser = FaceParser(net)
        return cls(*nets, parser, parts=parts, mask_from=mask_from, hard=hard)

    @full_precision()
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

    @full_precision()
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


# --- squares ----------------------------------------------------------------------------------------------


def _square(box: Sequence[float], height: int, width: int, margin: float) -> Rectangle:
    """The square around a box, moved into the frame as far as it fits there; whole pixels."""
    left, top, right, bottom = box
    side = math.ceil(max(right - left, bottom - top) * (1 + margin)) + 1  # one more for a box between pixels
    x = _moved_inside(math.floor((left + right - side) / 2), side, width)
    y = _moved_inside(math.floor((top + bottom - side) / 2), side, height)
    return Rectangle(x, y, x + side, y + side)


def _moved_inside(start: int, side: int, length: int) -> int:
    if side > length:
        return (length - side) // 2  # as much beyond one border as beyond the other
    return min(max(start, 0), length - side)


def _whole(image: Tensor) -> Rectangle:
    height, width = image.shape[-2:]
    if height != width:
        raise ValueError(
            f"a source without faces must be a square crop of one face, got {height} x {width}. "
            "Say where the face is: source_faces=detector.predict(source)[0]."
        )
    return Rectangle(0, 0, width, height)


def _cut(image: Tensor, square: Rectangle) -> Tensor:
    """``(3, 256, 256)`` what is in the square; beyond the frame its border goes on."""
    rows = torch.arange(square.top, square.bottom, device=image.device).clamp(0, image.shape[-2] - 1)
    columns = torch.arange(square.left, square.right, device=image.device).clamp(0, image.shape[-1] - 1)
    return _resized(image[:, rows][:, :, columns], _SIDE)


def _patch(crop: Tensor, place: _Place) -> Patch:
    """A swapped crop at its place: all of it over the box, less and less of it towards the bounds."""
    square, bounds = place.square, place.bounds
    left, top, right, bottom = place.box
    inside = Rectangle(
        max(square.left, bounds.left),
        max(square.top, bounds.top),
        min(square.right, bounds.right),
        min(square.bottom, bounds.bottom),
    )
    pixels = _resized(crop, square.right - square.left)
    rows = slice(inside.top - square.top, inside.bottom - square.top)
    columns = slice(inside.left - square.left, inside.right - square.left)
    down = _ramps(inside.top, inside.bottom, math.floor(top), math.ceil(bottom), crop)
    across = _ramps(inside.left, inside.right, math.floor(left), math.ceil(right), crop)
    return Patch(inside, pixels[:, rows, columns], down[:, None] * across)


def _ramps(start: int, end: int, first: int, last: int, like: Tensor) -> Tensor:
    """For each pixel from ``start`` to ``end``: 1 from ``first`` to ``last``, falling to 0 on either side."""
    position = torch.arange(start, end, device=like.device, dtype=like.dtype) + 0.5
    rising = (position - start) / max(first - start, 0.5)
    falling = (end - position) / max(end - last, 0.5)
    return torch.minimum(rising, falling).clamp(0, 1)


def _resized(image: Tensor, side: int) -> Tensor:
    resized = interpolate(image[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return resized[0].clamp(0, 1)
