from __future__ import annotations

import torch
from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Upstream
from torch import nn

from deidlib.nets.retinaface_mobilenet import RetinaFaceMobileNet


def test_it_is_the_published_network() -> None:
    torch.manual_seed(0)
    upstream = Upstream().eval()
    for layer in upstream.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Of its own kind in every channel, so that none is passed over.
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 96)
    for slope in (0.1, 0.0):
        for layer in upstream.modules():
            if isinstance(layer, nn.LeakyReLU):
                layer.negative_slope = slope
        own = RetinaFaceMobileNet(slope).eval()
        own.load_state_dict(upstream.state_dict())
        with torch.no_grad():
            box, logits, points = own(images)
            expected = upstream(images)
        for values, theirs in zip((box, logits.softmax(dim=-1), points), expected, strict=True):
            torch.testing.assert_close(values, theirs)
        assert float(logits.std()) > 0.1
