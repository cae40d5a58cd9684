"""Metrics: what a protected video still shows, and to whom. Functions first; classes only count."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deidlib.metrics.alignment import ARCFACE_TEMPLATE as ARCFACE_TEMPLATE
from deidlib.metrics.alignment import align as align
from deidlib.metrics.alignment import similarity as similarity
from deidlib.metrics.difference import Difference as Difference
from deidlib.metrics.difference import Miss as Miss
from deidlib.metrics.difference import difference as difference
from deidlib.metrics.embedders import Embedder as Embedder
from deidlib.metrics.embedders import FacenetEmbedder as FacenetEmbedder
from deidlib.metrics.embedders import OnnxEmbedder as OnnxEmbedder
from deidlib.metrics.functional import face_size as face_size
from deidlib.metrics.functional import gaze_angle as gaze_angle
from deidlib.metrics.functional import head_pose_angle as head_pose_angle
from deidlib.metrics.functional import in_units_of as in_units_of
from deidlib.metrics.functional import interocular_distance as interocular_distance
from deidlib.metrics.functional import landmark_distance as landmark_distance
from deidlib.metrics.functional import nme_box as nme_box
from deidlib.metrics.functional import nme_interocular as nme_interocular
from deidlib.metrics.movement import movement as movement
from deidlib.metrics.pairing import Pairing as Pairing
from deidlib.metrics.pairing import pair as pair
from deidlib.metrics.signals import Agreement as Agreement
from deidlib.metrics.signals import agreement as agreement
from deidlib.metrics.verification import accept_rate as accept_rate
from deidlib.metrics.verification import accept_threshold as accept_threshold
from deidlib.metrics.verification import auc as auc
from deidlib.metrics.verification import cosine as cosine
from deidlib.metrics.verification import rank1 as rank1
from deidlib.metrics.verification import true_accept_rate as true_accept_rate

if TYPE_CHECKING:
    from deidlib.metrics.diffscore import DiffScore as DiffScore
    from deidlib.metrics.diffscore import NormalisedDiffScore as NormalisedDiffScore
    from deidlib.metrics.identity import Attacker as Attacker
    from deidlib.metrics.identity import Linkage as Linkage
    from deidlib.metrics.identity import Naive as Naive
    from deidlib.metrics.identity import Parrot as Parrot
    from deidlib.metrics.identity import ReIdentification as ReIdentification
    from deidlib.metrics.quality import LPIPS as LPIPS
    from deidlib.metrics.quality import ImageQuality as ImageQuality
    from deidlib.metrics.quality import flicker as flicker
    from deidlib.metrics.quality import psnr as psnr
    from deidlib.metrics.quality import ssim as ssim
    from deidlib.metrics.reading_difference import ReadingDifference as ReadingDifference
    from deidlib.metrics.temporal_fidelity import Fidelity as Fidelity
    from deidlib.metrics.temporal_fidelity import FollowedFace as FollowedFace
    from deidlib.metrics.temporal_fidelity import TemporalFidelity as TemporalFidelity
    from deidlib.metrics.temporal_fidelity import fidelities as fidelities

# What counts is loaded on first use: torchmetrics takes seconds to import, and an attack needs only the functions.
_COUNTING = {
    "DiffScore": "diffscore",
    "NormalisedDiffScore": "diffscore",
    "Attacker": "identity",
    "Linkage": "identity",
    "Naive": "identity",
    "Parrot": "identity",
    "ReIdentification": "identity",
    "LPIPS": "quality",
    "ImageQuality": "quality",
    "flicker": "quality",
    "psnr": "quality",
    "ssim": "quality",
    "ReadingDifference": "reading_difference",
    "Fidelity": "temporal_fidelity",
    "FollowedFace": "temporal_fidelity",
    "TemporalFidelity": "temporal_fidelity",
    "fidelities": "temporal_fidelity",
}


def __getattr__(name: str) -> Any:
    if name in _COUNTING:
        return getattr(import_module(f"{__name__}.{_COUNTING[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
