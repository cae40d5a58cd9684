"""``Menu``: whom the page can choose from; models are made when they are first asked for, for all sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deidlib.attack.presets import recommended_detectors, recommended_silence
from deidlib.metrics import Embedder
from deidlib.models.base import FaceModel, TargetModel

Models = Sequence[TargetModel[Any]]


@dataclass(frozen=True)
class Menu:
    """What can be chosen on this machine: nothing is downloaded.

    Args:
        targets: by name, what makes a model that may be authorised; the first is chosen to begin with.
        strangers: by name, what makes a reader that nobody authorises, to be shown the result.
        embedder: makes who tells whether people are recognised; None: nobody is here who can.
        detectors: told the authorised models, who says where faces are hidden.
        silence: told the same, which detectors are to find nothing.
        calls: by the names of targets, how they are made in Python, of :mod:`deidlib`: ``"RetinaFace()"``.
        absent: names whose weights are not on this machine.
        device: where models run.

    Raises:
        ValueError: no targets.
    """

    targets: Mapping[str, Callable[[], TargetModel[Any]]]
    strangers: Mapping[str, Callable[[], FaceModel]] = field(default_factory=dict)
    embedder: Callable[[], Embedder] | None = None
    detectors: Callable[[Models], list[TargetModel[Any]]] | None = None
    silence: Callable[[Models], list[TargetModel[Any]]] | None = None
    calls: Mapping[str, str] = field(default_factory=dict)
    absent: Sequence[str] = ()
    device: str = "cpu"
    _made: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("a menu needs at least one model that can be authorised, got none.")

    def models(self, names: Sequence[str]) -> dict[str, TargetModel[Any]]:
        """The authorised models of those names.

        Raises:
            ValueError: none, an unknown one, or no detector among them.
        """
        if unknown := [name for name in names if name not in self.targets]:
            raise ValueError(f"{unknown[0]} is not to be had here; choose from {', '.join(self.targets)}.")
        models = {name: self._once("target", name, self.targets[name]) for name in names}
        if not any(model.task == "boxes" for model in models.values()):
            said = ", ".join(names) or "nobody"
            raise ValueError(f"a detector must be among those who may read, to say where faces are; got {said}.")
        return models

    def readers(self, without: Sequence[str]) -> dict[str, FaceModel]:
        """The strangers, but for some."""
        return {
            name: self._once("stranger", name, make) for name, make in self.strangers.items() if name not in without
        }

    def judge(self) -> Embedder | None:
        """Who tells whether people are recognised."""
        return None if self.embedder is None else self._once("embedder", "", self.embedder)

    def hiders(self, names: Sequence[str]) -> list[TargetModel[Any]]:
        """Who says where faces are, if those are authorised."""

        def make() -> list[TargetModel[Any]]:
            models = list(self.models(names).values())
            return (
                recommended_detectors(models, device=self.device) if self.detectors is None else self.detectors(models)
            )

        made: list[TargetModel[Any]] = self._once("hiders", ",".join(names), make)
        return made

    def silenced(self, names: Sequence[str]) -> list[TargetModel[Any]]:
        """Who is to find nothing, if those are authorised; nobody where their weights are not here."""

        def make() -> list[TargetModel[Any]]:
            models = list(self.models(names).values())
            if self.silence is not None:
                return self.silence(models)
            try:
                return recommended_silence(models, device=self.device)
            except FileNotFoundError:
                return []

        made: list[TargetModel[Any]] = self._once("silenced", ",".join(names), make)
        return made

    def _once(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        if (kind, name) not in self._made:
            made = make()
            with self._lock:
                # Of two that were made at once the first is kept.
                self._made.setdefault((kind, name), made)
        return self._made[kind, name]
