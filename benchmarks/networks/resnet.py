"""ResNet-18 and ResNet-50 (He et al. 2015, table 1; the stride of a bottleneck sits in its 3x3)."""

from collections.abc import Callable

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # of a bottleneck


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, width, 3, stride=stride, activation=nn.ReLU), conv_norm(width, width, 3)
        )
        self.shortcut = shortcut(inputs, width, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width, beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, width, activation=nn.ReLU),
            conv_norm(width, width, 3, stride=stride, activation=nn.ReLU),
            conv_norm(width, width * EXPANSION),
        )
        self.shortcut = shortcut(inputs, width * EXPANSION, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and inputs == outputs else conv_norm(inputs, outputs, stride=stride)


class ResNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(
        self, block: Callable[[int, int, int], nn.Module], expansion: int, repeats: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 64, 7, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, (width, count) in enumerate(zip(WIDTHS, repeats, strict=True)):
            for index in range(count):
                layers.append(block(inputs, width, 2 if index == 0 and stage > 0 else 1))
                inputs = width * expansion
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def resnet18(classes: int = 1000, seed: int = 0) -> nn.Module:
    """11.69 M parameters, 1.82 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(ResNet(Basic, 1, (2, 2, 2, 2), classes), seed)


def resnet50(classes: int = 1000, seed: int = 0) -> nn.Module:
    """25.56 M parameters, 4.11 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(ResNet(Bottleneck, EXPANSION, (3, 4, 6, 3), classes), seed)
