"""``Annotated``: boxes that somebody drew with another tool, frame by frame, and which of its labels are faces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.bounded import BoundsError
from deidlib.faces import Faces

# Of all frames together: a crowd of two hundred for an hour.
MOST_BOXES = 20_000_000
# Of a number.
LARGEST = 1e9


@dataclass(frozen=True, eq=False)
class Annotated:
    """Boxes of a clip's frames.

    Args:
        faces: one entry per frame.
        size: (height, width) of the frames in pixels; None if it is not said.
    """

    faces: Sequence[Faces]
    size: tuple[int, int] | None


def face_labels(labels: Collection[str]) -> set[str]:
    """Which labels of an annotation are faces: the only one there is, or the one that says so.

    Raises:
        BoundsError: several, none of which is called face: what is no face would be hidden, or a face would not.

    Example:
        >>> sorted(face_labels(["car", "Face"])), sorted(face_labels(["driver"]))
        (['Face'], ['driver'])
    """
    named = {label for label in labels if label.strip().lower() in ("face", "faces")}
    if named or len(set(labels)) < 2:
        return named or set(labels)
    said = ", ".join(repr(label[:40]) for label in sorted(set(labels))[:8])
    raise BoundsError(f"its labels are {said}, and none is 'face'. Call the one of faces so, or leave out the others")


def in_order(names: Sequence[str]) -> list[int]:
    """The places of pictures in the order of their names, as the frames of a folder are read.

    Raises:
        BoundsError: two of one name, or names whose numbers count otherwise than their letters: ``2.png`` comes after
            ``10.png``.

    Example:
        >>> in_order(["b.png", "a.png"])
        [1, 0]
    """
    order = sorted(range(len(names)), key=lambda place: names[place])
    if len(set(names)) < len(names):
        raise BoundsError("two of its pictures have one name. Keep those of one clip in a file")
    numbers = [[int(digits[-18:]) for digits in re.findall(r"\d+", names[place])] for place in order]
    if numbers != sorted(numbers) and len({len(found) for found in numbers}) == 1:
        raise BoundsError(
            "the numbers in the names of its pictures count otherwise than their letters, so that their order is not "
            "clear. Write as many digits in each: 0002.png, 0010.png"
        )
    return order


def by_frame(frames: Tensor, boxes: Tensor, scores: Tensor, count: int) -> list[Faces]:
    """Boxes as faces, frame by frame.

    Args:
        frames: ``(N,)`` long, from 0; in a frame, boxes keep their order.
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``.
        count: how many frames there are.
    """
    order = frames.argsort(stable=True)
    numbers, sizes = torch.unique_consecutive(frames[order], return_counts=True)
    split = sizes.tolist()
    parts = zip(
        numbers.tolist(),
        torch.split(boxes[order].float(), split),
        torch.split(scores[order].float(), split),
        strict=True,
    )
    nobody = Faces.empty()
    found = [nobody] * count
    for number, mine, sure in parts:
        found[number] = Faces(mine, sure)
    return found


def table(rows: Iterable[Sequence[float]], columns: int) -> Tensor:
    """Numbers in double precision, ``(N, columns)``.

    Raises:
        BoundsError: too large for a picture.
    """
    values = torch.tensor(list(rows), dtype=torch.float64).reshape(-1, columns)
    if not bool((values.abs() <= LARGEST).all()):
        raise BoundsError("it holds numbers that are not finite, or too large for a picture")
    return values
