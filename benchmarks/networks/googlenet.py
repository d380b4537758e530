"""GoogLeNet (Szegedy et al. 2015, table 1) with batch-norm (Ioffe & Szegedy 2015), without the auxiliary classifiers.

The 5x5 branch is a 3x3, as in the trained weights that are in use.
"""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

# widths: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; after the pool
BLOCKS = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


def layer(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Module:
    return conv_norm(inputs, outputs, kernel, stride=stride, activation=nn.ReLU, eps=1e-3)


class Inception(nn.Module):
    """Four branches, joined."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = widths
        self.branches = nn.ModuleList([
            layer(inputs, one),
            nn.Sequential(layer(inputs, three_in), layer(three_in, three, 3)),
            nn.Sequential(layer(inputs, five_in), layer(five_in, five, 3)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), layer(inputs, pooled)),
        ])  # fmt: skip
        self.width = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [layer(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), layer(64, 64), layer(64, 192, 3)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        width = 192
        for widths in BLOCKS:
            if widths is None:
                layers.append(nn.MaxPool2d(3, 2, 1))
            else:
                block = Inception(width, widths)
                layers.append(block)
                width = block.width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, classes))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def googlenet(classes: int = 1000, seed: int = 0) -> nn.Module:
    """6.62 M parameters, 1.50 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(GoogLeNet(classes), seed)
