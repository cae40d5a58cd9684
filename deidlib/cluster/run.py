"""``protect``: all clips of a folder or a store, on an actor pool of Ray Data."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deidlib.cluster.errors import ClusterError, one_line, ray
from deidlib.cluster.nodes import selector, unfit_nodes
from deidlib.cluster.plan import ClusterPlan, shipped
from deidlib.cluster.worker import ClipWorker
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.outcome import ClipResult, RunSummary
from deidlib.protect.output import Output
from deidlib.protect.remote_pairs import RemotePair
from deidlib.storage.place import Place

# Clips that are known at a time, at least, and for each worker: when all are done, those that wait for the last of them
# have nothing to do, which is 6 % of the time of a thousand (docs/scale.md).
_WINDOW, _EACH = 10_000, 50
# Workers that may die over a clip before it is given up: it may be what kills them.
_LIVES = 3
# Whoever was not done, since its node was unfit or another process had it, is tried again.
_ROUNDS = 3


def protect(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    deidentifier: Deidentifier,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    key_file: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    scratch: str | Path | None = None,
    patience: float = 60.0,
    resources: Mapping[str, Any] | None = None,
    per_task: int = 1,
    address: str | None = None,
    done: Callable[[ClipResult], object] | None = None,
    told: Callable[[str], object] | None = None,
) -> RunSummary:
    """Protect clips on a cluster of Ray: the same files as on one machine.

    Ray places an actor on every share of the cluster's resources, gives each one clip after the other, and gives a clip
    to another one when an actor or its node dies. An output appears whole, once it is checked; whoever is killed leaves
    nothing under its name, and on a folder that all nodes see the next one goes on after the last complete segment.
    What is finished is not done again: as :func:`~deidlib.protect.protect_folder` for paths, and
    :func:`~deidlib.protect.remote.protect_remote` for URLs, whose runs may be continued by this one and the other way
    round.

    Args:
        paths: a file or folder, by path or URL, or several of them.
        out: the file, or the folder for the outputs. Of several inputs, each has its own name in it.
        deidentifier: what happens to the frames. It is sent to each node once; each actor has one.
        output: how videos are written.
        check: what the files must show their authorised readers; None: they are not read back.
        key_file: where every node finds the key; it is read there, and sent to nobody.
        batch_size: as for :func:`~deidlib.protect_video`.
        workers: actors; by default as many as the nodes that are there have room for.
        options: as for :func:`~deidlib.protect_video`.
        scratch: where clips of a store lie while they are worked on; by default in each node's folder for temporary
            files. On a disk that nodes share, a clip that was interrupted goes on wherever it is done next.
        patience: seconds for which a store that does not answer is asked again.
        resources: of one actor, in Ray's words: ``num_cpus`` (1 by default), ``num_gpus``, which may be a fraction,
            ``memory`` in bytes, and whatever else ``Dataset.map`` takes. With a GPU, the models work on it.
        per_task: clips, rather pictures, that one actor is given at a time: many short ones take less of Ray's time.
        address: of the cluster; by default the one that this program is connected to, or else Ray is started on this
            machine, and stopped afterwards.
        done: told what became of it, of each clip, in the order in which they end.
        told: told in a line what is wrong with a node.

    Returns:
        What became of all, in numbers, with the names of those that failed; one that fails stops no other.

    Raises:
        ClusterError: Ray is not installed, does not answer, or none of its nodes can do the work.
        MediaError: there is nothing to be protected, or the outputs would lie among the inputs.
        StorageError: a store is not known, or its folder cannot be listed.

    Example:
        >>> from deidlib import MTCNN, recommended
        >>> hide = Deidentifier(recommended([MTCNN()]))
        >>> protect("s3://clips/day", "s3://safe/day", hide, resources={"num_gpus": 0.25})  # doctest: +SKIP
        RunSummary(finished=720, ...)
    """
    if per_task < 1 or (workers is not None and workers < 1):
        raise ValueError(f"per_task and workers must be at least 1, got {per_task} and {workers}.")
    plans = _plans(
        paths, str(out), output=output, check=check, batch_size=batch_size, patience=patience,
        options=dict(options or {}),
        key_file=None if key_file is None else str(Path(key_file).absolute()),
        scratch=None if scratch is None else str(Path(scratch).absolute()),
    )  # fmt: skip
    summary, packed = RunSummary(), shipped(deidentifier)
    # Before Ray is started: what makes no sense is told at once.
    todo = [(plan, _peeked(plan.pairs(summary))) for plan in plans]
    with _connected(address):
        # Once for all nodes, each of which fetches it once.
        reference = ray().put(packed)
        for plan, pairs in todo:
            pool = _Pool(plan, reference, dict(resources or {}), workers, per_task, told)
            size = max(_WINDOW, _EACH * pool.room())
            while window := list(itertools.islice(pairs, size)):
                for result in pool.run(window):
                    summary.add(result)
                    if done is not None:
                        done(result)
    return summary


class _Pool:
    """Actors for the clips of a plan."""

    def __init__(
        self,
        plan: ClusterPlan,
        packed: Any,
        resources: dict[str, Any],
        workers: int | None,
        per_task: int,
        told: Callable[[str], object] | None,
    ) -> None:
        self.plan, self.packed, self.per_task, self.workers = plan, packed, per_task, workers
        self.resources = {"num_cpus": 1} | resources
        self.told = told
        self.unfit: dict[str, str] = {}
        for node, why in unfit_nodes(plan).items():
            self._exclude(node, why)

    def run(self, pairs: Sequence[RemotePair]) -> Iterator[ClipResult]:
        """Do these clips, and what could not be done once more."""
        left = list(pairs)
        for round_ in range(_ROUNDS):
            last, again = round_ == _ROUNDS - 1, list[RemotePair]()
            waiting = dict(enumerate(left))
            for row in self._rows(left):
                result: ClipResult | None = pickle.loads(row["result"])
                pair = waiting.pop(row["number"])
                if row["unfit"]:
                    self._exclude(row["node"], f"node {row['node'][:12]}: {row['unfit']}")
                if result is None or (result.elsewhere and not last):
                    again.append(pair)
                else:
                    yield result
            left = [*again, *waiting.values()]
            if not left:
                return
        for pair in left:
            source, target = (
                str(place / name) if name else str(place)
                for place, name in zip(self.plan.places, (pair.source, pair.target), strict=True)
            )
            error = f"{source}: its worker died each time that it was tried; it may take more memory than there is."
            yield ClipResult(source, target, error=error)

    def _rows(self, pairs: Sequence[RemotePair]) -> Iterable[dict[str, Any]]:
        data = ray().data
        rows = [{"number": k, "source": pair.source, "target": pair.target} for k, pair in enumerate(pairs)]
        blocks = -(-len(rows) // self.per_task)
        actors = min(self.room(), blocks)
        clips = data.from_items(rows, override_num_blocks=blocks).map(
            ClipWorker,
            fn_constructor_args=(self.plan, self.packed, max(1, int(self.resources["num_cpus"]))),
            # A clip takes minutes: none is to wait for one actor while another has nothing to do.
            compute=data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            max_restarts=-1,
            max_task_retries=_LIVES,
            **self.resources,
            **selector(self.unfit),
        )
        try:
            yield from clips.iter_rows()
        except Exception as error:
            raise ClusterError(f"the cluster gave up: {one_line(error)} The same call goes on.") from error

    def room(self) -> int:
        """How many actors there are to be: as many as was said, or as the nodes that are there have room for.

        Raises:
            ClusterError: for none.
        """
        if self.workers is not None:
            return self.workers
        wanted = {"CPU": self.resources["num_cpus"], "GPU": self.resources.get("num_gpus", 0)}
        wanted |= {"memory": self.resources.get("memory", 0)} | self.resources.get("resources", {})
        wanted = {name: amount for name, amount in wanted.items() if amount}
        room = 0
        for node in ray().nodes():
            if node["Alive"] and node["NodeID"] not in self.unfit and wanted:
                room += int(min(node["Resources"].get(name, 0) / amount for name, amount in wanted.items()))
        if room < 1:
            raise ClusterError(
                f"no node has room for a worker, which asks for {wanted}. Ask for less, or say how many workers there "
                "are to be, if the cluster will grow."
            )
        return room

    def _exclude(self, node: str, why: str) -> None:
        if node in self.unfit:
            return
        self.unfit[node] = why
        if self.told is not None:
            self.told(f"{why}; it does nothing.")
        alive = {node["NodeID"] for node in ray().nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0}
        if alive <= self.unfit.keys():
            raise ClusterError(f"no node can do the work: {'; '.join(sorted(set(self.unfit.values())))}.")


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster, or to a Ray of our own, which ends with the run."""
    ours = not ray().is_initialized()
    if ours:
        # Nobody is told about runs of ours.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _reached(address)
            ray().init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise ClusterError(
                f"no Ray cluster answers at {address or 'this machine'} ({one_line(error)}). Start one with `ray start "
                "--head`, or leave the address out."
            ) from error
    context = ray().data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    # A clip whose worker dies again and again is named at the end, and does not end the run.
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.max_errored_blocks, context.enable_progress_bars = before
        if ours:
            ray().shutdown()


