"""``read_cvat``: boxes of faces in the XML of CVAT, version 1.1, "for video" and "for images"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

import torch
from torch import Tensor

from deidlib.bounded import MOST_FRAMES, BoundsError
from deidlib.records.annotated import LARGEST, MOST_BOXES, Annotated, by_frame, face_labels, in_order

# CVAT's own are six deep.
_MOST_DEPTH = 24
_MOST_LABELS = 10_000
# Shapes that enclose something.
_AREAS = ("box", "polygon", "ellipse", "mask")


def read_cvat(text: str, frames: int | None = None) -> Annotated:
    """Boxes of faces, frame by frame.

    A track of a video lies between its boxes where CVAT shows it: on the straight way from one to the next, and after
    the last where that is, unless it is marked as outside. A box that is turned, a polygon, an ellipse or a mask is
    taken by what encloses it. Of several labels the one called ``face`` is taken. Pictures are the clip's frames, in
    the order of their names.

    A file with a document type is refused: only there can entities be declared, which grow without end or name other
    files.

    Args:
        text: the XML.
        frames: how many frames the clip has; as many as the file says if not given.

    Raises:
        BoundsError: no such XML, a shape that is no area, labels none of which is called face, or a part of a clip.

    Example:
        >>> box = '<box frame="{}" outside="0" xtl="{}" ytl="0" xbr="{}" ybr="9"/>'
        >>> track = f'<track label="face">{box.format(0, 0, 9)}{box.format(2, 4, 13)}</track>'
        >>> [faces.boxes[0, 0].item() for faces in read_cvat(f"<annotations>{track}</annotations>", 4).faces]
        [0.0, 2.0, 4.0, 4.0]
    """
    file = _File()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = file.start
    parser.EndElementHandler = file.end
    parser.CharacterDataHandler = file.characters
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise BoundsError(f"it is no XML ({error})") from error
    if file.root != "annotations":
        raise BoundsError(f"it is not CVAT's XML: it begins with <{(file.root or '')[:40]}>, not with <annotations>")
    return file.read(frames)


@dataclass
class _Shape:
    """What was drawn in a frame."""

    frame: int
    box: tuple[float, float, float, float]
    outside: bool = False


@dataclass
class _File:
    """What has been read of a file so far."""

    root: str | None = None
    path: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    tracks: list[tuple[str, list[_Shape]]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    pictures: list[tuple[str, _Shape]] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def start(self, name: str, values: Mapping[str, str]) -> None:
        """An element begins."""
        self.root = self.root or name
        self.path.append(name)
        if len(self.path) > _MOST_DEPTH:
            raise BoundsError(f"it is not CVAT's XML: elements lie in elements more than {_MOST_DEPTH} deep")
        inside = self.path[1:]
        if inside == ["track"]:
            self.tracks.append((_text(values, "label"), []))
        elif inside == ["image"]:
            self.names.append(_text(values, "name"))
            self.sizes.add((_whole(values, "height", 1, 1_000_000), _whole(values, "width", 1, 1_000_000)))
        elif len(inside) == 2 and inside[0] == "track" and name != "attribute":
            frame = _whole(values, "frame", 0, MOST_FRAMES - 1)
            self.tracks[-1][1].append(_Shape(frame, _box_of(name, values), values.get("outside", "0") == "1"))
        elif len(inside) == 2 and inside[0] == "image" and name != "tag":
            shape = _Shape(len(self.names) - 1, _box_of(name, values))
            self.pictures.append((_text(values, "label"), shape))

    def end(self, name: str) -> None:
        """An element ends."""
        self.path.pop()

    def characters(self, words: str) -> None:
        """Text: of what is said about the task, and nothing else, it is kept."""
        if self.path[1:2] != ["meta"]:
            return
        inside = "/".join(self.path[2:])
        if inside in _TOLD:
            self.told[inside] = (self.told.get(inside, "") + words.strip())[:100]
        elif inside.endswith("labels/label/name") and len(self.labels) < _MOST_LABELS:
            self.labels.add(words.strip()[:200])

    def read(self, frames: int | None) -> Annotated:
        """All of it, once it has been read."""
        if self.names and self.tracks:
            raise BoundsError("it has both tracks and images. Export the one or the other")
        if self.names:
            return self._of_pictures()
        return self._of_video(frames)

    def _of_pictures(self) -> Annotated:
        if len(self.sizes) > 1:
            raise BoundsError(
                f"its pictures have {len(self.sizes)} sizes, and the frames of a clip have one. Keep those of one clip"
            )
        place = {picture: number for number, picture in enumerate(in_order(self.names))}
        wanted = face_labels(self.labels | {label for label, _ in self.pictures})
        shapes = [shape for label, shape in self.pictures if label in wanted]
        numbers = torch.tensor([place[shape.frame] for shape in shapes], dtype=torch.long)
        boxes = torch.tensor([shape.box for shape in shapes], dtype=torch.float64).reshape(-1, 4)
        faces = by_frame(numbers, boxes, torch.ones(len(boxes)), len(self.names))
        return Annotated(faces, next(iter(self.sizes)))

    def _of_video(self, frames: int | None) -> Annotated:
        size = self._size()
        for what in ("task/frame_filter", "job/frame_filter"):
            if self.told.get(what):
                raise BoundsError(f"it is of some of the frames only ({self.told[what]}). Export a task of all frames")
        for what in ("task/start_frame", "job/start_frame"):
            if self.told.get(what, "0") != "0":
                raise BoundsError(f"it begins at frame {self.told[what]}. Export a task of all frames")
        said = [_whole(self.told, what, 0, MOST_FRAMES) for what in ("task/size", "job/size") if what in self.told]
        if frames is not None and said and said[0] != frames:
            raise BoundsError(f"it is of a clip of {said[0]} frames, and this one has {frames}")
        last = 1 + max((shape.frame for _, shapes in self.tracks for shape in shapes), default=-1)
        count = max(last, *said, 0) if frames is None else frames
        if last > count:
            raise BoundsError(f"it has a box in frame {last - 1}, counted from 0, and the clip has {count} frames")
        wanted = face_labels(self.labels | {label for label, _ in self.tracks})
        tracks = [list(_stretches(shapes, count)) for label, shapes in self.tracks if label in wanted]
        if sum(stop - here.frame for track in tracks for here, _, stop in track) > MOST_BOXES:
            raise BoundsError(f"its tracks have more than {MOST_BOXES} boxes")
        parts = [_between(*stretch) for track in tracks for stretch in track]
        numbers = torch.cat([torch.zeros(0, dtype=torch.long), *(numbers for numbers, _ in parts)])
        boxes = torch.cat([torch.zeros(0, 4, dtype=torch.float64), *(boxes for _, boxes in parts)])
        return Annotated(by_frame(numbers, boxes, torch.ones(len(boxes)), count), size)

    def _size(self) -> tuple[int, int] | None:
        for where in _SIZES:
            if f"{where}/height" in self.told and f"{where}/width" in self.told:
                height, width = (_whole(self.told, f"{where}/{side}", 1, 1_000_000) for side in ("height", "width"))
                return height, width
        return None


# Older versions say it beside the task.
_SIZES = ("task/original_size", "job/original_size", "original_size")
_TOLD = {
    *(f"{where}/{what}" for where in ("task", "job") for what in ("size", "start_frame", "frame_filter")),
    *(f"{where}/{side}" for where in _SIZES for side in ("height", "width")),
}


def _stretches(shapes: list[_Shape], count: int) -> Iterator[tuple[_Shape, _Shape, int]]:
    """Of a track: a shape that is seen, the one that it moves to, and the frame before which that is reached."""
    shapes = sorted(shapes, key=lambda shape: shape.frame)
    for here, there in zip(shapes, [*shapes[1:], None], strict=True):
        if not here.outside:
            yield (here, here, count) if there is None else (here, there, there.frame)


def _between(here: _Shape, there: _Shape, stop: int) -> tuple[Tensor, Tensor]:
    """The frames of a stretch, and the boxes in them."""
    start, end = (torch.tensor(shape.box, dtype=torch.float64) for shape in (here, there))
    numbers = torch.arange(here.frame, stop)
    share = (numbers - here.frame).double() / max(stop - here.frame, 1)
    return numbers, start + share[:, None] * (end - start)


def _box_of(name: str, values: Mapping[str, str]) -> tuple[float, float, float, float]:
    """What encloses a shape, xyxy."""
    if name == "box":
        left, top, right, bottom = (_number(values, side) for side in ("xtl", "ytl", "xbr", "ybr"))
        turned = math.radians(_number(values, "rotation")) if "rotation" in values else 0.0
        if right < left or bottom < top:
            raise BoundsError("a box lies inside out: xbr must be at least xtl, and ybr at least ytl")
        half_x, half_y = (right - left) / 2, (bottom - top) / 2
        cos, sin = abs(math.cos(turned)), abs(math.sin(turned))
        across, down = half_x * cos + half_y * sin, half_x * sin + half_y * cos
        x, y = (left + right) / 2, (top + bottom) / 2
        return (left, top, right, bottom) if not turned else (x - across, y - down, x + across, y + down)
    if name == "ellipse":
        x, y, across, down = (_number(values, side) for side in ("cx", "cy", "rx", "ry"))
        # Turned or not, it lies in the circle of its longer half.
        reach = (across, down) if "rotation" not in values else (max(across, down),) * 2
        return x - reach[0], y - reach[1], x + reach[0], y + reach[1]
    if name == "polygon":
        points = [_numbers(point) for point in _text(values, "points", 10_000_000).split(";")]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return min(xs), min(ys), max(xs), max(ys)
    if name == "mask":
        left, top, width, height = (_number(values, side) for side in ("left", "top", "width", "height"))
        return left, top, left + max(width, 0), top + max(height, 0)
    raise BoundsError(f"it has a {name[:20]!r}, which is no area to be hidden. Draw one of {', '.join(_AREAS)}")


def _text(values: Mapping[str, str], name: str, most: int = 4096) -> str:
    value = values.get(name)
    if value is None or len(value) > most:
        raise BoundsError(f"an element lacks {name!r}, or has a longer one than {most} characters")
    return value


def _whole(values: Mapping[str, str], name: str, low: int, high: int) -> int:
    value = _text(values, name)
    if not value.isascii() or not value.isdigit() or len(value) > 18 or not low <= int(value) <= high:
        raise BoundsError(f"{name} must be a whole number from {low} to {high}, got {value[:20]!r}")
    return int(value)


def _number(values: Mapping[str, str], name: str) -> float:
    return _finite(name, _text(values, name))


def _numbers(point: str) -> tuple[float, float]:
    x, _, y = point.partition(",")
    return _finite("points", x), _finite("points", y)


def _finite(name: str, value: str) -> float:
    try:
        known = float(value)
    except ValueError:
        known = math.nan
    if not abs(known) <= LARGEST:
        raise BoundsError(f"{name} must be a finite number, got {value[:20]!r}, or is too large")
    return known


def _refuse_doctype(*_: object) -> None:
    raise BoundsError("it declares a document type, which CVAT's XML does not have, and which is not read")
