"""A desk to work at: a menu of toys that find red faces, and sessions that choose from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patches import Patches, frame
from scipy.ndimage import find_objects, label
from torch import Tensor
from toys import White

from deidlib.app.menu import Menu
from deidlib.app.session import Session
from deidlib.app.settings import Settings
from deidlib.media import write_image
from deidlib.models.base import TargetModel

SETTINGS = Settings(("red",), iterations=3, until="never")


def red(image: Tensor, number: int) -> Sequence[Sequence[float]]:
    """The boxes of what is red in a frame ``(3, H, W)``."""
    on = (image[0] > 0.9) & (image[1:] < 0.1).all(dim=0)
    places = find_objects(label(on.numpy())[0])
    return [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in places]


def menu(**more: Any) -> Menu:
    """Somebody who finds red and may read, and strangers who find red, or green."""

    def alone(models: Sequence[TargetModel[Any]]) -> list[TargetModel[Any]]:
        return list(models)

    strangers = {"stranger": Patches, "green": lambda: Patches(1)}
    known: dict[str, Any] = {"strangers": strangers, "detectors": alone, "silence": lambda models: []}
    return Menu(**({"targets": {"red": lambda: White(red)}} | known | more))


def session(folder: Path, **more: Any) -> Session:
    """A session in a folder of that one."""
    own = folder / "own"
    own.mkdir(mode=0o700)
    return Session(own, menu(**more))


def upload(folder: Path, *faces: tuple[int, int, int, int], name: str = "people.png") -> Path:
    """A picture as it was uploaded."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    write_image(path, frame(*faces))
    return path
