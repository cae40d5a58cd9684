"""``WarpSwapper``: a face bent onto another by their landmarks. No weights, no training."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.geometry.boxes import Rectangle
from deidlib.images import check_images
from deidlib.models.base import FaceModel
from deidlib.obfuscate import Obfuscator
from deidlib.swap import outline
from deidlib.swap.base import FaceSwapper, Patch
from deidlib.swap.colour import match_colour
from deidlib.swap.landmarks import landmarks_of, read_landmarks
from deidlib.swap.lattice import Lattice, Pyramid
from deidlib.swap.shape import STRAIGHT, skewness
from deidlib.swap.tps import ThinPlate

Part = Literal["eyes", "mouth"]

# Shares of the face's width.
_MARGIN, _FEATHER, _LIGHT, _PART_FEATHER = 0.02, 0.07, 0.12, 0.06
# So much of the source's rim stays out, that nothing but skin comes in: beside its outline there is hair, and darkness.
_NARROW, _LOW = {68: 0.12, 5: 0.12}, 0.75
# The part of the forehead that is all of the source.
_FOREHEAD = 0.8
# Landmarks of two faces are never quite at the same places of them: the map need not meet them exactly.
_STIFFNESS = 1e-2
# Share of a face over which the map may fold: wrinkles of a lip, not a cheek.
_FOLDED = 0.02
# Why a face is not swapped: there is nothing to follow.
_UNKNOWN = "no landmarks of it are read"
# Pixels: the least width of a source.
_SMALL = 24.0
# A face that is covered in part is found with a lower score.
_SURE = 0.95


class WarpSwapper(FaceSwapper):
    """A source face bent onto every face by their landmarks, in the colours and the light that it finds there.

    A thin-plate spline takes the target's landmarks to the source's; what it reads there is given the target's mean
    colours, contrast and broad shadows in Lab, and fades out around the face. Pose, outline, eyelids and lips follow
    the target; nothing of the target's own pixels is left in the face, unless parts are kept.

    The landmarks are those that the faces come with, else what ``landmarks`` read; 68 points are preferred to five. A
    face is hidden by the fallback where nobody sees landmarks (at a place that is only held, say), where its box
    reaches the border or some landmarks lie outside of its region, where it is smaller than ``smallest``, and where
    the map would fold, since the head is turned too far from the source's pose.

    Args:
        source: the face to show: ``(1, 3, H, W)`` RGB in [0, 1], or an image file; best one that looks into the
            camera with its mouth closed. Of nobody: :func:`average_face`.
        landmarks: one model or several, each given what the one before has read: ``MTCNN()`` (five points),
            ``[RetinaFace(), FAN()]`` (68 points: eyelids and lips follow too).
        source_faces: where the source's face is, with landmarks if they are known; ``landmarks`` find it otherwise.
        which: number of the source's face, if there are several.
        keep: parts of the target to leave as they are: ``"eyes"`` (where it looks), ``"mouth"``. They identify.
        smallest: least width of a face in pixels.
        fallback: hides the faces that cannot be swapped; see :class:`FaceSwapper`.

    Raises:
        MediaReadError: the file cannot be read.
        TypeError: the source is no float tensor.
        ValueError: no face in the source, more than one with none chosen, or one without landmarks, cut off by
            the border, turned aside or narrower than 24 pixels; an unknown part.

    Example:
        >>> from deidlib.geometry.face_model import face_model
        >>> points = (face_model()[:, :2] * 300 + 32).float()[None]
        >>> faces = Faces(torch.tensor([[8., 14., 56., 58.]]), torch.ones(1), points)
        >>> swap = WarpSwapper(torch.rand(1, 3, 64, 64), source_faces=faces)
        >>> image = torch.rand(1, 3, 64, 64)
        >>> changed = (swap(image, [faces]) != image).any(dim=1)
        >>> changed[0, 32, 32], changed[0, 2, 2]
        (tensor(True), tensor(False))
    """

    def __init__(
        self,
        source: Tensor | str | Path,
        landmarks: FaceModel | Sequence[FaceModel] = (),
        *,
        source_faces: Faces | None = None,
        which: int | None = None,
        keep: Collection[Part] = (),
        smallest: float = 16.0,
        fallback: Obfuscator | None = None,
    ) -> None:
        super().__init__(fallback)
        unknown = set(keep) - {"eyes", "mouth"}
        if unknown:
            raise ValueError(f"keep may hold 'eyes' and 'mouth', got {sorted(unknown)}.")
        self.models = tuple(landmarks) if isinstance(landmarks, Sequence) else (landmarks,)
        self.keep = tuple(sorted(keep))
        self.smallest = smallest
        found = source_face(source, self.models, source_faces, which)
        self.source, self.source_landmarks, self.source_box, self.doubt = found
        self._pyramid = Pyramid(self.source)

    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | str]]:
        """The source, bent onto each face."""
        rows = landmarks_of(images, faces, self.models)
        return [
            [_UNKNOWN if points is None else self._patch(image, points, known[[i]]) for i, points in enumerate(row)]
            for image, known, row in zip(images, faces, rows, strict=True)
        ]

    def _patch(self, image: Tensor, landmarks: Tensor, face: Faces) -> Patch | str:
        """What to show in place of one face, or why nothing: ``image`` ``(3, H, W)``, its points, the face itself."""
        height, width = image.shape[1:]
        # Geometry on the CPU, in float64: few numbers, and the same on every machine.
        landmarks = landmarks.detach().cpu().double()
        own = self.source_landmarks
        if len(own) != len(landmarks):
            own, landmarks = map(five_points, (own, landmarks))
        try:
            points = outline.all_points(landmarks, face.boxes[0])
            source = outline.all_points(own, self.source_box)
            size = outline.width(points)
            region = self.fallback.region.cover(face.to("cpu"), height, width)[0].double()
            if size < self.smallest:
                return f"it is narrower than {self.smallest:g} pixels"
            if _cut(face.boxes[0], height, width):
                return "it reaches the border"
            if not _all_within(landmarks, region):
                return "its landmarks lie outside of it"
            reach = _reach(points, region)
            narrow = _NARROW[len(landmarks)]
            seen = torch.cat([points, outline.forehead(points, reach)])
            shown = torch.cat(
                [outline.narrowed(source, narrow), outline.forehead(outline.narrowed(source, narrow), _LOW * reach)]
            )
            plate = ThinPlate.fit(seen, shown, stiffness=_STIFFNESS)
        except ValueError:
            return _UNKNOWN
        feather = max(1.0, _FEATHER * size)
        inside = _around(seen, _MARGIN * size + feather, height, width)
        x = torch.arange(inside.left, inside.right, dtype=torch.float64) + 0.5
        y = torch.arange(inside.top, inside.bottom, dtype=torch.float64) + 0.5
        core = torch.cat([points, outline.forehead(points, _FOREHEAD * reach)])
        beyond = outline.distance(core, x, y) - _MARGIN * size
        share = (1 - beyond / feather).clamp(0, 1)

        lattice = Lattice(plate, inside)
        area = lattice.area()[outline.distance(core, lattice.x[:-1], lattice.y[:-1]) < 0]
        if not len(area) or float((area <= 0).double().mean()) > _FOLDED:
            return "it is turned too far from the source's pose"
        pixels = self._pyramid.read(lattice, float(area.clamp(min=0).mean().sqrt())).to(image)
        rows, columns = slice(inside.top, inside.bottom), slice(inside.left, inside.right)
        original = image[:, rows, columns]
        weight = (beyond <= 0).to(image)
        pixels = match_colour(pixels, original, weight, sigma=_LIGHT * size)
        for part in self.keep:
            for around in outline.parts(points)[part]:
                far = outline.distance(around, x, y) - _PART_FEATHER * size / 2
                share = share * (far / (_PART_FEATHER * size)).clamp(0, 1)
        return Patch(inside, pixels, share.to(image))


def source_face(
    source: Tensor | str | Path, models: Sequence[FaceModel], faces: Faces | None, which: int | None
) -> tuple[Tensor, Tensor, Tensor, str | None]:
    """The source, the landmarks and the box of its one face, and what may be wrong with it.

    Args:
        source: ``(1, 3, H, W)``, or an image file.
        models: find the face and its landmarks.
        faces: the face, if it is known.
        which: number of the face, if there are several.

    Returns:
        ``(1, 3, H, W)``; ``(68, 2)`` or ``(5, 2)`` float64; ``(4,)``; all on the CPU. A doubt in words, or None.

    Raises:
        ValueError: see :class:`WarpSwapper`.
    """
    if not isinstance(source, Tensor):
        from deidlib.media import read_image

        source = read_image(source)
    image = check_images(source, name="source").detach()
    if len(image) != 1:
        raise ValueError(f"source must be one image (1, 3, H, W), got {len(image)}.")
    if faces is None:
        (faces,) = read_landmarks(image, models)
    boxes = [[round(v) for v in box] for box in faces.boxes.tolist()]
    if not boxes:
        raise ValueError("no face was found in the source. Take a picture that shows one, or give source_faces.")
    if which is None and len(boxes) > 1:
        raise ValueError(
            f"the source shows {len(boxes)} faces, at {', '.join(map(str, boxes))}: choose one with which=0 to "
            f"which={len(boxes) - 1}."
        )
    if which is not None and not 0 <= which < len(boxes):
        raise ValueError(f"which must be 0 to {len(boxes) - 1}, the number of a face at {boxes}, got {which}.")
    chosen = faces[[which or 0]]
    (points,) = landmarks_of(image, [chosen], models)[0]
    if points is None:
        raise ValueError(
            f"the source's face at {boxes[which or 0]} has no landmarks: give models that read them, such as MTCNN()."
        )
    points = points.detach().cpu().double()
    height, width = image.shape[2:]
    if not _all_within(points, torch.ones(height, width)):
        raise ValueError("the source's face is cut off by the border. Take a picture that shows all of it.")
    box = chosen.boxes[0].detach().cpu()
    _check_shape(points, box)
    score = float(chosen.scores[0])
    doubt = None
    if score < _SURE:
        doubt = (
            f"the source's face is found with a score of {score:.2f} only: it may be covered in part (a hand, "
            "sunglasses, a mask), and what covers it would be shown in every face"
        )
    return image.cpu(), points, box, doubt


def _check_shape(points: Tensor, box: Tensor) -> None:
    """Refuse a source of which too little is to be seen."""
    try:
        shape = outline.all_points(points, box)
        wide = outline.width(shape)
    except ValueError:
        # Points on one line tell no shape, and no face can be swapped by them.
        return
    if wide < _SMALL:
        raise ValueError(
            f"the source's face is {wide:.0f} pixels wide, and looks coarse in any larger place. Take a picture in "
            f"which it is wider than {_SMALL:g} pixels."
        )
    if skewness(shape) > STRAIGHT:
        raise ValueError(
            "the source's face is turned aside: half of it is not to be seen, and would be shown bent. Take a picture "
            "that looks into the camera."
        )


def _cut(box: Tensor, height: int, width: int) -> bool:
    """Whether a box reaches the border: some of the face may lie beyond it, and its landmarks are guesses then."""
    left, top, right, bottom = (float(edge) for edge in box)
    return left <= 0 or top <= 0 or right >= width or bottom >= height


def _all_within(points: Tensor, region: Tensor) -> bool:
    """Whether all points lie where ``region`` ``(H, W)`` is 1."""
    height, width = region.shape
    x, y = points.floor().long().unbind(dim=1)
    within = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return bool(within.all()) and bool((region[y, x] == 1).all())


def _reach(points: Tensor, region: Tensor) -> float:
    """How much of the forehead there is room for."""
    for tenths in range(10, 0, -1):
        if _all_within(outline.forehead(points, tenths / 10), region):
            return tenths / 10
    return 0.0


def _around(points: Tensor, margin: float, height: int, width: int) -> Rectangle:
    """The pixels within a margin around points."""
    (left, top), (right, bottom) = (points.amin(dim=0) - margin).tolist(), (points.amax(dim=0) + margin).tolist()
    return Rectangle(
        max(0, math.floor(left)), max(0, math.floor(top)), min(width, math.ceil(right)), min(height, math.ceil(bottom))
    )
