"""RegNetX-400MF and RegNetY-400MF (Radosavovic et al. 2020, section 5, tables 8 and 9): grouped bottlenecks, in Y with
squeeze-and-excite."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise
from benchmarks.networks.efficientnet import SqueezeExcite
from benchmarks.networks.resnet import shortcut

STEM = 32
STAGES_X = ((32, 1), (64, 2), (160, 7), (384, 12))  # width, depth
STAGES_Y = ((48, 1), (104, 3), (208, 6), (440, 6))
GROUP_WIDTH_X, GROUP_WIDTH_Y = 16, 8


class Block(nn.Module):
    """1x1, grouped 3x3, 1x1: one width inside. `squeezed`: before the last, squeeze-and-excite to a quarter of the
    block's *input*."""

    def __init__(self, inputs: int, width: int, stride: int, group_width: int, squeezed: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, width, activation=nn.ReLU),
            conv_norm(width, width, 3, stride=stride, groups=width // group_width, activation=nn.ReLU),
            *([SqueezeExcite(width, round(inputs / 4), nn.ReLU)] if squeezed else []),
            conv_norm(width, width),
        )
        self.shortcut = shortcut(inputs, width, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class RegNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, stages: tuple[tuple[int, int], ...], group_width: int, squeezed: bool, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, STEM, 3, stride=2, activation=nn.ReLU)]
        inputs = STEM
        for width, depth in stages:
            for index in range(depth):
                layers.append(Block(inputs, width, 2 if index == 0 else 1, group_width, squeezed))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def regnet_x_400mf(classes: int = 1000, seed: int = 0) -> nn.Module:
    """5.16 M parameters, 0.40 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(RegNet(STAGES_X, GROUP_WIDTH_X, False, classes), seed)


def regnet_y_400mf(classes: int = 1000, seed: int = 0) -> nn.Module:
    """4.34 M parameters, 0.40 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(RegNet(STAGES_Y, GROUP_WIDTH_Y, True, classes), seed)
