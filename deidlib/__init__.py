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
    from deidlib.keys import Key as Key
    from deidlib.obfuscate import BoxBlur as BoxBlur
    from deidlib.obfuscate import GaussianBlur as GaussianBlur
    from deidlib.obfuscate import Pixelate as Pixelate
    from deidlib.obfuscate import Solid as Solid
    from deidlib.pipeline import Deidentifier as Deidentifier
    from deidlib.regions import FaceRegion as FaceRegion
    from deidlib.steps import AutoStep as AutoStep
    from deidlib.steps import MomentumSignStep as MomentumSignStep
    from deidlib.steps import OptimizerStep as OptimizerStep
    from deidlib.steps import SignStep as SignStep
    from deidlib.steps import StepRule as StepRule
    from deidlib.swap.base import FaceSwapper as FaceSwapper
    from deidlib.swap.warp import WarpSwapper as WarpSwapper
    from deidlib.targets.base import Target as Target
    from deidlib.targets.base import TargetModel as TargetModel
    from deidlib.targets.base import observe as observe
    from deidlib.targets.fan import FAN as FAN
    from deidlib.targets.gaze import GazeResNet as GazeResNet
    from deidlib.targets.keyed import Keyed as Keyed
    from deidlib.targets.mtcnn import MTCNN as MTCNN
    from deidlib.targets.retinaface import RetinaFace as RetinaFace
    from deidlib.video.errors import MediaError as MediaError
    from deidlib.video.images import read_image as read_image
    from deidlib.video.images import write_image as write_image
    from deidlib.video.reader import VideoReader as VideoReader
    from deidlib.video.writer import VideoWriter as VideoWriter
    from deidlib.warm_start import WarmStart as WarmStart

__version__ = "0.1.0"

# Loaded on first use, so that `import deidlib` stays quick whatever a block depends on.
_HOME = {
    "AttackResult": "attack",
    "AutoStep": "steps",
    "BoxBlur": "obfuscate",
    "Deidentifier": "pipeline",
    "FAN": "targets.fan",
    "FaceRegion": "regions",
    "FaceSwapper": "swap.base",
    "Faces": "faces",
    "GaussianBlur": "obfuscate",
    "GazeResNet": "targets.gaze",
    "GradientNorm": "combinations",
    "IFGSMAttacker": "attack",
    "Key": "keys",
    "Keyed": "targets.keyed",
    "MTCNN": "targets.mtcnn",
    "MediaError": "video.errors",
    "MomentumSignStep": "steps",
    "OptimizerStep": "steps",
    "Pixelate": "obfuscate",
    "RetinaFace": "targets.retinaface",
    "SignStep": "steps",
    "Solid": "obfuscate",
    "Staged": "combinations",
    "StepRule": "steps",
    "Sum": "combinations",
    "Target": "targets.base",
    "TargetModel": "targets.base",
    "VideoReader": "video.reader",
    "VideoWriter": "video.writer",
    "WarmStart": "warm_start",
    "WarpSwapper": "swap.warp",
    "observe": "targets.base",
    "read_image": "video.images",
    "write_image": "video.images",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
