"""The same job on many machines, by Ray (``pip install "deidlib[ray]"``)."""

from deidlib.cluster.errors import ClusterError as ClusterError
from deidlib.cluster.frames import ProtectFrames as ProtectFrames
from deidlib.cluster.run import protect as protect
from deidlib.protect.outcome import ClipResult as ClipResult
from deidlib.protect.outcome import RunSummary as RunSummary
