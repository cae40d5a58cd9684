"""Motion-supervised co-part segmentation and first-order motion: the nets that swap parts of a face.

Siarohin et al., Motion-supervised Co-Part Segmentation, ICPR 2020 (arXiv 2004.03234); Siarohin et al., First Order
Motion Model for Image Animation, NeurIPS 2019 (arXiv 2003.00196). Written from the papers and from the layout of
the published checkpoints, which are CC BY-NC 4.0.
"""
