"""What is said before the work, or instead of it: ``--preview`` and ``--dry-run``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deidlib.cli.bar import Bar
from deidlib.cli.ledger import write_json
from deidlib.cli.voice import is_quiet, note, say, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deidlib.cli.paths import Paths
    from deidlib.cli.work import Work
    from deidlib.faces import Faces
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.estimate import Estimate
    from deidlib.protect.inputs import Inputs


def check_preview(place: Path, paths: Paths) -> None:
    """Before models are loaded: it can be made, and replaces nothing that is read or written.

    Raises:
        ValueError: it cannot.
    """
    from deidlib.media.files import check_writable

    if paths.inputs is None:
        raise ValueError("--preview looks into a file first, and a camera or a pipe can be read once only.")
    if place.suffix.lower() != ".png":
        raise ValueError(f"--preview must name a .png file, got {place}.")
    if place.resolve() in {path.resolve() for pair in paths.inputs.pairs for path in pair}:
        raise ValueError(f"--preview {place} is what is read or written. Name another file.")
    check_writable(place)


def show_preview(work: Work, place: Path, inputs: Inputs) -> None:
    """Write the first frame that shows a face, as it is and protected."""
    from deidlib.media import write_image
    from deidlib.protect.preview import preview

    for source, _ in inputs.pairs:
        bar = Bar(shown=not is_quiet())
        bar.begin(source, f"preview of {source.name}", frames=1)
        try:
            seen = preview(_keyed(work), source, faces=_known(work, source), on_step=bar.on_step)
        finally:
            bar.end()
        if seen is not None:
            write_image(place, seen.page)
            note(f"preview: {place}, frame {seen.number} of {source}; it shows the face as it was: not to be shared")
            return
    warn("warning: no face was found for a preview, so that none was written")


def foresee(work: Work, paths: Paths, json: Path | None = None) -> None:
    """Say what the work would be, from a few frames of every file; nothing is written.

    Args:
        work: which.
        paths: to which files.
        json: where it is said for programs; ``-``: on standard output.
    """
    from deidlib.protect.estimate import Estimator
    from deidlib.protect.sidecar import Sidecar

    assert paths.inputs is not None
    deidentifier = _keyed(work)
    estimator = Estimator(deidentifier, checked=work.check is not None, batch_size=work.batch_size)
    device, total, frames = deidentifier.device(), 0.0, 0
    told: list[dict[str, Any]] = []
    for source, target in paths.inputs.pairs:
        found = estimator.of(source, _known(work, source))
        told.append(
            {
                "source": str(source),
                "target": str(target),
                "frames": found.frames,
                "about": found.about,
                "size": found.size,
                "faces": found.faces,
                "seconds": found.seconds,
                "attacked": found.cost.attacked,
            }
        )
        say(f"{source}: {'about ' * found.about}{_count(found.frames, 'frame')} of {found.size[1]}x{found.size[0]}")
        say(f"  faces: {_faces_in_words(found.faces)}")
        say(f"  time: {_time_in_words(found, str(device))}")
        say(f"  would write: {target}, and {Sidecar.path_of(target).name} beside it{_there(target)}")
        total, frames = total + found.seconds, frames + found.frames
    if len(paths.inputs.pairs) > 1:
        say(f"in all: {len(paths.inputs.pairs)} files, {_count(frames, 'frame')}, about {_lasting(total)}")
    if json is not None:
        write_json(json, {"format": "deidlib-dry-run/1", "files": told})
    say("nothing was written")


def _keyed(work: Work) -> Deidentifier:
    """As it would be for the holder of the key."""
    from deidlib.keys.record import new_nonce
    from deidlib.protect.keyed import with_key

    if work.key is None:
        return work.deidentifier
    return with_key(work.deidentifier, work.key, nonce=new_nonce())[0]


def _known(work: Work, source: Path) -> Sequence[Faces] | None:
    """Where faces are, if that is given."""
    from deidlib.records.detections import Detections

    known = None if work.faces_of is None else work.faces_of(source)
    return known.frames if isinstance(known, Detections) else known


def _there(target: Path) -> str:
    return "; the file that is there would be replaced" if target.exists() else ""


def _faces_in_words(faces: dict[int, int]) -> str:
    """How many faces in how many of the frames looked at."""
    counts = sorted(set(faces.values()), reverse=True)
    if len(faces) == 1:
        (number,) = faces
        return f"{faces[number] or 'none'} in frame {number}"
    told = [f"{count or 'none'} in {sum(n == count for n in faces.values())}" for count in counts]
    return f"{', '.join(told)} of {len(faces)} frames looked at ({_some(list(faces))})"


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _time_in_words(found: Estimate, device: str) -> str:
    cost = found.cost
    measured = f"measured on {_count(cost.attacked, 'frame')} on {device}"
    if not cost.attacked:
        measured = f"measured on {device}, without a face; frames with one take longer"
    each = f"{found.seconds / max(found.frames, 1):.2g} s a frame"
    return f"about {_lasting(found.seconds)} ({each}, {measured})"


def _lasting(seconds: float) -> str:
    """A time as people say it: two units at most.

    Example:
        >>> _lasting(0.4), _lasting(75), _lasting(3700)
        ('1 s', '1 min 15 s', '1 h 1 min')
    """
    whole = max(math.ceil(seconds), 1)
    minutes, hours = whole // 60, whole // 3600
    if whole < 60:
        return f"{whole} s"
    if minutes < 60:
        return f"{minutes} min {whole % 60} s" if minutes < 10 else f"{minutes} min"
    return f"{hours} h {minutes % 60} min"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
