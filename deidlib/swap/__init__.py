"""Swappers hide faces by others: the pose and expression stay, the person does not."""

from deidlib.swap.base import FaceSwapper as FaceSwapper

__all__ = ["FaceSwapper"]
