"""``Inputs``: which files a run works on, how each output is called, and what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deidlib.media import MediaReadError, MediaWriteError
from deidlib.media.files import exists
from deidlib.media.kind import kind_of
from deidlib.media.tree import PassedOver, Tree, passed_over_in_words, stem_of
from deidlib.protect.sidecar import Sidecar


@dataclass(frozen=True)
class Inputs:
    """The files of a run.

    Args:
        pairs: inputs and outputs.
        passed_over: what else lies in the folder, and why it is left alone; nothing for a single file.
    """

    pairs: tuple[tuple[Path, Path], ...]
    passed_over: tuple[PassedOver, ...] = ()

    @classmethod
    def beside(cls, sources: Sequence[Path], codec: str, done: str = "protected") -> Self:
        """Of files whose outputs lie beside them: ``drive.protected.mkv`` beside ``drive.mp4``.

        Args:
            sources: the files.
            codec: one of ``deidlib.media.CODECS``.
            done: what is put into the names.

        Raises:
            MediaError: a file is missing or a folder, or two would get one name.
        """
        jobs: list[tuple[Path, Path]] = []
        for path in sources:
            if not exists(path, MediaReadError):
                raise MediaReadError(f"{path} does not exist. Expected an image or a video; check the path.")
            jobs.append((path, path.with_name(f"{stem_of(path)}.{done}{suffix_of(path, codec)}")))
        return cls(_each_once(jobs))

    @classmethod
    def into(cls, sources: Sequence[Path], folder: Path, codec: str) -> Self:
        """Of files, and of all that is below folders, whose outputs lie in one folder; trees keep their names there.

        Args:
            sources: files and folders.
            folder: for the outputs.
            codec: one of ``deidlib.media.CODECS``.

        Raises:
            MediaError: as :meth:`below`.
        """
        jobs: list[tuple[Path, Path]] = []
        passed: list[PassedOver] = []
        for path in sources:
            if path.is_dir():
                known = cls.below(path, folder / path.resolve().name, codec)
                jobs += known.pairs
                passed += known.passed_over
            elif not exists(path, MediaReadError):
                raise MediaReadError(f"{path} does not exist. Expected an image, a video or a folder; check the path.")
            else:
                jobs.append((path, folder / (stem_of(path) + suffix_of(path, codec))))
        return cls(_each_once(jobs), tuple(passed))

    def foreign(self) -> list[Path]:
        """Files that lie where outputs are to lie, and that no description says to be ours."""
        # That an input is not its own output is seen to elsewhere.
        return [
            out
            for source, out in self.pairs
            if os.path.lexists(out) and not out.is_dir() and out.resolve() != source.resolve() and not is_ours(out)
        ]

    @classmethod
    def below(cls, source: Path, target: Path, codec: str) -> Self:
        """Of a file, or of all images and videos below a folder, whose tree is kept.

        Images become ``.png``, videos what the codec needs. Of several that would get one name each keeps its suffix:
        ``a.mov`` and ``a.mp4`` become ``a.mov.mkv`` and ``a.mp4.mkv``.

        Args:
            source: the file or folder.
            target: the file, or the folder for the outputs.
            codec: one of ``deidlib.media.CODECS``.

        Raises:
            MediaError: there is nothing to be protected, a folder cannot be read, or two files would get one name.
        """
        exists(target, MediaWriteError)
        if not exists(source, MediaReadError):
            raise MediaReadError(f"{source} does not exist. Expected an image, a video or a folder; check the path.")
        if not source.is_dir():
            if target.is_dir() and (codec != "png-folder" or kind_of(source) == "image"):
                raise MediaWriteError(
                    f"{source} is a file, so the output must be one too; {target} is a folder. "
                    f"Name the file: {target / (stem_of(source) + suffix_of(source, codec))}."
                )
            return cls(((source, target),))
        if target.exists() and not target.is_dir():
            raise MediaWriteError(
                f"{source} is a folder, so the output must be one too; {target} is a file. Name a folder."
            )
        if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
            raise MediaWriteError(
                f"the output folder {target} must not be the input folder or lie inside it. Choose another place."
            )
        tree = Tree.below(source)
        jobs = [
            (path, (target / path.relative_to(source)).with_name(stem_of(path) + suffix_of(path, codec)))
            for path in tree.files
        ]
        if not jobs:
            also = f" Passed over: {passed_over_in_words(tree.passed_over, source)}." if tree.passed_over else ""
            raise MediaReadError(f"{source} holds no image or video.{also}")
        return cls(_each_once(jobs), tree.passed_over)


def _each_once(jobs: Sequence[tuple[Path, Path]]) -> tuple[tuple[Path, Path], ...]:
    """The same jobs, no two of which write one file: those that would keep their suffixes."""
    # A file may be named twice.
    jobs = list(dict.fromkeys(jobs))
    wanted = Counter(out for _, out in jobs)
    known: dict[Path, Path] = {}
    for path, out in jobs:
        ending = out.name.removeprefix(stem_of(path))
        # A folder of pictures has no ending, and is known by that.
        if wanted[out] > 1 and ending:
            out = out.with_name(path.name + ending)
        if known.setdefault(out, path) != path:
            raise MediaWriteError(f"{known[out]} and {path} would both be written to {out}. Rename one.")
    return tuple((path, out) for out, path in known.items())


def is_ours(out: Path) -> bool:
    """Whether a description beside a file says that it is a protected one."""
    try:
        return Sidecar.read(out) is not None
    except ValueError:
        # Damaged, but ours.
        return True


def suffix_of(source: Path, codec: str) -> str:
    """How the name of the output for a file ends."""
    return suffix_for(kind_of(source) == "image", codec)


def suffix_for(image: bool, codec: str) -> str:
    """How the name of the output ends, for an image, or for a video that is written so."""
    if image:
        return ".png"
    return {"ffv1": ".mkv", "h264": ".mp4", "h264-lossless": ".mp4", "mjpeg": ".avi", "png-folder": ""}[codec]
