"""``Paths``: what a command was told to work on, and where it is to write."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deidlib.cli.files import live_source

if TYPE_CHECKING:
    from deidlib.protect.inputs import Inputs


@dataclass(frozen=True)
class Paths:
    """Inputs and outputs.

    Args:
        source: the one input, a file or a folder; of several, the folder that holds them all.
        target: the one output, or the folder for them; None: each lies beside its input.
        live: the camera or the pipe that ``source`` stands for.
        inputs: the files, with their outputs; None of what comes live.
    """

    source: Path
    target: Path | None
    live: str | int | None
    inputs: Inputs | None

    @classmethod
    def of(cls, words: Sequence[str], codec: str, *, force: bool, done: str = "protected") -> Paths:
        """What the words of a command line mean: inputs, and unless it is only one, last the output.

        A word with ``*``, ``?`` or ``[`` that is no file stands for all that it matches.

        Args:
            words: as they were typed.
            codec: how videos are stored.
            force: whether files that lie where outputs are to lie may be replaced.
            done: what is put into the names of outputs that lie beside their inputs.

        Raises:
            ValueError: what is said is not there, or cannot be written to.
        """
        from deidlib.media import MediaWriteError
        from deidlib.media.files import exists
        from deidlib.protect.inputs import Inputs

        *first, last = words
        if live_source(Path(first[0] if first else last)) is not None:
            if len(first) != 1:
                raise ValueError(
                    "a camera or a pipe is protected alone, and its file is named: deidlib protect 0 out.mkv"
                )
            return cls(Path(first[0]), Path(last), live_source(Path(first[0])), None)
        if not first:
            return cls._beside(_expanded(last), codec, force=force, done=done)
        # A name that the file system does not take is told in words.
        exists(Path(last), MediaWriteError)
        sources, target = [path for word in first for path in _expanded(word)], Path(last)
        into = len(sources) > 1 or _is_pattern(first[0]) or (sources[0].is_file() and _is_folder(last, codec))
        if not into:
            paths = cls(sources[0], target, None, Inputs.below(sources[0], target, codec))
        elif target.is_file():
            raise ValueError(
                f"{target} is a file, and several inputs need a folder: name one after them. To write beside each "
                "input, give one pattern in quotes, such as '*.mp4', and nothing else."
            )
        else:
            paths = cls(_common(sources), target, None, Inputs.into(sources, target, codec))
        assert paths.inputs is not None
        if not force and (foreign := paths.inputs.foreign()):
            others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise ValueError(
                f"{foreign[0]}{others} would be replaced, and no description beside it says that deidlib wrote it. "
                "Name another output, or add --force."
            )
        return paths

    @classmethod
    def elsewhere(cls, words: Sequence[str]) -> Paths:
        """Of what lies in a store, or is done on a cluster: whoever works there looks for the files."""
        source, target = words
        return cls(Path(source), Path(target), None, None)

    @classmethod
    def _beside(cls, sources: Sequence[Path], codec: str, *, force: bool, done: str) -> Paths:
        """Of inputs without an output: each gets a word into its name. Nothing that lies there is replaced."""
        from deidlib.cli.voice import note
        from deidlib.protect.inputs import Inputs, is_ours

        if len(sources) == 1:
            (source,) = sources
            if source.is_dir():
                whole = source if source.name else source.resolve()
                target = whole.with_name(f"{whole.name}.{done}")
                return cls(source, target, None, Inputs.below(source, target, codec))
            inputs = Inputs.beside(sources, codec, done)
            target = inputs.pairs[0][1]
            if not force and os.path.lexists(target):
                raise ValueError(f"{target} is there already. Name an output, or add --force to replace it.")
            return cls(source, target, None, inputs)
        if folders := [path for path in sources if path.is_dir()]:
            raise ValueError(f"{folders[0]} is a folder among other inputs. Name a folder for the outputs last.")
        # A pattern may match what an earlier run has written.
        inputs = Inputs.beside([path for path in sources if not is_ours(path)], codec, done)
        there = [out for _, out in inputs.pairs if not force and os.path.lexists(out)]
        if there:
            note(f"{len(there)} of {len(inputs.pairs)} outputs are there already, and left as they are: {there[0]} ...")
        return cls(_common(sources), None, None, Inputs(tuple(pair for pair in inputs.pairs if pair[1] not in there)))


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not os.path.lexists(word)


def _expanded(word: str) -> list[Path]:
    """What a word stands for: the path itself, or all that a pattern matches, hidden files left out."""
    if not _is_pattern(word):
        return [Path(word)]
    found = sorted(Path(path) for path in glob.glob(word, recursive=True) if not os.path.isdir(path))
    if not found:
        raise ValueError(f"no file matches {word}. Check the pattern; ** goes through folders.")
    return found


def _is_folder(word: str, codec: str) -> bool:
    """Whether an output is a folder to write into: it is there, or its name ends as a folder's."""
    # The codec png-folder writes a folder as one output.
    return word.endswith(("/", os.sep)) or (codec != "png-folder" and Path(word).is_dir())


def _common(sources: Sequence[Path]) -> Path:
    """The folder that holds them all."""
    if any(path.is_absolute() for path in sources) and not all(path.is_absolute() for path in sources):
        raise ValueError("some inputs are given from the root, and others from here. Give all in one way.")
    return Path(os.path.commonpath([path.parent for path in sources]) or ".")
