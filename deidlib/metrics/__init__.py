"""Metrics: what a protected video still shows, and to whom. Functions first; classes only count."""

from deidlib.metrics.alignment import ARCFACE_TEMPLATE as ARCFACE_TEMPLATE
from deidlib.metrics.alignment import align as align
from deidlib.metrics.alignment import five_points as five_points
from deidlib.metrics.alignment import similarity as similarity
from deidlib.metrics.diffscore import Difference as Difference
from deidlib.metrics.diffscore import DiffScore as DiffScore
from deidlib.metrics.diffscore import Miss as Miss
from deidlib.metrics.diffscore import NormalisedDiffScore as NormalisedDiffScore
from deidlib.metrics.diffscore import difference as difference
from deidlib.metrics.embedders import Embedder as Embedder
from deidlib.metrics.embedders import FacenetEmbedder as FacenetEmbedder
from deidlib.metrics.embedders import OnnxEmbedder as OnnxEmbedder
from deidlib.metrics.functional import face_size as face_size
from deidlib.metrics.functional import gaze_angle as gaze_angle
from deidlib.metrics.functional import head_pose_angle as head_pose_angle
from deidlib.metrics.functional import interocular_distance as interocular_distance
from deidlib.metrics.functional import landmark_distance as landmark_distance
from deidlib.metrics.functional import nme_box as nme_box
from deidlib.metrics.functional import nme_interocular as nme_interocular
from deidlib.metrics.functional import paired_iou as paired_iou
from deidlib.metrics.pairing import Pairing as Pairing
from deidlib.metrics.pairing import pair as pair
