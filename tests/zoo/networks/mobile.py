"""Networks for phones: depthwise, shuffled, ghosted, inverted."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import CLASSES, Branches, InvertedResidual, ShuffleUnit, SqueezeExcite, conv_bn, head


def mobilenet_v1() -> nn.Module:
    """All 13 separable layers, half width."""
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2)]
    source = 16
    for target, stride in (
        (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1),
    ):  # fmt: skip
        layers += [conv_bn(source, source, 3, stride, source), conv_bn(source, target, 1)]
        source = target
    return nn.Sequential(*layers, head(source))


def _gate(width: int) -> nn.Module:
    return SqueezeExcite(width, max(8, width // 4), nn.ReLU, nn.Hardsigmoid)


def mobilenet_v3_small() -> nn.Module:
    """Table 2 of Howard et al. 2019."""
    rows = (
        (16, 16, True, nn.ReLU, 2), (72, 24, False, nn.ReLU, 2), (88, 24, False, nn.ReLU, 1),
        (96, 40, True, nn.Hardswish, 2), (240, 40, True, nn.Hardswish, 1), (240, 40, True, nn.Hardswish, 1),
        (120, 48, True, nn.Hardswish, 1), (144, 48, True, nn.Hardswish, 1), (288, 96, True, nn.Hardswish, 2),
        (576, 96, True, nn.Hardswish, 1), (576, 96, True, nn.Hardswish, 1),
    )  # fmt: skip
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2, act=nn.Hardswish)]
    source = 16
    for inner, target, gated, act, stride in rows:
        layers.append(InvertedResidual(source, inner, target, stride, act, _gate(inner) if gated else None))
        source = target
    return nn.Sequential(
        *layers, conv_bn(source, 576, 1, act=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(576, 256), nn.Hardswish(), nn.Dropout(), nn.Linear(256, CLASSES),
    )  # fmt: skip


class UniversalInverted(nn.Module):
    """MobileNetV4's block: an optional depthwise before the expansion, an optional one after, layer scale."""

    def __init__(self, source: int, target: int, first: int, middle: int, stride: int, ratio: int) -> None:
        super().__init__()
        inner = ratio * source
        self.adds = source == target and stride == 1
        self.body = nn.Sequential(
            conv_bn(source, source, first, 1, source, act=None) if first else nn.Identity(),
            conv_bn(source, inner, 1),
            conv_bn(inner, inner, middle, stride, inner) if middle else nn.Identity(),
            conv_bn(inner, target, 1, act=None),
        )
        self.scale = nn.Parameter(torch.ones(target, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) * self.scale
        return x + out if self.adds else out


def mobilenet_v4() -> nn.Module:
    rows = (
        (48, 5, 5, 2, 3), (48, 0, 3, 1, 2), (48, 0, 3, 1, 2), (48, 3, 0, 1, 4), (64, 3, 3, 2, 6), (64, 5, 5, 1, 4),
        (64, 0, 5, 1, 4), (64, 5, 0, 1, 4),
    )  # fmt: skip
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2), conv_bn(16, 32, 3, 2)]
    source = 32
    for target, first, middle, stride, ratio in rows:
        layers.append(UniversalInverted(source, target, first, middle, stride, ratio))
        source = target
    return nn.Sequential(*layers, conv_bn(source, 256, 1), head(256))


def mnasnet() -> nn.Module:
    """MnasNet-A1's stages, half width."""
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2), conv_bn(16, 16, 3, 1, 16), conv_bn(16, 8, 1, act=None)]
    source = 8
    for ratio, target, depth, stride, gated in (
        (6, 12, 2, 2, False), (3, 20, 3, 2, True), (6, 40, 4, 2, False), (6, 56, 2, 1, True), (6, 80, 3, 2, True),
        (6, 160, 1, 1, False),
    ):  # fmt: skip
        for number in range(depth):
            inner = ratio * source
            gate = SqueezeExcite(inner, max(4, inner // 4)) if gated else None
            layers.append(InvertedResidual(source, inner, target, stride if number == 0 else 1, nn.ReLU, gate))
            source = target
    return nn.Sequential(*layers, conv_bn(source, 320, 1), head(320))


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1, half width: eight fires, a convolution for a classifier."""

    def fire(source: int, squeeze: int, expand: int) -> nn.Module:
        one = nn.Sequential(nn.Conv2d(squeeze, expand, 1), nn.ReLU())
        three = nn.Sequential(nn.Conv2d(squeeze, expand, 3, padding=1), nn.ReLU())
        return nn.Sequential(nn.Conv2d(source, squeeze, 1), nn.ReLU(), Branches(one, three))

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2), nn.ReLU(), pool(), fire(32, 8, 32), fire(64, 8, 32), pool(), fire(64, 16, 64),
        fire(128, 16, 64), pool(), fire(128, 24, 96), fire(192, 24, 96), fire(192, 32, 128), fire(256, 32, 128),
        nn.Dropout(), nn.Conv2d(256, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise, grouped 1x1; at stride 2 the pooled input is concatenated."""

    def __init__(self, source: int, target: int, stride: int, groups: int) -> None:
        super().__init__()
        out = target - source if stride > 1 else target
        inner = target // 4
        self.stride, self.groups = stride, groups
        self.enter = conv_bn(source, inner, 1, groups=groups)
        self.filter = conv_bn(inner, inner, 3, stride, inner, act=None)
        self.leave = conv_bn(inner, out, 1, groups=groups, act=None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.leave(self.filter(_shuffled(self.enter(x), self.groups)))
        if self.stride > 1:
            return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), out], 1))
        return F.relu(x + out)


