"""Where faces are and how pixels are taken from there: boxes, regions, warps, cameras."""

from deidlib.geometry.boxes import iou as iou
from deidlib.geometry.camera import Camera as Camera
from deidlib.geometry.camera import angles_to_vectors as angles_to_vectors
from deidlib.geometry.region import FaceRegion as FaceRegion
from deidlib.geometry.warp import crop_resize as crop_resize
