"""``ClipWorker``: an actor, which loads the weights once and then does clip after clip."""

from __future__ import annotations

import pickle
import time
from typing import Any

import torch

from deidlib.cluster.errors import one_line, ray
from deidlib.cluster.plan import Clips, ClusterPlan, unpacked
from deidlib.media.threads import limit_threads
from deidlib.protect.remote_pairs import RemotePair

# Seconds: a node that can do nothing must not be the quickest to answer for all clips.
_PAUSE = 3.0


class ClipWorker:
    """What Ray Data starts on the nodes, one on each share of their resources.

    Args:
        plan: the work.
        packed: a reference to the deidentifier's bytes, which each node fetches once.
        threads: for PyTorch, and for each file that FFmpeg reads or writes.
    """

    def __init__(self, plan: ClusterPlan, packed: Any, threads: int) -> None:
        self.node = ray().get_runtime_context().get_node_id()
        self.work: Clips | None = None
        self.unfit: str | None = None
        try:
            torch.set_num_threads(threads)
            limit_threads(threads)
            device = "cuda" if ray().get_gpu_ids() and torch.cuda.is_available() else "cpu"
            self.work = plan.open(unpacked(ray().get(packed), device))
        except Exception as error:
            self.unfit = one_line(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the clip of a row; whatever is wrong is said in the result.

        Args:
            row: its ``number``, and ``source`` and ``target`` below the folders.

        Returns:
            The number, the ``node``, why it is ``unfit`` (empty if it is not), and the ``result``, pickled.
        """
        result = None
        if self.work is None:
            time.sleep(_PAUSE)
        else:
            result = self.work.one(RemotePair(row["source"], row["target"]))
        return {
            "number": row["number"],
            "node": self.node,
            "unfit": self.unfit or "",
            "result": pickle.dumps(result),
        }