def _reached(address: str | None) -> None:
    """Ray itself would try for minutes.

    Raises:
        OSError: nobody listens there.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _plans(paths: str | Path | Sequence[str | Path], out: str, **settings: Any) -> list[ClusterPlan]:
    """One for a file or folder; of several, one each, with its own name in the folder for outputs."""
    if isinstance(paths, str | Path):
        return [ClusterPlan(_absolute(str(paths)), _absolute(out), **settings)]
    plans: dict[str, ClusterPlan] = {}
    for path in paths:
        plan = ClusterPlan(_absolute(str(path)), _absolute(f"{out}/{Place(str(path)).name}"), **settings)
        if plan.places[0].stat() is not None:
            raise ValueError(f"{path} is a file, and one of several inputs. Name the folders that they lie in.")
        if plan.target in plans:
            raise ValueError(
                f"{plans[plan.target].source} and {plan.source} would both be written to {plan.target}. Rename one."
            )
        plans[plan.target] = plan
    if not plans:
        raise ValueError("no paths are given; expected a file, a folder, or several.")
    return list(plans.values())


def _absolute(path: str) -> str:
    """Nodes work in folders of their own."""
    local = Place(path).local
    if Place(path).scheme == "memory":
        raise ClusterError(f"{path} is in the memory of this process, where no node can look. Give a store or a path.")
    return path if local is None else str(local)


def _peeked(pairs: Iterator[RemotePair]) -> Iterator[RemotePair]:
    """The same pairs; the first is looked for now, so that what makes no sense is told before any work."""
    first = list(itertools.islice(pairs, 1))
    return itertools.chain(first, pairs)
