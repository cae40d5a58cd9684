"""Verification and identification from embeddings: cosine, thresholds, accept rates, rank 1.

A face of which the attacker gets no embedding is a row of NaN: it is never accepted and never identified, and counts
as such.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from deidlib.images import in_double
from deidlib.nets.precision import full_precision


@full_precision()
def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between every embedding in ``a`` and every one in ``b``.

    Args:
        a: ``(N, D)``.
        b: ``(M, D)``.

    Returns:
        ``(N, M)`` in [-1, 1]; NaN where a row is.

    Example:
        >>> cosine(torch.tensor([[2., 0.]]), torch.tensor([[1., 0.], [0., 5.], [-3., 0.]]))
        tensor([[ 1.,  0., -1.]])
    """
    return (normalize(a, dim=-1) @ normalize(b, dim=-1).mT).clamp(-1, 1)


def accept_threshold(impostors: Tensor, false_accept_rate: float) -> Tensor:
    """The lowest threshold at which no more than a share of impostor pairs is accepted.

    Args:
        impostors: ``(K,)`` cosines of pairs of different people; NaN is left out.
        false_accept_rate: in [0, 1). With fewer than 1 / rate pairs none may be accepted.

    Returns:
        Zero-dimensional; a pair is accepted if its cosine is *above* it. NaN without impostors.

    Raises:
        ValueError: the rate is not in [0, 1).

    Example:
        >>> accept_threshold(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.25)
        tensor(0.3000)
    """
    if not 0 <= false_accept_rate < 1:
        raise ValueError(f"false_accept_rate must lie in [0, 1), got {false_accept_rate}.")
    known = impostors[~impostors.isnan()].flatten().sort(descending=True).values
    if not len(known):
        return impostors.new_tensor(torch.nan)
    # A rate of k / K allows k, whatever the rounding of their product.
    return known[int(false_accept_rate * len(known) + 1e-9)]


def accept_rate(cosines: Tensor, threshold: Tensor | float) -> Tensor:
    """The share of pairs accepted, those without an embedding included.

    Args:
        cosines: ``(K,)``; NaN is not accepted.
        threshold: pairs above it are accepted.

    Returns:
        Zero-dimensional in [0, 1]; NaN without pairs or threshold.

    Example:
        >>> accept_rate(torch.tensor([0.2, 0.5, 0.9, torch.nan]), 0.3)
        tensor(0.5000)
    """
    accepted = (cosines > threshold).to(cosines.dtype).mean()
    return accepted + 0 * torch.as_tensor(threshold).to(accepted)


def true_accept_rate(genuine: Tensor, impostors: Tensor, false_accept_rate: float) -> Tensor:
    """TAR at FAR: the share of pairs of one person accepted where that of different people is at most the rate.

    Args:
        genuine: ``(K,)`` cosines of pairs of one person; NaN is not accepted.
        impostors: ``(L,)`` cosines of pairs of different people.
        false_accept_rate: in [0, 1).

    Returns:
        Zero-dimensional in [0, 1]; NaN without pairs.

    Example:
        >>> true_accept_rate(torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.1, 0.3]), 0.0)
        tensor(0.6667)
    """
    return accept_rate(genuine, accept_threshold(impostors, false_accept_rate))


def auc(genuine: Tensor, impostors: Tensor) -> Tensor:
    """The area under the ROC curve: how often a pair of one person is more alike than a pair of two; equals count half.

    Args:
        genuine: ``(K,)`` cosines of pairs of one person; NaN, no embedding, is less than anything.
        impostors: ``(L,)`` cosines of pairs of different people; likewise.

    Returns:
        Zero-dimensional float64 in [0, 1]: 0.5 is chance. NaN without pairs.

    Example:
        >>> auc(torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.2]))
        tensor(0.8750, dtype=torch.float64)
    """
    if not len(genuine) or not len(impostors):
        return in_double(genuine.new_tensor(torch.nan))
    known = in_double(genuine).nan_to_num(nan=-torch.inf)
    ordered = in_double(impostors).nan_to_num(nan=-torch.inf).sort().values
    below, upto = (torch.searchsorted(ordered, known, right=right).double() for right in (False, True))
    return (below + upto).mean() / (2 * len(ordered))


def rank1(cosines: Tensor, probes: Tensor, gallery: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Whether the most similar entry of the gallery shows the person that the probe shows.

    Args:
        cosines: ``(N, M)`` of probes and gallery.
        probes: ``(N,)`` long, who each probe is.
        gallery: ``(M,)`` long, who each entry is.
        excluded: ``(N, M)`` bool, pairs that do not count: a probe's own picture, say.

    Returns:
        ``(N,)``: 1 or 0, NaN where the gallery has no entry of the person. Between equals the wrong one counts.

    Example:
        >>> rank1(torch.tensor([[0.9, 0.1], [0.8, 0.3]]), torch.tensor([7, 8]), torch.tensor([7, 8]))
        tensor([1., 0.])
    """
    same = probes[:, None] == gallery[None]
    usable = torch.ones_like(same) if excluded is None else ~excluded
    score = cosines.nan_to_num(nan=-torch.inf)
    low = score.new_full((len(probes), 1), -torch.inf)
    best_same = torch.cat([score.where(usable & same, low), low], dim=1).amax(dim=1)
    best_other = torch.cat([score.where(usable & ~same, low), low], dim=1).amax(dim=1)
    hit = (best_same > best_other).to(cosines.dtype)
    return hit.where((usable & same).any(dim=1), hit.new_tensor(torch.nan))
