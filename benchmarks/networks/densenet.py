"""DenseNet-121 (Huang et al. 2017, table 1): every layer reads all maps made before it in its block."""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import initialise

GROWTH = 32
LAYERS = (6, 12, 24, 16)


class Dense(nn.Module):
    """Batch-norm first: 1x1 to four times the growth, 3x3 to the growth, joined to the input."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * GROWTH, 1, bias=False),
            nn.BatchNorm2d(4 * GROWTH), nn.ReLU(), nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layer(x)], 1)


class DenseNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        width = 2 * GROWTH
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        ]  # fmt: skip
        for block, count in enumerate(LAYERS):
            for _ in range(count):
                layers.append(Dense(width))
                width += GROWTH
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            if block < len(LAYERS) - 1:
                layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def densenet121(classes: int = 1000, seed: int = 0) -> nn.Module:
    """7.98 M parameters, 2.87 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(DenseNet(classes), seed)
