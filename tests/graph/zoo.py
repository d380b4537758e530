"""Small networks of the well-known families, with random weights: 32 x 32 pixels in, thin, ten classes out.

Each is the family's own block structure, written here; only widths and depths are small. Weights are drawn once from
a fixed seed, and batch-norm statistics are made uneven, so that a cut which takes the wrong channel shows.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
SIDE = 32


def conv_bn(
    source: int, target: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(source, target, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(target),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


class Residual(nn.Module):
    """body(x) + shortcut(x), then ReLU."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class SliceAndPad(nn.Module):
    """The CIFAR ResNets' shortcut without parameters: every second pixel, channels of zeros on both sides."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


def resnet_basic() -> nn.Module:
    def block(source: int, target: int, stride: int) -> nn.Module:
        body = nn.Sequential(conv_bn(source, target, 3, stride), conv_bn(target, target, act=None))
        return Residual(body, conv_bn(source, target, 1, stride, act=None) if stride > 1 else None)

    return nn.Sequential(conv_bn(3, 16), block(16, 16, 1), block(16, 32, 2), block(32, 32, 1), head(32))


def resnet_parameter_free() -> nn.Module:
    def block(source: int, target: int, stride: int) -> nn.Module:
        body = nn.Sequential(conv_bn(source, target, 3, stride), conv_bn(target, target, act=None))
        return Residual(body, SliceAndPad(target - source) if stride > 1 else None)

    return nn.Sequential(conv_bn(3, 16), block(16, 16, 1), block(16, 32, 2), block(32, 32, 1), head(32))


def bottleneck(source: int, inner: int, target: int, stride: int, groups: int = 1, gate: bool = False) -> nn.Module:
    body = nn.Sequential(
        conv_bn(source, inner, 1),
        conv_bn(inner, inner, 3, stride, groups),
        SqueezeExcite(inner, 8) if gate else nn.Identity(),
        conv_bn(inner, target, 1, act=None),
    )
    same = source == target and stride == 1
    return Residual(body, None if same else conv_bn(source, target, 1, stride, act=None))


def resnet_bottleneck() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), bottleneck(16, 16, 64, 1), bottleneck(64, 16, 64, 1), bottleneck(64, 32, 128, 2), head(128)
    )


def resnext() -> nn.Module:
    """Few wide groups: the same inner channels leave every group."""
    return nn.Sequential(conv_bn(3, 16), bottleneck(16, 32, 64, 1, 2), bottleneck(64, 32, 64, 2, 2), head(64))


def regnet() -> nn.Module:
    """Many narrow groups, squeeze-and-excite inside: whole groups leave."""
    return nn.Sequential(
        conv_bn(3, 16), bottleneck(16, 32, 32, 2, 8, gate=True), bottleneck(32, 32, 32, 1, 8, gate=True), head(32)
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), conv_bn(16, 16), nn.MaxPool2d(2), conv_bn(16, 32), nn.MaxPool2d(2), conv_bn(32, 32),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32 * 4, 48), nn.ReLU(), nn.Dropout(), nn.Linear(48, CLASSES),
    )  # fmt: skip


def mobilenet_v1() -> nn.Module:
    def block(source: int, target: int, stride: int) -> nn.Module:
        return nn.Sequential(conv_bn(source, source, 3, stride, source), conv_bn(source, target, 1))

    return nn.Sequential(conv_bn(3, 16, 3, 2), block(16, 32, 1), block(32, 64, 2), block(64, 64, 1), head(64))


class SqueezeExcite(nn.Module):
    def __init__(
        self, width: int, inner: int, act: type[nn.Module] = nn.ReLU, gate: type[nn.Module] = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(width, inner, 1), act()
        self.excite, self.gate = nn.Conv2d(inner, width, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.excite(self.act(self.squeeze(pooled))))
        return x * gate


class InvertedResidual(nn.Module):
    """MobileNetV2's block; with `gate` V3's and EfficientNet's."""

    def __init__(
        self, source: int, inner: int, target: int, stride: int, act: type[nn.Module], gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.adds = source == target and stride == 1
        self.body = nn.Sequential(
            conv_bn(source, inner, 1, act=act),
            conv_bn(inner, inner, 3, stride, inner, act=act),
            gate or nn.Identity(),
            conv_bn(inner, target, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.adds else out


def mobilenet_v2() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16, act=nn.ReLU6),
        InvertedResidual(16, 48, 24, 2, nn.ReLU6),
        InvertedResidual(24, 72, 24, 1, nn.ReLU6),
        InvertedResidual(24, 72, 32, 2, nn.ReLU6),
        conv_bn(32, 64, 1, act=nn.ReLU6),
        head(64),
    )


def mobilenet_v3() -> nn.Module:
    def gate(width: int) -> nn.Module:
        return SqueezeExcite(width, 16, nn.ReLU, nn.Hardsigmoid)

    return nn.Sequential(
        conv_bn(3, 16, act=nn.Hardswish),
        InvertedResidual(16, 48, 24, 2, nn.ReLU, gate(48)),
        InvertedResidual(24, 72, 24, 1, nn.Hardswish, gate(72)),
        conv_bn(24, 64, 1, act=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 48), nn.Hardswish(), nn.Linear(48, CLASSES),
    )  # fmt: skip


def efficientnet() -> nn.Module:
    def gate(width: int) -> nn.Module:
        return SqueezeExcite(width, 8, nn.SiLU)

    return nn.Sequential(
        conv_bn(3, 16, act=nn.SiLU),
        InvertedResidual(16, 48, 24, 2, nn.SiLU, gate(48)),
        InvertedResidual(24, 72, 24, 1, nn.SiLU, gate(72)),
        conv_bn(24, 64, 1, act=nn.SiLU),
        head(64),
    )


def mnasnet() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16),
        conv_bn(16, 16, 3, 1, 16),
        conv_bn(16, 16, 1, act=None),
        InvertedResidual(16, 48, 24, 2, nn.ReLU),
        InvertedResidual(24, 72, 24, 1, nn.ReLU, SqueezeExcite(72, 16)),
        conv_bn(24, 64, 1),
        head(64),
    )


