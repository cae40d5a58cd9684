"""Metrics: what a protected video still shows, and to whom. Functions first; classes only count."""

from deidlib.metrics.alignment import ARCFACE_TEMPLATE as ARCFACE_TEMPLATE
from deidlib.metrics.alignment import align as align
from deidlib.metrics.alignment import five_points as five_points
from deidlib.metrics.alignment import similarity as similarity
from deidlib.metrics.embedders import Embedder as Embedder
from deidlib.metrics.embedders import FacenetEmbedder as FacenetEmbedder
from deidlib.metrics.embedders import OnnxEmbedder as OnnxEmbedder
