"""Architectures that no dependency ships."""
