"""What is written down beside pixels, and how: files that appear whole, fingerprints, detections."""
