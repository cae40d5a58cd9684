"""``write_audit``: a contact sheet of a protected file, for somebody to look through before it is shared."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Template
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib.images import to_pixels
from deidlib.media import MediaWriteError
from deidlib.media.clip import open_frames
from deidlib.media.errors import reporting
from deidlib.records.files import atomic_write
from deidlib.records.templates import templates

# Pixels: the longer side of a picture.
_SIDE = 480
# Of a row of frames in doubt for the same reasons, every so many are shown, and the first and the last.
_THIN = 5


@dataclass(frozen=True)
class _Shown:
    """A frame on the sheet: its number, when it is shown, whether it is in doubt, why it is here, and its picture."""

    number: int
    time: str
    doubt: bool
    reasons: Sequence[str]
    picture: str


def write_audit(
    target: str | Path, protected: str | Path, doubtful: Mapping[int, Sequence[str]], *, every: int = 50
) -> int:
    """Write a contact sheet of a *protected* file, read back from the disk: what no detector finds, a person may see.

    It shows every so many frames, and those in doubt; of consecutive ones in doubt for the same reasons the first, the
    last, and every fifth. There is nothing of the original in it, nor its name.

    Args:
        target: a file that ends in ``.html``, which then holds all pictures; or a folder for ``index.html`` and them.
        protected: the file.
        doubtful: frames in doubt and why, as :class:`~deidlib.protect.summary.Summary` tells.
        every: so many frames from one that is shown in any case to the next.

    Returns:
        How many frames are shown.

    Raises:
        MediaError: the protected file cannot be read, or the sheet cannot be written.
        ValueError: ``every`` is less than a frame.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1 frame, got {every}.")
    target, protected = Path(target), Path(protected)
    single = target.suffix.lower() == ".html"
    if target.exists() and single == target.is_dir():
        raise MediaWriteError(f"{target} is {'a folder' if single else 'a file'}: name a folder, or a file of .html.")
    with reporting(target, "the contact sheet"):
        page = target if single else target / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        chosen = dict(_chosen(doubtful))
        shown: list[_Shown] = []
        frames = 0
        for number, image, seconds in _frames(protected):
            frames += 1
            regular = () if number % every else doubtful.get(number, (f"every {every}th frame",))
            reasons = chosen.get(number, regular)
            if not reasons:
                continue
            data = _jpeg(image)
            if single:
                address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
            else:
                address = f"frame-{number:06d}.jpg"
                with atomic_write(target / address) as partial:
                    partial.write_bytes(data)
            time = f"{int(seconds // 60)}:{seconds % 60:05.2f}"
            shown.append(_Shown(number, time, number in doubtful, reasons, address))
        text = _template().render(
            name=protected.name, frames=frames, doubtful=len(doubtful), every=every, thin=_THIN, shown=shown
        )
        with atomic_write(page) as partial:
            partial.write_text(text, encoding="utf-8")
        if not single:
            # Of an earlier sheet here.
            pictures = {frame.picture for frame in shown}
            for old in target.glob("frame-*.jpg"):
                if old.name not in pictures:
                    old.unlink()
    return len(shown)


def _chosen(doubtful: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, Sequence[str]]]:
    """The frames in doubt that are shown."""
    begun = 0
    for number, reasons in sorted(doubtful.items()):
        goes_on = doubtful.get(number - 1) == reasons
        begun = begun if goes_on else number
        if not goes_on or doubtful.get(number + 1) != reasons or (number - begun) % _THIN == 0:
            yield number, reasons


def _frames(protected: Path) -> Iterator[tuple[int, Tensor, float]]:
    """The file's frames ``(1, 3, H, W)``, with their numbers and times in seconds."""
    number = 0
    with open_frames(protected) as reader:
        for images, pts in reader.batches(8):
            for image, tick in zip(images, pts, strict=True):
                yield number, image[None], float(tick * reader.info.time_base)
                number += 1


def _jpeg(image: Tensor) -> bytes:
    """A picture, no longer than it need be to see whether there is a face."""
    from PIL import Image

    scale = _SIDE / max(image.shape[-2:])
    if scale < 1:
        image = interpolate(image, scale_factor=scale, mode="area").clamp(0, 1)
    data = io.BytesIO()
    Image.fromarray(to_pixels(image[0])).save(data, "JPEG", quality=85)
    return data.getvalue()


@cache
def _template() -> Template:
    return templates("deidlib.protect").get_template("audit.html.j2")
