"""SqueezeNet 1.1 (Iandola et al. 2016, and the authors' later, cheaper version of it)."""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import initialise

# squeeze, expand (of each kind); None is a pool
FIRES = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))


class Fire(nn.Module):
    """A 1x1 to few channels, then 1x1 and 3x3 side by side, joined."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return torch.cat([self.one(squeezed), self.three(squeezed)], 1)


class SqueezeNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
        width = 64
        for fire in FIRES:
            if fire is None:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                layers.append(Fire(width, *fire))
                width = 2 * fire[1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(width, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image))
        return logits.flatten(1)


def squeezenet(classes: int = 1000, seed: int = 0) -> nn.Module:
    """1.24 M parameters, 0.35 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(SqueezeNet(classes), seed)
