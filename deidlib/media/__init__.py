"""Image and video files, frame by frame."""

from deidlib.media.codecs import CODECS as CODECS
from deidlib.media.decoding import VideoInfo as VideoInfo
from deidlib.media.errors import MediaError as MediaError
from deidlib.media.errors import MediaReadError as MediaReadError
from deidlib.media.errors import MediaWriteError as MediaWriteError
from deidlib.media.files import check_paths as check_paths
from deidlib.media.images import read_image as read_image
from deidlib.media.images import write_image as write_image
from deidlib.media.reader import Batch as Batch
from deidlib.media.reader import Frame as Frame
from deidlib.media.reader import VideoReader as VideoReader
from deidlib.media.writer import VideoWriter as VideoWriter
