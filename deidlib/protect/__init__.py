"""Files in, protected files out; no frame leaves with a face unhidden by accident."""

from deidlib.protect.batches import ProtectedBatch as ProtectedBatch
from deidlib.protect.check import Check as Check
from deidlib.protect.deidentifier import Deidentifier as Deidentifier
from deidlib.protect.deidentifier import NoFaceError as NoFaceError
from deidlib.protect.file import protect_file as protect_file
from deidlib.protect.files import protect_files as protect_files
from deidlib.protect.folder import protect_folder as protect_folder
from deidlib.protect.image import protect_image as protect_image
from deidlib.protect.keyed import with_key as with_key
from deidlib.protect.outcome import ClipResult as ClipResult
from deidlib.protect.outcome import FileResult as FileResult
from deidlib.protect.outcome import FolderSummary as FolderSummary
from deidlib.protect.outcome import RunSummary as RunSummary
from deidlib.protect.output import Output as Output
from deidlib.protect.presets import recommended_deidentifier as recommended_deidentifier
from deidlib.protect.remote import protect_remote as protect_remote
from deidlib.protect.sidecar import Sidecar as Sidecar
from deidlib.protect.summary import Summary as Summary
from deidlib.protect.video import protect_video as protect_video
