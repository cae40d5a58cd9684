"""``ReIdentification``: whether a protected face is still recognised, by three kinds of attacker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deidlib.faces import Faces
from deidlib.images import check_images
from deidlib.metrics.alignment import align
from deidlib.metrics.embedders import Embedder
from deidlib.metrics.pairing import pair
from deidlib.metrics.verification import accept_rate, accept_threshold, cosine, rank1, true_accept_rate
from deidlib.nets.precision import full_precision


class Attacker(Protocol):
    """What an attacker compares protected faces with."""

    def gallery(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces]) -> Tensor:
        """The pictures that he has of the people, one for each frame.

        Args:
            originals: ``(B, 3, H, W)`` the original frames.
            protected: ``(B, 3, H, W)`` the protected ones.
            faces: B entries, the originals' faces.

        Returns:
            ``(B, 3, H, W)``, with the faces where they are in the originals.
        """
        ...


@dataclass(frozen=True)
class Naive:
    """He compares with clear pictures."""

    def gallery(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces]) -> Tensor:
        """The originals."""
        return originals


@dataclass(frozen=True)
class Parrot:
    """He knows the method and hides the faces of his clear pictures in the same way before he compares.

    Args:
        hide: ``(images, faces) -> images``: an obfuscator, or the whole protection.
    """

    hide: Callable[[Tensor, Sequence[Faces]], Tensor]

    def gallery(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces]) -> Tensor:
        """The originals, hidden by him."""
        return self.hide(originals, faces)


@dataclass(frozen=True)
class Linkage:
    """He has no pictures; he wants to know which protected faces are one person."""

    def gallery(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces]) -> Tensor:
        """The protected frames themselves."""
        return protected


class ReIdentification(Metric):
    """How well an attacker with a recogniser tells who is behind a protected face.

    A face is never compared with the picture that its own frame has in the gallery: the attacker has other pictures
    of the person. (How alike a protected face and its own original are is ``cosine_same``.) The more people, the more
    the rates mean: there must be two for a threshold at all.

    Embeddings are kept until the metric is computed, and all are compared with all: for a long video take a frame in
    ten.

    Args:
        embedder: the recogniser.
        attacker: ``Naive()``, ``Parrot(hide)``, ``Linkage()``, or anything with a ``gallery``.
        false_accept_rate: the share of pairs of different people that may be taken for one.

    Raises:
        ValueError: the rate is not in [0, 1).
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    clear: list[Tensor]
    probes: list[Tensor]
    entries: list[Tensor]
    identity: list[Tensor]

    def __init__(
        self, embedder: Embedder, attacker: Attacker | None = None, *, false_accept_rate: float = 1e-3
    ) -> None:
        super().__init__()
        if not 0 <= false_accept_rate < 1:
            raise ValueError(f"false_accept_rate must lie in [0, 1), got {false_accept_rate}.")
        self.embedder = embedder
        self.attacker: Attacker = Naive() if attacker is None else attacker
        self.false_accept_rate = false_accept_rate
        for state in ("clear", "probes", "entries", "identity"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @full_precision()
    @torch.no_grad()
    def update(
        self,
        originals: Tensor,
        protected: Tensor,
        faces: Sequence[Faces],
        identities: Sequence[Sequence[int]],
        *,
        found: Sequence[Faces] | None = None,
    ) -> None:
        """Add frames. Call it once for each source: frames of different sizes and people add up.

        Args:
            originals: ``(B, 3, H, W)`` RGB in [0, 1].
            protected: ``(B, 3, H, W)`` the same frames, protected.
            faces: B entries, the originals' faces with landmarks.
            identities: B entries, who each face is, by a number of one's own.
            found: B entries, the faces that the attacker finds in the protected frames himself; a face that he does
                not find he cannot compare. If not given, he is told where the points of the originals are, which is
                the best that can happen to him.

        Raises:
            TypeError, ValueError: images are no batch, lengths or shapes do not agree, or faces lack landmarks.
        """
        check_images(originals, name="originals")
        check_images(protected, name="protected")
        if originals.shape != protected.shape:
            raise ValueError(
                f"protected must have the shape of originals, {tuple(originals.shape)}, got {tuple(protected.shape)}."
            )
        if len(faces) != len(originals) or (found is not None and len(found) != len(originals)):
            raise ValueError(
                f"expected one Faces per frame: {len(originals)} frames, got {len(faces)} of the originals"
                + ("." if found is None else f" and {len(found)} found.")
            )
        if [len(people) for people in identities] != [len(known) for known in faces]:
            raise ValueError(
                f"identities must name every face of every frame: there are {[len(known) for known in faces]} faces, "
                f"got {[len(people) for people in identities]} names."
            )
        clear = self.embedder(align(originals, faces))
        if found is None:
            probes = self.embedder(align(protected, faces))
        else:
            probes = _embed_found(self.embedder, protected, faces, found, clear)
        pictures = self.attacker.gallery(originals, protected, faces)
        if pictures is originals:
            entries = clear
        elif pictures is protected:
            entries = probes
        else:
            check_images(pictures, name="the attacker's gallery")
            entries = self.embedder(align(pictures, faces))
        names = torch.tensor([name for people in identities for name in people], dtype=torch.long)
        for state, rows in (
            (self.clear, clear), (self.probes, probes), (self.entries, entries), (self.identity, names)
        ):  # fmt: skip
            state.append(rows.detach().to(self.device))

    @full_precision()
    def compute(self) -> dict[str, Tensor]:
        """What the attacker achieves.

        Returns:
            Zero-dimensional tensors, NaN where there are no such pairs:

            - ``cosine_same``: mean cosine of a protected face and the clear face of its own frame.
            - ``cosine_genuine``, ``cosine_impostor``: mean cosine of protected faces and gallery entries of the same
              and of other people.
            - ``threshold``: the cosine above which the attacker takes two faces for one person, so that the accept
              rate among *clear* faces of different people is at most ``false_accept_rate``; ``clear_accepted``: the
              share of clear pairs of one person accepted then.
            - ``accepted``, ``accepted_same``, ``false_accepted``: share of genuine pairs, of protected faces with their
              own clear face, and of pairs of different people, accepted at that threshold. Hidden faces look alike: a
              high ``accepted`` with as high a ``false_accepted`` tells him nothing.
            - ``tar``: share of genuine pairs accepted if he chooses his threshold by protected pairs instead.
            - ``rank1``: share of protected faces whose most similar entry is the right person; ``chance``: what
              picking an entry blindly would give.
            - ``acquired``: share of faces that could be compared; ``faces``, ``genuine``, ``impostors``: how many
              faces and pairs.
        """
        clear, probes, entries, identity = self._rows()
        same_face = torch.eye(len(identity), dtype=torch.bool, device=identity.device)
        same_person = identity[:, None] == identity[None]
        genuine, impostor = same_person & ~same_face, ~same_person
        known = cosine(clear, clear)
        scores = cosine(probes, entries)
        own = _row_cosine(probes, clear)
        threshold = accept_threshold(known[impostor], self.false_accept_rate)
        hits = rank1(scores, identity, identity, same_face)
        others = (~same_face).sum(dim=1)
        chance = (genuine.sum(dim=1) / others)[genuine.any(dim=1)]
        return {
            "cosine_same": own.nanmean(),
            "cosine_genuine": scores[genuine].nanmean(),
            "cosine_impostor": scores[impostor].nanmean(),
            "threshold": threshold,
            "clear_accepted": accept_rate(known[genuine], threshold),
            "accepted": accept_rate(scores[genuine], threshold),
            "accepted_same": accept_rate(own, threshold),
            "false_accepted": accept_rate(scores[impostor], threshold),
            "tar": true_accept_rate(scores[genuine], scores[impostor], self.false_accept_rate),
            "rank1": hits.nanmean(),
            "chance": chance.mean(),
            "acquired": (~own.isnan()).to(own.dtype).mean(),
            "faces": own.new_tensor(float(len(identity))),
            "genuine": own.new_tensor(float(genuine.sum())),
            "impostors": own.new_tensor(float(impostor.sum())),
        }

    @full_precision()
    def per_face(self) -> dict[str, Tensor]:
        """The values of each face, in the order of frames and faces.

        Returns:
            ``(F,)`` by name: ``identity`` as given; ``cosine_same`` with its own clear face, NaN if it was not
            acquired; ``identified``, 1 or 0, whether the most similar entry is the right person, NaN if there is no
            other picture of that person.
        """
        clear, probes, entries, identity = self._rows()
        same_face = torch.eye(len(identity), dtype=torch.bool, device=identity.device)
        return {
            "identity": identity,
            "cosine_same": _row_cosine(probes, clear),
            "identified": rank1(cosine(probes, entries), identity, identity, same_face),
        }

    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if isinstance(self.identity, list) and not self.identity:
            none = torch.zeros(0, 1, device=self.device)
            return none, none, none, torch.zeros(0, dtype=torch.long, device=self.device)
        clear, probes, entries, identity = (
            dim_zero_cat(state) for state in (self.clear, self.probes, self.entries, self.identity)
        )
        return clear, probes, entries, identity


def _embed_found(
    embedder: Embedder, images: Tensor, faces: Sequence[Faces], found: Sequence[Faces], like: Tensor
) -> Tensor:
    """Embeddings of ``faces`` by the points of those ``found`` where they are; NaN for a face that is not found."""
    vectors = torch.full_like(like, torch.nan)
    rows: list[int] = []
    chosen: list[Faces] = []
    start = 0
    for known, seen in zip(faces, found, strict=True):
        pairing = pair(known, seen)
        rows += (start + pairing.original).tolist()
        chosen.append(seen[pairing.protected.to(seen.boxes.device)])
        start += len(known)
    if rows:
        vectors[rows] = embedder(align(images, chosen)).to(vectors)
    return vectors


def _row_cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)
