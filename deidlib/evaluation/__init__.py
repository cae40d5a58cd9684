"""Evaluate a protected file against its original: who reads it how well, who is recognised, what the picture costs."""

from deidlib.evaluation.evaluate import evaluate as evaluate
from deidlib.evaluation.identity import IdentitySettings as IdentitySettings
from deidlib.evaluation.pairs import EvaluationError as EvaluationError
from deidlib.evaluation.quality import QualitySettings as QualitySettings
from deidlib.evaluation.reading import ReadingSettings as ReadingSettings
from deidlib.evaluation.result import Evaluation as Evaluation
from deidlib.evaluation.result import write_evaluation as write_evaluation