class Branches(nn.Module):
    """Several ways at once, concatenated: SqueezeNet's fire, GoogLeNet's inception."""

    def __init__(self, *ways: nn.Module) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([way(x) for way in self.ways], 1)


def squeezenet() -> nn.Module:
    def fire(source: int, squeeze: int, expand: int) -> nn.Module:
        one = nn.Sequential(nn.Conv2d(squeeze, expand, 1), nn.ReLU())
        three = nn.Sequential(nn.Conv2d(squeeze, expand, 3, padding=1), nn.ReLU())
        return nn.Sequential(nn.Conv2d(source, squeeze, 1), nn.ReLU(), Branches(one, three))

    stem = (nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True))
    tail = (nn.Conv2d(64, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*stem, fire(16, 8, 16), fire(32, 16, 32), *tail)


def googlenet() -> nn.Module:
    def inception(source: int) -> nn.Module:
        return Branches(
            conv_bn(source, 16, 1),
            nn.Sequential(conv_bn(source, 12, 1), conv_bn(12, 16)),
            nn.Sequential(conv_bn(source, 8, 1), conv_bn(8, 8)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(source, 8, 1)),
        )

    return nn.Sequential(conv_bn(3, 16), inception(16), nn.MaxPool2d(2), inception(48), head(48))


class DenseLayer(nn.Module):
    """Pre-activation: batch-norm and ReLU run over everything that came before, and cannot be folded."""

    def __init__(self, source: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(source), nn.ReLU(), nn.Conv2d(source, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    transition = (nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2))
    dense = [DenseLayer(16 + 8 * number, 8) for number in range(3)]
    late = [DenseLayer(20 + 8 * number, 8) for number in range(2)]
    return nn.Sequential(conv_bn(3, 16, 3, 2), *dense, *transition, *late, nn.BatchNorm2d(36), nn.ReLU(), head(36))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2: half of the channels pass by, then both halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            conv_bn(half, half, 1), conv_bn(half, half, 3, 1, half, act=None), conv_bn(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        joined = torch.cat([left, self.body(right)], 1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    return nn.Sequential(conv_bn(3, 32, 3, 2), ShuffleUnit(32), ShuffleUnit(32), conv_bn(32, 48, 1), head(48))


FAMILIES: Mapping[str, Callable[[], nn.Module]] = {
    "resnet_basic": resnet_basic,
    "resnet_parameter_free": resnet_parameter_free,
    "resnet_bottleneck": resnet_bottleneck,
    "resnext": resnext,
    "regnet": regnet,
    "vgg": vgg,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "mnasnet": mnasnet,
    "squeezenet": squeezenet,
    "googlenet": googlenet,
    "densenet": densenet,
    "shufflenet": shufflenet,
}


def build(family: str) -> nn.Module:
    """The network in eval mode, with weights that are the same every time, no two channels alike and none faint."""
    torch.manual_seed(0)
    network = FAMILIES[family]()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def example(batch: int = 1) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),)
