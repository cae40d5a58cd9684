"""Image and video files, frame by frame."""

from deidlib.video.codecs import CODECS as CODECS
from deidlib.video.decoding import VideoInfo as VideoInfo
from deidlib.video.errors import MediaError as MediaError
from deidlib.video.errors import MediaReadError as MediaReadError
from deidlib.video.errors import MediaWriteError as MediaWriteError
from deidlib.video.files import check_paths as check_paths
from deidlib.video.images import read_image as read_image
from deidlib.video.images import write_image as write_image
from deidlib.video.reader import Batch as Batch
from deidlib.video.reader import Frame as Frame
from deidlib.video.reader import VideoReader as VideoReader
from deidlib.video.writer import VideoWriter as VideoWriter
