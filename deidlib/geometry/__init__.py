"""Where faces are and how pixels are taken from there: boxes, regions, warps, cameras."""
