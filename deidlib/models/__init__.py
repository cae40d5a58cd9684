"""Authorised models: one file per wrapper."""

from deidlib.models.base import Target as Target
from deidlib.models.base import TargetModel as TargetModel
from deidlib.models.base import frame_mean as frame_mean
from deidlib.models.base import frame_of as frame_of
from deidlib.models.base import rows_of as rows_of
from deidlib.models.observe import observe as observe
from deidlib.models.observe import observe_each as observe_each
from deidlib.models.observe import read_originals as read_originals
