"""Clips that lie or are done elsewhere: in stores, and on a cluster of Ray."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deidlib.cli.closing import close, tell_left, to_be_continued
from deidlib.cli.options import RUNNING
from deidlib.cli.page import Page
from deidlib.cli.voice import is_quiet, say, warn

if TYPE_CHECKING:
    from deidlib.cli.work import Work
    from deidlib.protect.outcome import ClipResult, RunSummary

_ADDRESS = re.compile(r"auto|local|ray://.+|[\w.\-\[\]:]+:\d+")
ALONE = "local"
"""The address of a cluster that Ray starts on this machine."""


Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        rich_help_panel=RUNNING,
        help="On a cluster of Ray (host:port, or auto); without an address, on all processors of this machine.",
    ),
]
Resources = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=NUMBER,...",
        rich_help_panel=RUNNING,
        help="Of one worker of a cluster: num_cpus=1 unless told, num_gpus=0.25, memory=4e9.",
    ),
]
ScratchFolder = Annotated[
    Path | None,
    typer.Option(
        "--scratch",
        rich_help_panel=RUNNING,
        help="Where clips of a store lie while they are worked on; by default the system's folder for temporary files.",
    ),
]


@dataclass(frozen=True)
class Elsewhere:
    """Where the work is done, and what for.

    Args:
        ray: the address of a cluster; ``"local"``: one on this machine; None: no cluster, but this process.
        resources: of a worker, as typed: ``"num_gpus=0.25,num_cpus=2"``.
        workers: how many, or ``"auto"``; None: in a cluster, as many as there is room for.
        scratch: where clips of a store lie meanwhile.
        key_file: of the key, if there is one.
    """

    ray: str | None = None
    resources: str | None = None
    workers: int | Literal["auto"] | None = None
    scratch: Path | None = None
    key_file: Path | None = None

    def check(self, words: Sequence[str], **one_by_one: object) -> None:
        """Refuse what has no sense here.

        Args:
            words: the input and the output.
            **one_by_one: options that belong to a local file.

        Raises:
            ValueError: one of them was given, other than two words, or what belongs to a cluster without one.
        """
        where = "--ray" if self.ray is not None else next(word for word in words if is_url(word))
        if len(words) != 2:
            raise ValueError(
                f"with {where}, one input and one output are named, got {len(words)} words: protect IN OUT"
            )
        if said := [f"--{name.replace('_', '-')}" for name, value in one_by_one.items() if value]:
            raise ValueError(f"{', '.join(said)} is for files of this machine, not for {where}. Leave it out.")
        if self.ray is None and self.resources is not None:
            raise ValueError("--resources says what a worker of a cluster has. Add --ray, or leave it out.")
        resources_of(self.resources)

    def run(self, work: Work, source: str, target: str) -> None:
        """Do the work on all clips, say what happened, and end the program as it went.

        Args:
            work: what is done to each.
            source: a file or folder, by URL or path.
            target: the file, or the folder for the outputs.

        Raises:
            ValueError: there is nothing to be done, or a store or cluster cannot be used.
            typer.Exit: clips failed, or the user interrupted.
        """
        from tqdm.auto import tqdm

        with to_be_continued(), tqdm(unit="clip", file=sys.stderr, disable=is_quiet() or None) as bar:

            def done(result: ClipResult) -> None:
                bar.update()
                _tell(work, result)

            summary = self._run(work, source, target, done)
        tell_left(summary, summary.clips, "clips", summary.passed_over_in_words())
        close(summary.failures, summary.clips, "clips")

    def _run(self, work: Work, source: str, target: str, done: Any) -> RunSummary:
        settings: dict[str, Any] = {"output": work.output, "check": work.check, "batch_size": work.batch_size}
        settings |= {"options": work.options, "scratch": self.scratch, "done": done}
        if self.ray is not None:
            from deidlib.cluster import protect

            # Of those that there is room for, all.
            workers = None if self.workers == "auto" else self.workers
            return protect(
                source, target, work.deidentifier, address=None if self.ray == ALONE else self.ray, told=warn,
                key_file=self.key_file, workers=workers, resources=resources_of(self.resources), **settings,
            )  # fmt: skip
        from deidlib.protect.remote import protect_remote

        return protect_remote(work.deidentifier, source, target, key=work.key, workers=self.workers, **settings)


class ProtectPage(Page):
    """The command with ``--ray [ADDRESS]``, which may stand alone: what follows it and is no address belongs to others.

    Example:
        >>> ProtectPage.spelled_out(["--ray", "in", "out"])
        ['--ray', 'local', 'in', 'out']
        >>> ProtectPage.spelled_out(["in", "out", "--ray", "head:6379"])
        ['in', 'out', '--ray', 'head:6379']
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command line."""
        return list(super().parse_args(ctx, self.spelled_out(args)))

    @staticmethod
    def spelled_out(args: Sequence[str]) -> list[str]:
        """The same words, with an address after each ``--ray``."""
        words: list[str] = []
        for number, word in enumerate(args):
            words.append(word)
            if word == "--ray" and not (number + 1 < len(args) and _ADDRESS.fullmatch(args[number + 1])):
                words.append(ALONE)
        return words


def is_url(word: str) -> bool:
    """Whether a word names a store and what lies in it, and not a path.

    Example:
        >>> is_url("s3://bucket/clips"), is_url("C:/clips"), is_url("clips/a.mp4")
        (True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word) is not None


def resources_of(text: str | None) -> dict[str, Any]:
    """What ``--resources`` means, in Ray's words.

    Args:
        text: names and numbers: ``num_cpus``, ``num_gpus``, ``memory`` in bytes, and what else nodes have.

    Raises:
        ValueError: a name without a number, or a number below zero.

    Example:
        >>> resources_of("num_gpus=0.25,memory=4e9,scratch=1")
        {'num_gpus': 0.25, 'memory': 4000000000.0, 'resources': {'scratch': 1.0}}
    """
    found: dict[str, Any] = {}
    for word in (text or "").split(","):
        if not word.strip():
            continue
        name, _, number = word.strip().partition("=")
        try:
            amount = float(number)
        except ValueError:
            amount = -1.0
        if not name or not 0 <= amount < float("inf"):
            raise ValueError(
                f"--resources {text!r}: {word.strip()!r} is no resource. Try num_gpus=0.25, or num_cpus=2,memory=4e9."
            )
        if name in ("num_cpus", "num_gpus", "memory"):
            found[name] = amount
        else:
            found.setdefault("resources", {})[name] = amount
    return found


def _tell(work: Work, result: ClipResult) -> None:
    if result.error is not None:
        warn(f"error: {result.error}")
    elif result.summary is not None:
        work.tell(result.source, result.target, result.summary)
        if work.key is not None:
            say(f"  only key {work.key.id} opens it: deidlib read {result.target} --key FILE")
