"""ShuffleNetV2 1.0x (Ma et al. 2018, table 5 and figure 3)."""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

STAGES = ((116, 4), (232, 8), (464, 4))  # width, repeats


def shuffled(x: Tensor) -> Tensor:
    """Channels of the two halves in turn."""
    count, channels, height, width = x.shape
    return x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(count, channels, height, width)


class Unit(nn.Module):
    """One half of the channels goes through 1x1, depthwise 3x3, 1x1; with stride 2 both halves are all of them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.splits = stride == 1
        half, taken = outputs // 2, outputs // 2 if stride == 1 else inputs
        self.branch = nn.Sequential(
            conv_norm(taken, half, activation=nn.ReLU),
            conv_norm(half, half, 3, stride=stride, groups=half),
            conv_norm(half, half, activation=nn.ReLU),
        )
        self.other = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(
                conv_norm(inputs, inputs, 3, stride=stride, groups=inputs), conv_norm(inputs, half, activation=nn.ReLU)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = x.chunk(2, 1) if self.splits else (x, x)
        return shuffled(torch.cat([self.other(kept), self.branch(taken)], 1))


class ShuffleNetV2(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 24, 3, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
        inputs = 24
        for width, repeats in STAGES:
            for index in range(repeats):
                layers.append(Unit(inputs, width, 2 if index == 0 else 1))
                inputs = width
        layers.append(conv_norm(inputs, 1024, activation=nn.ReLU))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.features(image)
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def shufflenet_v2(classes: int = 1000, seed: int = 0) -> nn.Module:
    """2.28 M parameters, 0.15 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(ShuffleNetV2(classes), seed)
