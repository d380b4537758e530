"""The published architectures that speed is measured on, with seeded random weights: latency does not read them."""

from collections.abc import Callable

from torch import nn

from benchmarks.networks.convnext import convnext_tiny
from benchmarks.networks.densenet import densenet121
from benchmarks.networks.efficientnet import efficientnet_b0
from benchmarks.networks.export import export
from benchmarks.networks.googlenet import googlenet
from benchmarks.networks.inception import inception_v3
from benchmarks.networks.mobilenet import mobilenet_v2
from benchmarks.networks.mobilenet_v3 import mobilenet_v3_small
from benchmarks.networks.regnet import regnet_x_400mf, regnet_y_400mf
from benchmarks.networks.resnet import resnet18, resnet50
from benchmarks.networks.resnext import resnext50
from benchmarks.networks.shufflenet import shufflenet_v2
from benchmarks.networks.squeezenet import squeezenet
from benchmarks.networks.vit import vit_b16
from benchmarks.networks.yolo import yolo

__all__ = ["NETWORKS", "SIZES", "export"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "densenet121": densenet121,
    "regnet_x_400mf": regnet_x_400mf,
    "regnet_y_400mf": regnet_y_400mf,
    "resnext50": resnext50,
    "convnext_tiny": convnext_tiny,
    "googlenet": googlenet,
    "squeezenet": squeezenet,
    "mobilenet_v3_small": mobilenet_v3_small,
    "inception_v3": inception_v3,
    "shufflenet_v2": shufflenet_v2,
    "vit_b16": vit_b16,
    "yolo": yolo,
}

# Side of the square images that a network is made for, where it is not 224.
SIZES: dict[str, int] = {"yolo": 320}
