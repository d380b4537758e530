"""RegNetX-400MF and RegNetY-400MF (Radosavovic et al. 2020, section 5, tables 8 and 9): grouped bottlenecks, Y with
squeeze-and-excite."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise
from benchmarks.networks.efficientnet import SqueezeExcite
from benchmarks.networks.resnet import shortcut

GROUP_WIDTH = 8
STAGES = ((48, 1), (104, 3), (208, 6), (440, 6))  # width, depth
X_GROUP_WIDTH = 16
X_STAGES = ((32, 1), (64, 2), (160, 7), (400, 12))


class YBlock(nn.Module):
    """1x1, grouped 3x3, squeeze-and-excite to a quarter of the block's *input*, 1x1: one width inside."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, width, activation=nn.ReLU),
            conv_norm(width, width, 3, stride=stride, groups=width // GROUP_WIDTH, activation=nn.ReLU),
            SqueezeExcite(width, round(inputs / 4), nn.ReLU),
            conv_norm(width, width),
        )
        self.shortcut = shortcut(inputs, width, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class XBlock(nn.Module):
    """1x1, grouped 3x3, 1x1: one width inside."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, width, activation=nn.ReLU),
            conv_norm(width, width, 3, stride=stride, groups=width // X_GROUP_WIDTH, activation=nn.ReLU),
            conv_norm(width, width),
        )
        self.shortcut = shortcut(inputs, width, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class RegNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, block: type[nn.Module], stages: tuple[tuple[int, int], ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 32, 3, stride=2, activation=nn.ReLU)]
        inputs = 32
        for width, depth in stages:
            for index in range(depth):
                layers.append(block(inputs, width, 2 if index == 0 else 1))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def regnet_y_400mf(classes: int = 1000, seed: int = 0) -> nn.Module:
    """4.34 M parameters, 0.40 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(RegNet(YBlock, STAGES, classes), seed)


def regnet_x_400mf(classes: int = 1000, seed: int = 0) -> nn.Module:
    """5.50 M parameters, 0.40 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(RegNet(XBlock, X_STAGES, classes), seed)
