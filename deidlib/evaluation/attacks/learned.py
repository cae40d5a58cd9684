"""``Learned``: a classifier that an attacker trains on his own hidden pictures, or readings, of people."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from deidlib.nets.precision import full_precision


@dataclass(frozen=True)
class Learned:
    """Learn people from vectors: a linear classifier, or a small network.

    Full-batch Adam on the cross-entropy, from a fixed seed, vectors standardised by those learnt from: the same data
    give the same classifier. A person counts as much as another, however many vectors of each there are: whom it has
    seen most is nothing that a vector tells.

    Args:
        hidden: width of the one hidden layer; None: linear.
        steps: of training.
        decay: weight decay.
    """

    hidden: int | None = None
    steps: int = 300
    decay: float = 0.05

    @full_precision()
    def scores(self, known: Tensor, people: Tensor, unknown: Tensor) -> Tensor:
        """Learn, and say of other vectors whom they show.

        Args:
            known: ``(N, D)``.
            people: ``(N,)`` long, who they show, counted from 0.
            unknown: ``(M, D)``.

        Returns:
            ``(M, P)`` log-probabilities of each person.

        Example:
            >>> known = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.1]])
            >>> Learned().scores(known, torch.tensor([0, 0, 1, 1]), known).argmax(dim=1)
            tensor([0, 0, 1, 1])
        """
        middle, spread = known.mean(dim=0), known.std(dim=0, correction=0).clamp(min=1e-6)
        known, unknown = (known - middle) / spread, (unknown - middle) / spread
        count = int(people.max()) + 1
        seen = (people[:, None] == torch.arange(count, device=people.device)).sum(dim=0)
        weights = torch.where(seen > 0, len(people) / (count * seen.clamp(min=1)), 0).to(known)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = known.shape[1]
            net = (
                nn.Sequential(nn.Linear(width, count))
                if self.hidden is None
                else nn.Sequential(nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, count))
            )
        # The first weights are drawn on the CPU: the same on every device.
        net.to(known)
        with torch.enable_grad():
            optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=self.decay)
            for _ in range(self.steps):
                optimiser.zero_grad()
                torch.autograd.backward(cross_entropy(net(known), people, weight=weights))
                optimiser.step()
        with torch.no_grad():
            said: Tensor = net(unknown).log_softmax(dim=1)
        return said


@dataclass(frozen=True)
class Identified:
    """How well vectors are told apart.

    Args:
        rank1: share whose most probable person is the right one.
        chance: one over the number of people.
        auc: how often a vector fits its own person better than one of another person fits him; 0.5 is chance, and nan
            where only one person is asked about.
        probes: how many were asked.
    """

    rank1: float
    chance: float
    auc: float
    probes: int

    @classmethod
    def of(cls, scores: Tensor, people: Tensor) -> Identified:
        """From scores.

        Args:
            scores: ``(M, P)``, as :meth:`Learned.scores` gives them.
            people: ``(M,)`` long, who they are.
        """
        # Not the first of equals: what is said of everybody alike knows nobody.
        hit = (scores == scores.max(dim=1, keepdim=True).values).float()
        share = hit.gather(1, people[:, None])[:, 0] / hit.sum(dim=1)
        # Row j, column i: what is said of vector j and the person of vector i. Persons are not compared with each
        # other: of one that is often learnt, more may be said of everybody.
        said = scores[:, people]
        own, other = said.diagonal(), people[:, None] != people[None]
        better = (own > said).to(said) + (own == said).to(said) / 2
        area = (better * other).sum(dim=0) / other.sum(dim=0)
        return cls(float(share.mean()), 1 / scores.shape[1], float(area.mean()), len(people))
