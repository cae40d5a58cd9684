"""``nms``: of boxes that overlap, the best; torchvision's, without what else torchvision loads."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.images import widest


def nms(boxes: Tensor, scores: Tensor, threshold: float, owner: Tensor | None = None) -> Tensor:
    """Greedy suppression by IoU: the best box stays, those that it overlaps fall, and so on with the best that is left.

    Args:
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``.
        threshold: IoU above which the worse of two falls.
        owner: ``(N,)`` long; only boxes of one owner make each other fall. One owner if not given.

    Returns:
        ``(K,)`` long, the boxes that stay, best first.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 0.0, 9.0, 9.0], [20.0, 0.0, 29.0, 9.0]])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)
        tensor([1, 2])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5, owner=torch.tensor([0, 1, 0]))
        tensor([1, 0, 2])
    """
    if owner is not None and len(boxes):
        # Owners are moved apart, by numbers so precise that it does not round those of a late one.
        boxes, scores = (values.to(widest(boxes.device)) for values in (boxes, scores))
        boxes = boxes + (owner.to(boxes) * (boxes.amax() - boxes.amin() + 1))[:, None]
    kept: Tensor = _operator()(boxes, scores, threshold)
    return kept


@cache
def _operator() -> Any:
    """torchvision's operator.

    ``import torchvision`` takes as long as torch itself, since all of its models and torch's compiler come with it;
    the library that holds its operators is loaded in no time.
    """
    package = None if "torchvision" in sys.modules else find_spec("torchvision")
    for folder in (package and package.submodule_search_locations) or ():
        for library in sorted(Path(folder).glob("_C*")):
            # Whatever another version calls it, or another system lacks: torchvision itself is asked below.
            with suppress(OSError):
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    with suppress(AttributeError):
        return torch.ops.torchvision.nms
    import_module("torchvision")
    return torch.ops.torchvision.nms
