"""Files in, protected files out; no frame leaves with a face unhidden by accident."""
