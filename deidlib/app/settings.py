"""``Settings``: what a user of the page can set; the defaults are those of ``deidlib protect``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deidlib.app.menu import Menu
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain, recommended_until
from deidlib.attack.tolerance import Tolerance
from deidlib.media import read_image
from deidlib.models.base import TargetModel
from deidlib.obfuscate import Concealment, GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.swap.warp import WarpSwapper
from deidlib.tracking import FaceTracker

Hiding = Literal["solid", "pixelate", "blur", "swap"]
Codec = Literal["ffv1", "h264"]
OnMissing = Literal["hold", "whole-frame", "keep"]

SUFFIX: dict[Codec, str] = {"ffv1": ".mkv", "h264": ".mp4"}
"""What a clip's file is called."""


@dataclass(frozen=True)
class Settings:
    """How a file is protected.

    Args:
        targets: names of the authorised models.
        hide: how faces are hidden.
        epsilon: largest change of a pixel, in grey levels, 1 to 255; 0: nothing is attacked.
        iterations: steps per frame at most.
        until: when a frame is done: ``auto``, ``never`` before the last step, or a name in ``TOLERANCES``.
        on_missing: what becomes of a frame without a face.
        codec: how a clip is stored.

    Raises:
        ValueError: a number out of its range, or an unknown word.
    """

    targets: tuple[str, ...]
    hide: Hiding = "solid"
    epsilon: int = 8
    iterations: int = 60
    until: str = "auto"
    on_missing: OnMissing = "hold"
    codec: Codec = "ffv1"

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 255 or self.epsilon != int(self.epsilon):
            raise ValueError(f"the largest change is a whole number of grey levels, 0 to 255; got {self.epsilon:g}.")
        if not 0 <= self.iterations <= 1000 or self.iterations != int(self.iterations):
            raise ValueError(f"steps are a whole number from 0 to 1000; got {self.iterations:g}.")
        if self.until not in ("auto", "never", *TOLERANCES):
            raise ValueError(f"when a frame is done is auto, never, {' or '.join(TOLERANCES)}; got {self.until}.")

    def tolerance(self, models: Mapping[str, TargetModel[Any]], *, keyed: bool) -> Mapping[str, Tolerance] | None:
        """When a frame is done, as ``--until`` has it; None: after all steps."""
        if self.until == "auto":
            return recommended_until(models, codec=self.codec, keyed=keyed)
        return None if self.until == "never" else recommended_until(models, self.until, always=True)

    def concealment(self, menu: Menu, source: Path | None = None) -> Concealment:
        """How faces are hidden.

        Args:
            menu: where models come from.
            source: with ``"swap"``, the picture of the face to show.

        Raises:
            ValueError: there is no face to show, or it cannot be shown.
        """
        if self.hide == "swap":
            if source is None:
                raise ValueError("a swap needs a picture of the face to show. Drop one, or choose another way to hide.")
            landmarkers: list[Any] = [menu.hiders(self.targets)[0]]
            return WarpSwapper(read_image(source).to(menu.device), landmarkers, fallback=Solid())
        makers: dict[str, type[Obfuscator]] = {"solid": Solid, "pixelate": Pixelate, "blur": GaussianBlur}
        return makers[self.hide]()

    def deidentifier(self, menu: Menu, concealment: Concealment, *, keyed: bool = False) -> Deidentifier:
        """What ``deidlib protect`` would use.

        Args:
            menu: where models come from.
            concealment: how faces are hidden.
            keyed: whether the models are to read by a key: nobody needs to be silenced then.
        """
        models = menu.models(self.targets)
        until = self.tolerance(models, keyed=keyed)
        attacker = recommended(
            models,
            epsilon=self.epsilon / 255,
            max_iterations=self.iterations,
            until=until,
            silence=[] if keyed else menu.silenced(self.targets),
        )
        return Deidentifier(
            attacker,
            obfuscator=concealment,
            detectors=menu.hiders(self.targets),
            tracker=FaceTracker(window=15, hold=30, on_missing=self.on_missing),
            chain=recommended_chain(self.codec, keyed=keyed, until=until),
        )
