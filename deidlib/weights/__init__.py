"""Checkpoints: the table of what there is, and the store that finds, verifies and downloads it."""

from deidlib.weights.state import fill as fill
from deidlib.weights.state import load as load
from deidlib.weights.state import load_state as load_state
from deidlib.weights.state import plain_state as plain_state
from deidlib.weights.store import CorruptWeights as CorruptWeights
from deidlib.weights.store import Status as Status
from deidlib.weights.store import WeightsNotFound as WeightsNotFound
from deidlib.weights.store import cache_folder as cache_folder
from deidlib.weights.store import checkpoint_of as checkpoint_of
from deidlib.weights.store import find as find
from deidlib.weights.store import locate as locate
from deidlib.weights.store import status as status
from deidlib.weights.store import weights_folder as weights_folder
from deidlib.weights.table import CHECKPOINTS as CHECKPOINTS
from deidlib.weights.table import Checkpoint as Checkpoint
from deidlib.weights.table import checkpoint as checkpoint
