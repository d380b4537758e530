"""The published architectures that speed is measured on, with seeded random weights: latency does not read them."""

from collections.abc import Callable

from torch import nn

from benchmarks.networks.efficientnet import efficientnet_b0
from benchmarks.networks.export import export
from benchmarks.networks.mobilenet import mobilenet_v2
from benchmarks.networks.resnet import resnet18, resnet50

__all__ = ["NETWORKS", "export"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "resnet18": resnet18,
    "resnet50": resnet50,
}
