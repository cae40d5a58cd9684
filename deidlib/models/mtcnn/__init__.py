"""``MTCNN`` as an authorised detector: a cascade of three networks, every stage of which must pass."""

from deidlib.models.mtcnn.detector import MTCNN as MTCNN

__all__ = ["MTCNN"]
