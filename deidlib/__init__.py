"""De-identify faces in images and video while authorised models still read box, landmarks and gaze."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deidlib.attack import AttackResult as AttackResult
    from deidlib.attack import IFGSMAttacker as IFGSMAttacker
    from deidlib.combinations import GradientNorm as GradientNorm
    from deidlib.combinations import Staged as Staged
    from deidlib.combinations import Sum as Sum
    from deidlib.faces import Faces as Faces
    from deidlib.regions import FaceRegion as FaceRegion
    from deidlib.steps import AutoStep as AutoStep
    from deidlib.steps import MomentumSignStep as MomentumSignStep
    from deidlib.steps import OptimizerStep as OptimizerStep
    from deidlib.steps import SignStep as SignStep
    from deidlib.steps import StepRule as StepRule
    from deidlib.targets.base import Target as Target
    from deidlib.targets.base import TargetModel as TargetModel
    from deidlib.targets.base import observe as observe

__version__ = "0.1.0"

# Loaded on first use, so that `import deidlib` stays quick whatever a block depends on.
_HOME = {
    "AttackResult": "attack",
    "AutoStep": "steps",
    "FaceRegion": "regions",
    "Faces": "faces",
    "GradientNorm": "combinations",
    "IFGSMAttacker": "attack",
    "MomentumSignStep": "steps",
    "OptimizerStep": "steps",
    "SignStep": "steps",
    "Staged": "combinations",
    "StepRule": "steps",
    "Sum": "combinations",
    "Target": "targets.base",
    "TargetModel": "targets.base",
    "observe": "targets.base",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
