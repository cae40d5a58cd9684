"""``command_of`` and ``python_of``: what the page did, to be done again without it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields

from deidlib.app.protected import Protected
from deidlib.app.settings import Settings

_KEY = "deidlib.key"


def command_of(protected: Protected, original: str, source: str | None = None) -> str:
    """The command that gives the same file.

    Args:
        protected: what was made; its faces are downloaded beside it.
        original: the input's name.
        source: that of the picture of a swapped face.
    """
    settings = protected.settings
    words = ["deidlib", "protect", original, protected.path.name, "--faces", protected.faces.name]
    for name, value in _said(settings).items():
        words += [f"--{name}", str(value)]
    if settings.hide != "solid":
        words += ["--hide", f"swap:{source}" if settings.hide == "swap" else settings.hide]
    if protected.key is not None:
        words += ["--key", _KEY]
    return shlex.join(words)


def python_of(
    protected: Protected, original: str, calls: Mapping[str, str], *, source: str | None = None, silenced: bool = False
) -> str:
    """The same in Python.

    Args:
        protected: what was made.
        original: the input's name.
        calls: by the names of the models, what makes them: ``"RetinaFace()"``, of :mod:`deidlib`.
        source: the name of the picture of a swapped face.
        silenced: whether detectors were made to find nothing.
    """
    settings = protected.settings
    video, keyed, swap = protected.path.suffix != ".png", protected.key is not None, settings.hide == "swap"
    models = {name: calls.get(name, f"{name}()") for name in settings.targets}
    protect = "protect_video" if video else "protect_image"
    hiding = {"solid": "Solid", "pixelate": "Pixelate", "blur": "GaussianBlur", "swap": "WarpSwapper"}[settings.hide]
    names = {
        "Deidentifier",
        "recommended",
        protect,
        hiding,
        *(call.split("(")[0].split(".")[0] for call in models.values()),
    }
    presets = ["recommended_detectors"]
    attack, options, call = ["models"], list[str](), ['faces=read_detections("faces.json")']
    if settings.epsilon != 8:
        attack.append(f"epsilon={settings.epsilon} / 255")
    if settings.iterations != 60:
        attack.append(f"max_iterations={settings.iterations}")
    tolerant = settings.until != "never"
    if tolerant:
        presets += ["recommended_chain", "recommended_until"]
        attack.append("until=until")
    if silenced and not keyed:
        presets.append("recommended_silence")
        attack.append("silence=recommended_silence(models.values())")
    if tolerant or settings.codec == "h264":
        presets.append("recommended_chain")
        until = ", until=until" if tolerant else ""
        options.append(f"chain=recommended_chain({_quoted(settings.codec)}, keyed={keyed}{until})")
    if settings.on_missing != "hold":
        options.append(f"tracker=FaceTracker(window=15, on_missing={_quoted(settings.on_missing)})")
    if video and settings.codec != "ffv1":
        call.append(f"output=Output({_quoted(settings.codec)})")
    if keyed:
        names.add("Key")
        call.append(f'key=Key.load("{_KEY}")')
    if not (settings.epsilon and settings.iterations):
        call.append("check=None")
    how = f"{_quoted(settings.until)}, always=True"
    if settings.until == "auto":
        how = f"codec={_quoted(settings.codec)}, keyed={keyed}"
    shown = f"WarpSwapper({_quoted(source or '')}, detectors[0])" if swap else f"{hiding}()"
    imports = [
        f"from deidlib import {', '.join(sorted(names))}",
        f"from deidlib.attack.presets import {', '.join(sorted(set(presets)))}",
        *(["from deidlib.protect import Output"] if video and settings.codec != "ffv1" else []),
        "from deidlib.records.detections import read_detections",
        *(["from deidlib.tracking import FaceTracker"] if settings.on_missing != "hold" else []),
    ]
    lines = [
        *imports,
        "",
        f"models = {{{', '.join(f'{_quoted(name)}: {made}' for name, made in models.items())}}}",
        "detectors = recommended_detectors(models.values())",
        *([f"until = recommended_until(models, {how})"] if tolerant else []),
        "deidentifier = Deidentifier(",
        f"    recommended({', '.join(attack)}),",
        f"    obfuscator={shown},",
        "    detectors=detectors,",
        *(f"    {option}," for option in options),
        ")",
        f"{protect}(",
        f"    deidentifier, {_quoted(original)}, {_quoted(protected.path.name)}, {', '.join(call)}",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _said(settings: Settings) -> dict[str, object]:
    """The options that differ from the defaults, but for the models, which are always said."""
    usual = {field.name: field.default for field in fields(Settings)}
    said: dict[str, object] = {"targets": ",".join(settings.targets)}
    for name in ("epsilon", "iterations", "until", "on_missing", "codec"):
        value = getattr(settings, name)
        if value != usual[name]:
            said[name.replace("_", "-")] = value
    return said
