"""De-identify faces in images and video while authorised models still read box, landmarks and gaze."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deidlib.attack.aggregation import GradientNorm as GradientNorm
    from deidlib.attack.attacker import IFGSMAttacker as IFGSMAttacker
    from deidlib.attack.chain import Chain as Chain
    from deidlib.attack.presets import recommended as recommended
    from deidlib.attack.result import AttackResult as AttackResult
    from deidlib.attack.steps import APGDStep as APGDStep
    from deidlib.attack.steps import MomentumSignStep as MomentumSignStep
    from deidlib.attack.steps import SignStep as SignStep
    from deidlib.faces import Faces as Faces
    from deidlib.images import from_pixels as from_pixels
    from deidlib.images import to_pixels as to_pixels
    from deidlib.keys.key import Key as Key
    from deidlib.media.images import read_image as read_image
    from deidlib.media.images import write_image as write_image
    from deidlib.models.base import Target as Target
    from deidlib.models.base import TargetModel as TargetModel
    from deidlib.models.base import frame_mean as frame_mean
    from deidlib.models.fan import FAN as FAN
    from deidlib.models.gaze import GazeResNet as GazeResNet
    from deidlib.models.keyed import Keyed as Keyed
    from deidlib.models.mtcnn.detector import MTCNN as MTCNN
    from deidlib.models.observe import observe as observe
    from deidlib.models.retinaface import RetinaFace as RetinaFace
    from deidlib.obfuscate import GaussianBlur as GaussianBlur
    from deidlib.obfuscate import Pixelate as Pixelate
    from deidlib.obfuscate import Solid as Solid
    from deidlib.protect.deidentifier import Deidentifier as Deidentifier
    from deidlib.protect.image import protect_image as protect_image
    from deidlib.protect.video import protect_video as protect_video
    from deidlib.swap.warp import WarpSwapper as WarpSwapper

__version__ = metadata.version("deidlib")

# At most thirty; what a user of one block alone needs comes from its package: `from deidlib.attack import Staged`.
# Loaded on first use, so that `import deidlib` stays quick whatever a block depends on.
_HOME = {
    "APGDStep": "attack.steps",
    "AttackResult": "attack.result",
    "Deidentifier": "protect.deidentifier",
    "FAN": "models.fan",
    "Faces": "faces",
    "GaussianBlur": "obfuscate",
    "GazeResNet": "models.gaze",
    "GradientNorm": "attack.aggregation",
    "IFGSMAttacker": "attack.attacker",
    "Key": "keys.key",
    "Keyed": "models.keyed",
    "MTCNN": "models.mtcnn.detector",
    "MomentumSignStep": "attack.steps",
    "Pixelate": "obfuscate",
    "RetinaFace": "models.retinaface",
    "SignStep": "attack.steps",
    "Solid": "obfuscate",
    "Target": "models.base",
    "TargetModel": "models.base",
    "Chain": "attack.chain",
    "WarpSwapper": "swap.warp",
    "frame_mean": "models.base",
    "from_pixels": "images",
    "observe": "models.observe",
    "protect_image": "protect.image",
    "protect_video": "protect.video",
    "read_image": "media.images",
    "recommended": "attack.presets",
    "to_pixels": "images",
    "write_image": "media.images",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
