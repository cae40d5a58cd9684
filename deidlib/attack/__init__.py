"""The attack: perturb hidden faces until authorised models read from them what they read on the original."""

from deidlib.attack.aggregation import Aggregator as Aggregator
from deidlib.attack.aggregation import GradientNorm as GradientNorm
from deidlib.attack.aggregation import Losses as Losses
from deidlib.attack.aggregation import Staged as Staged
from deidlib.attack.aggregation import Sum as Sum
from deidlib.attack.attack_step import AttackStep as AttackStep
from deidlib.attack.attacker import IFGSMAttacker as IFGSMAttacker
from deidlib.attack.chain import Chain as Chain
from deidlib.attack.distortion import Distortion as Distortion
from deidlib.attack.distortions import H264 as H264
from deidlib.attack.distortions import JPEG as JPEG
from deidlib.attack.distortions import Blur as Blur
from deidlib.attack.distortions import ChromaSubsampling as ChromaSubsampling
from deidlib.attack.presets import recommended as recommended
from deidlib.attack.presets import recommended_chain as recommended_chain
from deidlib.attack.presets import recommended_detectors as recommended_detectors
from deidlib.attack.reading_step import ReadingStep as ReadingStep
from deidlib.attack.result import AttackResult as AttackResult
from deidlib.attack.steps import APGDStep as APGDStep
from deidlib.attack.steps import MomentumSignStep as MomentumSignStep
from deidlib.attack.steps import OptimizerStep as OptimizerStep
from deidlib.attack.steps import SignStep as SignStep
from deidlib.attack.steps import StepRule as StepRule
from deidlib.attack.steps import StepState as StepState
from deidlib.attack.tolerance import ReadingError as ReadingError
from deidlib.attack.tolerance import Tolerance as Tolerance
