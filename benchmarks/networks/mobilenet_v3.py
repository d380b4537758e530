"""MobileNetV3-Small (Howard et al. 2019, table 2)."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise
from benchmarks.networks.efficientnet import SqueezeExcite

# kernel, hidden channels, output channels, squeeze-and-excite, activation, stride
ROWS: tuple[tuple[int, int, int, bool, type[nn.Module], int], ...] = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
EPS = 1e-3


def eighths(width: float) -> int:
    """The nearest multiple of eight that is no more than a tenth smaller."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


class Bneck(nn.Module):
    """Inverted residual; the squeeze is a quarter of the hidden channels, its gate a hard sigmoid."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        hidden: int,
        outputs: int,
        squeezes: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        widen = [conv_norm(inputs, hidden, activation=activation, eps=EPS)] if hidden != inputs else []
        gate = [SqueezeExcite(hidden, eighths(hidden / 4), nn.ReLU, nn.Hardsigmoid)] if squeezes else []
        self.branch = nn.Sequential(
            *widen,
            conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation, eps=EPS),
            *gate,
            conv_norm(hidden, outputs, eps=EPS),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.shortcut else branch


class MobileNetV3(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 16, 3, stride=2, activation=nn.Hardswish, eps=EPS)]
        width = 16
        for kernel, hidden, outputs, squeezes, activation, stride in ROWS:
            layers.append(Bneck(width, kernel, hidden, outputs, squeezes, activation, stride))
            width = outputs
        layers.append(conv_norm(width, 6 * width, activation=nn.Hardswish, eps=EPS))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * width, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def mobilenet_v3_small(classes: int = 1000, seed: int = 0) -> nn.Module:
    """2.54 M parameters, 0.06 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(MobileNetV3(classes), seed)
