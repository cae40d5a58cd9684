"""Which nodes of a cluster can do the work, asked before it begins."""

from __future__ import annotations

from typing import Any

from deidlib.cluster.errors import one_line, ray
from deidlib.cluster.plan import ClusterPlan, mismatch, unseen

# Seconds for a node to start a process and answer.
_PATIENCE = 120


def unfit_nodes(plan: ClusterPlan) -> dict[str, str]:
    """The nodes that cannot do the work, by their id, with the reason in one line.

    Args:
        plan: the work.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    key_file = plan.key_file
    source = None if plan.shared is None else str(plan.shared[0])

    # A function within a function goes to the node as it is: there may be another deidlib, or none.
    def look() -> tuple[str | None, str | None, bool]:
        import os
        from importlib import metadata

        try:
            version: str | None = metadata.version("deidlib")
        except metadata.PackageNotFoundError:
            version = None
        wrong = None
        if key_file is not None and version is not None:
            from deidlib.keys.key import Key, KeyFileError

            try:
                Key.load(key_file)
            except KeyFileError as error:
                wrong = str(error)
        return version, wrong, source is None or os.path.exists(source)

    asked = {}
    for node in ray().nodes():
        # The head of a cluster often has no processors to work with.
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeID"]] = (
                node["NodeManagerAddress"],
                ray().remote(look).options(num_cpus=0, scheduling_strategy=place, max_retries=1).remote(),
            )
    unfit: dict[str, str] = {}
    for node_id, (address, answer) in asked.items():
        why = _why(plan, answer)
        if why is not None:
            unfit[node_id] = f"node {address}: {why}"
    return unfit


def selector(unfit: dict[str, str]) -> dict[str, Any]:
    """What keeps actors from nodes that cannot do the work."""
    return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(unfit))})"}} if unfit else {}


def _why(plan: ClusterPlan, answer: Any) -> str | None:
    try:
        version, wrong, seen = ray().get(answer, timeout=_PATIENCE)
    except Exception as error:
        return f"it does not answer: {one_line(error)}"
    return (
        mismatch({"deidlib": version}, plan.versions)
        or wrong
        or (None if seen or plan.shared is None else unseen(plan.shared[0]))
    )
