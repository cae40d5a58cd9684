"""Readers: models that nobody authorised, for measuring what a stranger gets out of a frame."""

from deidlib.models.strangers.blazeface import BlazeFace as BlazeFace
from deidlib.models.strangers.cascade import Cascade as Cascade
from deidlib.models.strangers.centerface import CenterFace as CenterFace
from deidlib.models.strangers.dlib_models import DlibCNN as DlibCNN
from deidlib.models.strangers.dlib_models import DlibHOG as DlibHOG
from deidlib.models.strangers.dlib_models import DlibPoints as DlibPoints
from deidlib.models.strangers.dlib_models import DlibRecogniser as DlibRecogniser
from deidlib.models.strangers.facemesh import FaceMesh as FaceMesh
from deidlib.models.strangers.lbp import LBPCascade as LBPCascade
from deidlib.models.strangers.net_detector import NetDetector as NetDetector
from deidlib.models.strangers.net_points import NetPoints as NetPoints
from deidlib.models.strangers.pfld import PFLD as PFLD
from deidlib.models.strangers.yunet import YuNet as YuNet

__all__ = [
    "PFLD",
    "BlazeFace",
    "Cascade",
    "CenterFace",
    "DlibCNN",
    "DlibHOG",
    "DlibPoints",
    "DlibRecogniser",
    "FaceMesh",
    "LBPCascade",
    "NetDetector",
    "NetPoints",
    "YuNet",
]