def shufflenet_v1() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2)]
    source = 24
    for target, depth in ((120, 4), (240, 8), (480, 4)):
        for number in range(depth):
            layers.append(ShuffleV1(source, target, 2 if number == 0 else 1, 3))
            source = target
    return nn.Sequential(*layers, head(source))


class ShuffleDown(nn.Module):
    """ShuffleNetV2 at stride 2: both halves see everything, then interleave."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        half = target // 2
        self.left = nn.Sequential(conv_bn(source, source, 3, 2, source, act=None), conv_bn(source, half, 1))
        self.right = nn.Sequential(
            conv_bn(source, half, 1), conv_bn(half, half, 3, 2, half, act=None), conv_bn(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(torch.cat([self.left(x), self.right(x)], 1), 2)


def shufflenet_v2() -> nn.Module:
    """ShuffleNetV2 0.5x at full depth."""
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    source = 24
    for target, depth in ((48, 4), (96, 8), (192, 4)):
        layers += [ShuffleDown(source, target), *(ShuffleUnit(target) for _ in range(depth - 1))]
        source = target
    return nn.Sequential(*layers, conv_bn(source, 256, 1), head(256))


class Ghost(nn.Module):
    """Half of the channels by a 1x1, the other half by a cheap depthwise of the first; sliced where odd."""

    def __init__(self, source: int, target: int, act: type[nn.Module] | None) -> None:
        super().__init__()
        first = (target + 1) // 2
        self.target = target
        self.primary, self.cheap = conv_bn(source, first, 1, act=act), conv_bn(first, first, 3, 1, first, act=act)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)[:, : self.target]


class GhostBottleneck(nn.Module):
    def __init__(self, source: int, inner: int, target: int, stride: int, gated: bool) -> None:
        super().__init__()
        down = [conv_bn(inner, inner, 3, stride, inner, act=None)] if stride > 1 else []
        gate = [_gate(inner)] if gated else []
        self.body = nn.Sequential(Ghost(source, inner, nn.ReLU), *down, *gate, Ghost(inner, target, None))
        same = source == target and stride == 1
        project = (conv_bn(source, source, 3, stride, source, act=None), conv_bn(source, target, 1, act=None))
        self.shortcut = nn.Identity() if same else nn.Sequential(*project)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


def ghostnet() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2)]
    source = 16
    for inner, target, stride, gated in (
        (16, 16, 1, False), (48, 24, 2, False), (72, 24, 1, False), (72, 40, 2, True), (120, 40, 1, True),
        (240, 80, 2, False), (200, 80, 1, False), (184, 80, 1, False), (480, 112, 1, True), (672, 160, 2, True),
    ):  # fmt: skip
        layers.append(GhostBottleneck(source, inner, target, stride, gated))
        source = target
    return nn.Sequential(*layers, conv_bn(source, 480, 1), head(480))


class RepVggBlock(nn.Module):
    """As trained: 3x3, 1x1 and identity side by side, each with a batch-norm of its own."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.three, self.one = (
            conv_bn(source, target, 3, stride, act=None),
            conv_bn(source, target, 1, stride, act=None),
        )
        self.same = nn.BatchNorm2d(source) if source == target and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.three(x) + self.one(x)
        return F.relu(out + self.same(x) if self.same else out)


def repvgg() -> nn.Module:
    """RepVGG-A0's depths (1, 2, 4, 14, 1)."""
    layers: list[nn.Module] = []
    source = 3
    for width, depth in ((24, 1), (24, 2), (48, 4), (96, 14), (320, 1)):
        for number in range(depth):
            layers.append(RepVggBlock(source, width, 2 if number == 0 else 1))
            source = width
    return nn.Sequential(*layers, head(source))


class MobileOneBlock(nn.Module):
    """As trained: several depthwise (or 1x1) ways, a scale way and a batch-norm way, summed."""

    def __init__(self, source: int, target: int, kernel: int, stride: int, groups: int, ways: int) -> None:
        super().__init__()
        self.ways = nn.ModuleList(conv_bn(source, target, kernel, stride, groups, act=None) for _ in range(ways))
        if kernel > 1:
            self.ways.append(conv_bn(source, target, 1, stride, groups, act=None))
        if source == target and stride == 1:
            self.ways.append(nn.BatchNorm2d(source))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.stack([way(x) for way in self.ways]).sum(0))


def mobileone() -> nn.Module:
    layers: list[nn.Module] = [MobileOneBlock(3, 24, 3, 2, 1, 1)]
    source = 24
    for width, depth in ((24, 2), (64, 4), (128, 5), (256, 1)):
        for number in range(depth):
            layers.append(MobileOneBlock(source, source, 3, 2 if number == 0 else 1, source, 2))
            layers.append(MobileOneBlock(source, width, 1, 1, 1, 2))
            source = width
    return nn.Sequential(*layers, head(source))
