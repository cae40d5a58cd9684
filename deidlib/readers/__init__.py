"""Readers: models that nobody authorised, for measuring what a stranger gets out of a frame."""

from deidlib.readers.base import Reader as Reader
from deidlib.readers.pfld import PFLD as PFLD
from deidlib.readers.yunet import YuNet as YuNet

__all__ = ["PFLD", "Reader", "YuNet"]
