"""``Learned``: a classifier that an attacker trains on his own hidden pictures, or readings, of people."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from deidlib.metrics import auc
from deidlib.nets.precision import full_precision


@dataclass(frozen=True)
class Learned:
    """Learn people from vectors: a linear classifier, or a small network.

    Full-batch Adam on the cross-entropy, from a fixed seed, vectors standardised by those learnt from: the same data
    give the same classifier.

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
                torch.autograd.backward(cross_entropy(net(known), people))
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
        auc: how often a vector fits its own person better than one of another person fits him; 0.5 is chance.
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
        own = torch.zeros_like(scores, dtype=torch.bool)
        own[torch.arange(len(people)), people] = True
        # Not the first of equals: what is said of everybody alike knows nobody.
        best = scores.max(dim=1, keepdim=True).values
        hit = (scores == best).float()
        share = (hit * own).sum(dim=1) / hit.sum(dim=1)
        area = float(auc(scores[own], scores[~own]))
        return cls(float(share.mean()), 1 / scores.shape[1], area, len(people))
