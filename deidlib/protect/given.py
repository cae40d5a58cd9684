"""``given_faces``: faces that a user says are there: are they this clip's, and does hiding them hide a face?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deidlib.faces import Faces
from deidlib.geometry.boxes import clip
from deidlib.media.clip import in_pixels
from deidlib.records.detections import Detections, DetectionsError

Given = Sequence[Faces] | Detections
"""Where faces are: one entry per frame, or the same with what is known of the file that it was read from."""

# Pixels: nobody can tell a face in fewer, and no detector finds one. Boxes as shares of the frame lie far below.
_LEAST_SIDE = 4
# Of a box's area, in the frame: less is a box of another frame size, or of a face that is not in the picture.
_LEAST_SHARE = 0.05


def given_faces(given: Given, size: tuple[int, int], sha256: str | None, name: object) -> Sequence[Faces]:
    """The faces, frame by frame, once all that can be known before a frame is read has been checked.

    Args:
        given: where faces are.
        size: (height, width) of the clip's frames in pixels.
        sha256: of the clip's file; None if nobody knows it.
        name: of the clip, for messages.

    Raises:
        DetectionsError: they are of frames of another size, or of another file.
        TypeError: an entry is no :class:`~deidlib.Faces`.
        ValueError: a box is not one of a face in these frames.
    """
    frames = given.frames if isinstance(given, Detections) else given
    if isinstance(given, Detections):
        if given.size is not None and tuple(given.size) != tuple(size):
            raise DetectionsError(
                f"the faces given are of frames of {in_pixels(given.size)} pixels; {name} has {in_pixels(size)}. "
                "Take the file that belongs to this clip."
            )
        if given.sha256 is not None and sha256 is not None and given.sha256 != sha256:
            raise DetectionsError(
                f"the faces given were read from another file: sha256 {given.sha256[:12]}..., {name} has "
                f"{sha256[:12]}.... Take the file that belongs to this clip; if the frames are the same ones, stored "
                'otherwise, set "sha256" to null in it.'
            )
    check_places(frames, size)
    return frames


def check_places(faces: Sequence[Faces], size: tuple[int, int], first: int = 0) -> None:
    """Make sure that whoever hides these boxes hides faces.

    Args:
        faces: one entry per frame.
        size: (height, width) of the frames in pixels.
        first: the number of the first frame, for messages.

    Raises:
        TypeError: an entry is no :class:`~deidlib.Faces`.
        ValueError: a box is smaller than any face, as boxes in shares of the frame are, or lies outside the frame all
            but a sliver.

    Example:
        >>> relative = Faces(torch.tensor([[0.35, 0.2, 0.62, 0.58]]), torch.ones(1))
        >>> check_places([relative], (512, 512))
        Traceback (most recent call last):
        ...
        ValueError: frame 0, face 0: the box (0.35, 0.2, 0.62, 0.58) is 0.27 x 0.38 pixels large, and no face is \
smaller than 4 x 4. Boxes are x1, y1, x2, y2 in pixels of the frame, here 512x512; multiply shares of it by its width \
and height, and leave out what is no face.
    """
    height, width = size
    for number, known in enumerate(faces, first):
        if not isinstance(known, Faces):
            raise TypeError(
                f"faces must hold a deidlib.Faces for every frame, got {type(known).__name__} for frame {number}. "
                "Write Faces(boxes, scores), with float tensors (N, 4) in pixels and (N,)."
            )
        boxes = known.boxes.detach().to("cpu", torch.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        inside = clip(boxes, height, width)
        share = (inside[:, 2:] - inside[:, :2]).clamp(min=0).prod(dim=1) / sides.prod(dim=1).clamp(min=1e-12)
        small = sides.amin(dim=1) < _LEAST_SIDE
        for face in (small | (share < _LEAST_SHARE)).nonzero().flatten().tolist():
            box = ", ".join(f"{value:.4g}" for value in boxes[face].tolist())
            what = (
                f"is {sides[face, 0]:.3g} x {sides[face, 1]:.3g} pixels large, and no face is smaller than "
                f"{_LEAST_SIDE} x {_LEAST_SIDE}"
                if small[face]
                else f"has {share[face]:.1%} of its area in the frame, where hiding it hides no face"
            )
            raise ValueError(
                f"frame {number}, face {face}: the box ({box}) {what}. Boxes are x1, y1, x2, y2 in pixels of the "
                f"frame, here {width}x{height}; multiply shares of it by its width and height, and leave out what is "
                "no face."
            )
