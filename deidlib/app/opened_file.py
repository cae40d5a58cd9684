"""``OpenedFile``: a protected file that somebody reads, with its key or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from deidlib.app.menu import Menu
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.media.clip import Clip
from deidlib.models.base import TargetModel
from deidlib.models.keyed import Keyed
from deidlib.models.observe import observe
from deidlib.protect.sidecar import Sidecar, opened

# Of a key file, by which it is known whatever it is called.
_KEY = b"deidlib-key"


class OpenedFile:
    """What the authorised models read of a protected file.

    Args:
        folder: holds the file; and, where a key is needed, its description (``.json``) and the key file.
        menu: where models come from.

    Raises:
        KeyFileError: the key file is none.
        MediaReadError: the file cannot be read.
        ValueError: there is not one file to be read, a key is missing, or it is another one.
    """

    def __init__(self, folder: Path, menu: Menu) -> None:
        self.folder, self.device = folder, menu.device
        keys = [path for path in folder.iterdir() if _is_key(path)]
        descriptions = [path for path in folder.iterdir() if path.suffix == ".json"]
        files = [path for path in folder.iterdir() if path not in (*keys, *descriptions)]
        if len(files) != 1 or len(keys) > 1 or len(descriptions) > 1:
            raise ValueError(
                "one protected file is read at a time, with the .json beside it and the key file where there is a key; "
                f"got {len(files)} files, {len(descriptions)} descriptions and {len(keys)} keys."
            )
        key = None
        for path in keys:
            key = Key.load(path)
            # It is in memory now, and nothing of it is kept.
            path.unlink()
        sidecar = Sidecar.read(files[0], descriptions[0] if descriptions else None, wanted=key is not None)
        record = opened(sidecar, key, files[0])
        self.clip = Clip.open(files[0])
        self.keyed = record is not None
        names = [next(iter(menu.targets))] if record is None else list(record.models)
        self.models: dict[str, TargetModel[Any]] = menu.models(names)
        if record is not None and key is not None:
            self.models = {name: Keyed.from_record(record, model, key) for name, model in self.models.items()}

    def read(self, number: int) -> tuple[Tensor, Faces]:
        """A frame ``(3, H, W)``, and what is read there.

        Raises:
            ValueError: there is no such frame.
        """
        if not 0 <= number < self.clip.frames:
            raise ValueError(f"there are frames 0 to {self.clip.frames - 1}, got {number}.")
        image = self.clip.some({number})[number]
        models = [model.at([number]) for model in self.models.values()]
        (faces,) = observe(image[None].to(self.device), models)
        return image, faces.to("cpu")


def _is_key(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_KEY)) == _KEY
