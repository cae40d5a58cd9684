"""Attacks on protected files: what adds up over a clip, what a trained recogniser knows, what readings tell."""

from deidlib.evaluation.attacks.clip import ATTACKS as ATTACKS
from deidlib.evaluation.attacks.clip import Attack as Attack
from deidlib.evaluation.attacks.clip import Attempt as Attempt
from deidlib.evaluation.attacks.clip import ClipAttacks as ClipAttacks
from deidlib.evaluation.attacks.learned import Identified as Identified
from deidlib.evaluation.attacks.learned import Learned as Learned
from deidlib.evaluation.attacks.shapes import shape_of as shape_of
from deidlib.evaluation.attacks.superresolution import SuperResolution as SuperResolution
from deidlib.evaluation.attacks.superresolution import stretched as stretched
from deidlib.evaluation.attacks.suspects import Ranking as Ranking
from deidlib.evaluation.attacks.suspects import Suspects as Suspects
from deidlib.evaluation.attacks.suspects import ranked as ranked
