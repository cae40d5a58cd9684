"""Swappers hide faces by others: the pose and expression stay, the person does not."""

from deidlib.swap.average import average_face as average_face
from deidlib.swap.base import FaceSwapper as FaceSwapper
from deidlib.swap.clip import steady as steady
from deidlib.swap.warp import WarpSwapper as WarpSwapper

__all__ = ["FaceSwapper", "WarpSwapper", "average_face", "steady"]
