"""``Inputs``: which files a run works on, how each output is called, and what is passed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deidlib.media import MediaReadError, MediaWriteError
from deidlib.media.files import exists
from deidlib.media.kind import kind_of
from deidlib.media.tree import PassedOver, Tree, passed_over_in_words, stem_of


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
    def below(cls, source: Path, target: Path, codec: str) -> Inputs:
        """Of a file, or of all images and videos below a folder, whose tree is kept.

        Images become ``.png``, videos what the codec needs.

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
        tree, jobs = Tree.below(source), dict[Path, Path]()
        for path in tree.files:
            out = (target / path.relative_to(source)).with_name(stem_of(path) + suffix_of(path, codec))
            if out in jobs:
                raise MediaWriteError(f"{jobs[out]} and {path} would both be written to {out}. Rename one.")
            jobs[out] = path
        if not jobs:
            also = f" Passed over: {passed_over_in_words(tree.passed_over, source)}." if tree.passed_over else ""
            raise MediaReadError(f"{source} holds no image or video.{also}")
        return cls(tuple((path, out) for out, path in jobs.items()), tree.passed_over)


def suffix_of(source: Path, codec: str) -> str:
    """How the name of the output for a file ends."""
    return suffix_for(kind_of(source) == "image", codec)


def suffix_for(image: bool, codec: str) -> str:
    """How the name of the output ends, for an image, or for a video that is written so."""
    if image:
        return ".png"
    return {"ffv1": ".mkv", "h264": ".mp4", "h264-lossless": ".mp4", "mjpeg": ".avi", "png-folder": ""}[codec]
