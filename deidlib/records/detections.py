"""``Detections``: what was read on every frame of a clip, as a file: ours in JSON, the challenge's csv, COCO, CVAT."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from deidlib.bounded import (
    MOST_FRAMES,
    BoundsError,
    fields,
    json_of,
    listed,
    maybe,
    read_bounded,
    whole,
)
from deidlib.bounded import text as text_of
from deidlib.faces import Faces
from deidlib.records.annotated import Annotated
from deidlib.records.coco import is_coco, read_coco
from deidlib.records.cvat import read_cvat
from deidlib.records.faces_json import faces_from_json, faces_to_json
from deidlib.records.files import write_json

FORMAT = "deidlib-detections/1"
"""What the JSON says that it is."""


# Bytes: two days with five points of a face, two hours with 68 of four.
_MOST_BYTES = 1 << 30
# Of a number in a csv.
_LARGEST = 1e9

_SHAPE = fields(
    {
        "size": maybe(listed(whole(1, 1_000_000), 2)),
        "sha256": maybe(text_of(64)),
        "readers": listed(text_of(200), 100),
        "time_base": maybe(text_of(21, r"\d{1,9}(/0*[1-9]\d{0,8})?")),
        "frames": listed(fields({"pts": maybe(whole(-(2**62), 2**62))}), MOST_FRAMES),
    }
)


class DetectionsError(ValueError):
    """A file of detections cannot be used; the message names it."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The faces of every frame of a clip, from the first to the last.

    Args:
        frames: one :class:`~deidlib.Faces` per frame.
        size: (height, width) of the frames in pixels; None if nobody has said.
        sha256: of the file that was read, if it is known.
        readers: names of what read it.
        pts: time stamps, one per frame, in ticks of ``time_base``; None if they are not known.
        time_base: seconds per tick.

    Raises:
        DetectionsError: fields that do not agree.

    Example:
        >>> face = Faces(torch.tensor([[10., 20., 50., 80.]]), torch.ones(1))
        >>> detections = Detections([face, Faces.empty()], size=(120, 160), readers=("mtcnn",))
        >>> len(detections), len(detections.frames[1])
        (2, 0)
    """

    frames: Sequence[Faces]
    size: tuple[int, int] | None = None
    sha256: str | None = None
    readers: tuple[str, ...] = ()
    pts: tuple[int, ...] | None = None
    time_base: Fraction | None = None

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise DetectionsError(f"size must be (height, width) of at least one pixel, got {self.size}.")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise DetectionsError(f"sha256 must be 64 hexadecimal digits in lower case, got {str(self.sha256)[:80]!r}.")
        if (self.pts is None) != (self.time_base is None):
            raise DetectionsError("pts and time_base belong together: give both or neither.")
        if self.pts is not None and len(self.pts) != len(self.frames):
            raise DetectionsError(f"pts must be one per frame: {len(self.frames)} frames, got {len(self.pts)}.")
        if self.time_base is not None and self.time_base <= 0:
            raise DetectionsError(f"time_base must be above 0 seconds, got {self.time_base}.")

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        said = [f"{len(self)} frames, {sum(len(faces) > 0 for faces in self.frames)} of them with faces"]
        said += [] if self.size is None else [f"{self.size[1]} x {self.size[0]}"]
        return f"Detections({'; '.join([*said, *self.readers])})"


def write_detections(path: str | Path, detections: Detections) -> None:
    """Write detections as JSON; the file appears complete or not at all.

    One object: ``"format"`` (``"deidlib-detections/1"``); ``"size"`` ([height, width] or null); ``"sha256"`` of the
    file that was read (or null); ``"readers"`` (a list of names); ``"time_base"`` (``"1/30000"``, seconds per tick, or
    null); ``"frames"``, a list with one object per frame, in order, frames without a face included:

    - ``"pts"``: the time stamp in ticks, or null;
    - ``"boxes"``: ``[[x1, y1, x2, y2], ...]``, pixels, (0, 0) the outer corner of the top-left pixel;
    - ``"scores"``: ``[s, ...]``, one per box;
    - ``"landmarks"``: ``[[[x, y], ...], ...]``, 68 (iBUG) or five points per box, the subject's right eye first;
      null if nobody has looked for them;
    - ``"gaze"``: ``[[x, y, z], ...]``, one unit vector per box in the camera's frame; or null;
    - ``"points"``: 68 or 5, only where landmarks were looked for and there is no face.

    Numbers are float32, written so that they come back exactly. A score, point or gaze that is NaN (looked for and
    not found) is null; there is no NaN and no infinity in the file.

    Args:
        path: the file; an existing one is replaced.
        detections: what to write.

    Raises:
        DetectionsError: a number is infinite, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "faces.json")
        >>> face = Faces(torch.tensor([[10., 20., 50., 80.]]), torch.tensor([0.9]))
        >>> write_detections(path, Detections([face], size=(120, 160)))
        >>> read_detections(path).frames[0].scores
        tensor([0.9000])
    """
    path = Path(path)
    try:
        data = detections_json(detections)
    except ValueError as error:
        raise DetectionsError(f"{path} cannot be written: {error}") from error
    try:
        write_json(path, data)
    except OSError as error:
        raise DetectionsError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error


def detections_json(detections: Detections) -> dict[str, Any]:
    """The object that :func:`write_detections` writes.

    Raises:
        ValueError: a number is infinite.
    """
    pts = detections.pts or (None,) * len(detections)
    return {
        "format": FORMAT,
        "size": None if detections.size is None else list(detections.size),
        "sha256": detections.sha256,
        "readers": list(detections.readers),
        "time_base": None if detections.time_base is None else str(detections.time_base),
        "frames": [{"pts": tick} | faces_to_json(faces) for faces, tick in zip(detections.frames, pts, strict=True)],
    }


def read_detections(path: str | Path, *, size: tuple[int, int] | None = None, frames: int | None = None) -> Detections:
    """Read detections: our JSON, COCO's, the ``.xml`` of CVAT, or a ``.csv`` of the driving road safety challenge.

    Of COCO (:func:`~deidlib.records.coco.read_coco`) and CVAT (:func:`~deidlib.records.cvat.read_cvat`) the boxes are
    taken that are called ``face``, or all if there is one name only, of all frames in their order.

    The csv has the columns ``frame`` (counted from 1), ``score``, ``x``, ``y``, ``w``, ``h`` and ``point_00_x``,
    ``point_00_y`` to ``point_04_y``, which are our five points in our order; other columns are passed over. Several
    rows of one frame are several faces, in their order; a frame without a row has no face. It does not say how long
    the clip is, so that frames after the last row are missing unless ``frames`` is given.

    Args:
        path: the file.
        size: (height, width) that the frames have; a JSON with another one is refused, a csv takes it.
        frames: how many frames the clip has; another length is refused, a shorter csv is filled up without faces, and a
            track of CVAT that nobody ended goes on to there.

    Raises:
        DetectionsError: missing, of another format, damaged, with NaN or infinity, or not of this size and length.
    """
    path = Path(path)
    try:
        # A byte order mark is what spreadsheets write.
        text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
    except BoundsError as error:
        raise DetectionsError(f"{error}. Expected detections as .json, .csv or .xml.") from error
    except OSError as error:
        raise DetectionsError(
            f"{path} cannot be read ({error.strerror}). Expected a .json, .csv or .xml file."
        ) from error
    except UnicodeDecodeError as error:
        raise DetectionsError(f"{path} is no text. Expected detections as .json, .csv or .xml.") from error
    if path.suffix.lower() == ".csv":
        found = Detections(_from_csv(path, text, frames))
        if size is not None:
            found = replace(found, size=size)
        if frames is not None and len(found) < frames:
            found = replace(found, frames=[*found.frames, *(Faces.empty() for _ in range(frames - len(found)))])
    elif path.suffix.lower() == ".xml":
        found = _annotated(path, lambda: read_cvat(text, frames))
    else:
        found = _from_json(path, text)
    if size is not None and found.size is not None and found.size != tuple(size):
        raise DetectionsError(
            f"{path} holds detections on frames of {found.size[1]}x{found.size[0]} pixels; these have "
            f"{size[1]}x{size[0]}. Take the file that belongs to this clip."
        )
    if frames is not None and len(found) != frames:
        raise DetectionsError(
            f"{path} holds detections on {len(found)} frames; the clip has {frames}. "
            "Take the file that belongs to this clip."
        )
    return found


def _from_json(path: Path, text: str) -> Detections:
    try:
        data = json_of(text)
    except BoundsError as error:
        raise DetectionsError(f"{path}: {error}. Expected a file of the format {FORMAT!r}.") from error
    if is_coco(data):
        return _annotated(path, lambda: read_coco(data))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        got = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise DetectionsError(f"{path} must say that its format is {FORMAT!r}, got {repr(got)[:50]}.")
    missing = [key for key in ("size", "sha256", "readers", "time_base", "frames") if key not in data]
    if missing:
        raise DetectionsError(f"{path} is not complete: it lacks {', '.join(missing)}.")
    try:
        _SHAPE(data, "it")
        ticks = [frame["pts"] for frame in data["frames"]]
        known = [tick for tick in ticks if tick is not None]
        if known and len(known) != len(ticks):
            raise ValueError("some frames have a time stamp and others none")
        head = Detections(
            frames=[],
            size=None if data["size"] is None else (data["size"][0], data["size"][1]),
            sha256=data["sha256"],
            readers=tuple(data["readers"]),
        )
        base = None if data["time_base"] is None or not ticks else Fraction(data["time_base"])
    except (ValueError, IndexError) as error:
        raise DetectionsError(f"{path} is not of the format {FORMAT!r}: {error}.") from error
    frames = []
    for number, record in enumerate(data["frames"]):
        try:
            frames.append(faces_from_json(record))
        except ValueError as error:
            raise DetectionsError(f"{path}: frame {number} (counted from 0): {error}") from error
    try:
        return replace(head, frames=frames, pts=tuple(known) if known else None, time_base=base if known else None)
    except DetectionsError as error:
        raise DetectionsError(f"{path}: {error}") from error


def _annotated(path: Path, read: Callable[[], Annotated]) -> Detections:
    try:
        found = read()
    except BoundsError as error:
        raise DetectionsError(f"{path}: {error}.") from error
    return Detections(found.faces, found.size)


_CSV_POINTS = tuple((f"point_{k:02d}_x", f"point_{k:02d}_y") for k in range(5))
_CSV_COLUMNS = ("frame", "score", "x", "y", "w", "h", *(name for pair in _CSV_POINTS for name in pair))


def _from_csv(path: Path, text: str, most: int | None) -> list[Faces]:
    reader = csv.DictReader(text.splitlines())
    try:
        known = reader.fieldnames or ()
    except csv.Error as error:
        raise DetectionsError(f"{path}, line 1: {error}. Expected names between commas.") from error
    missing = [name for name in _CSV_COLUMNS if name not in known]
    if missing:
        raise DetectionsError(
            f"{path} lacks the columns {', '.join(missing)}. Expected the challenge's csv with a header: "
            f"{', '.join(_CSV_COLUMNS)}."
        )
    rows: dict[int, list[list[float]]] = {}
    sources = set()
    for row in _rows(path, reader):
        values = [_csv_number(path, reader.line_num, name, row[name]) for name in _CSV_COLUMNS]
        number, _, _, _, width, height, *_ = values
        if not 1 <= number <= MOST_FRAMES or number != int(number):
            raise DetectionsError(
                f"{path}, line {reader.line_num}: frames are whole numbers from 1 to {MOST_FRAMES}, got {row['frame']}."
            )
        if width < 0 or height < 0:
            raise DetectionsError(f"{path}, line {reader.line_num}: w and h must not be negative.")
        if most is not None and number > most:
            raise DetectionsError(
                f"{path}, line {reader.line_num}: detections on frame {row['frame']}; the clip has {most} frames. "
                "Take the file that belongs to this clip."
            )
        sources.add(row.get("source"))
        rows.setdefault(int(number), []).append(values[1:])
    if len(sources) > 1:
        raise DetectionsError(f"{path} holds rows of {len(sources)} sources. Keep those of one clip in a file.")
    # One for all: there may be many between two rows.
    frames, nobody = [], Faces.empty()
    for number in range(1, max(rows, default=0) + 1):
        if number not in rows:
            frames.append(nobody)
            continue
        # Sums in double precision: the csv has more digits than float32.
        table = torch.tensor(rows[number], dtype=torch.float64)
        boxes = torch.cat([table[:, 1:3], table[:, 1:3] + table[:, 3:5]], dim=1)
        frames.append(Faces(boxes.float(), table[:, 0].float(), table[:, 5:].reshape(-1, 5, 2).float()))
    _check_order(path, frames)
    return frames


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DetectionsError(f"{path}, line {reader.line_num}: {error}. Expected numbers between commas.") from error


def _csv_number(path: Path, line: int, name: str, cell: str | None) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = float("nan")
    if not abs(value) <= _LARGEST:
        raise DetectionsError(
            f"{path}, line {line}: {name} must be a finite number, got {cell if cell is None else cell[:40]!r}, or is "
            "too large."
        )
    return value


def _check_order(path: Path, frames: Sequence[Faces]) -> None:
    """The subject's right eye comes first: seen from above it, the mouth lies to the right of the way to the left eye.

    In profile the eyes coincide and the sign is chance, hence the majority of faces.
    """
    points = torch.cat([torch.zeros(0, 5, 2), *(known.landmarks for known in frames if known.landmarks is not None)])
    along = points[:, 1] - points[:, 0]
    down = points[:, 3:].mean(dim=1) - points[:, :2].mean(dim=1)
    turn = along[:, 0] * down[:, 1] - along[:, 1] * down[:, 0]
    if 2 * int((turn < 0).sum()) > len(points):
        raise DetectionsError(
            f"{path}: point_00 must be the subject's right eye, which lies left in the picture of an upright face; "
            "here most faces have the left eye first. Exchange the columns of point_00 and point_01, and of 03 and 04."
        )
