"""Readers: models that nobody authorised, for measuring what a stranger gets out of a frame."""

from deidlib.models.strangers.pfld import PFLD as PFLD
from deidlib.models.strangers.yunet import YuNet as YuNet

__all__ = ["PFLD", "YuNet"]
