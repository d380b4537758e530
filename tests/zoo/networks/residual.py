"""The ResNet line: grouped, gated, attended, hierarchical and pre-activated residual blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import Residual, SqueezeExcite, bottleneck, conv_bn, head


def _stages(width: int, depths: tuple[int, ...], groups: int = 1, gate: bool = False, inner: float = 0.5) -> nn.Module:
    """Bottlenecks as in ResNet-50: four stages, the first of stride 1, widths doubling."""
    layers: list[nn.Module] = [conv_bn(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    source = width
    for stage, depth in enumerate(depths):
        target = 4 * width * 2**stage
        for number in range(depth):
            stride = 2 if number == 0 and stage else 1
            layers.append(bottleneck(source, int(target * inner), target, stride, groups, gate))
            source = target
    return nn.Sequential(*layers, head(source))


def resnext50() -> nn.Module:
    """32 groups of four at full width; here 8 groups at a quarter of it."""
    return _stages(16, (3, 4, 6, 3), groups=8)


def se_resnet50() -> nn.Module:
    return _stages(16, (3, 4, 6, 3), gate=True, inner=0.25)


def regnet_y() -> nn.Module:
    """RegNetY-400MF's depths, widths and group width 8."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
    source = 32
    for width, depth in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for number in range(depth):
            layers.append(bottleneck(source, width, width, 2 if number == 0 else 1, width // 8, gate=True))
            source = width
    return nn.Sequential(*layers, head(source))


class PreActivation(nn.Module):
    """He et al. 2016: batch-norm and ReLU come before the convolutions; the shortcut starts behind the first pair."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(source), nn.Conv2d(source, target, 3, stride, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(target), nn.Conv2d(target, target, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(source, target, 1, stride, bias=False) if stride > 1 or source != target else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        short = self.shortcut(active) if self.shortcut else x
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active)))) + short
        return out


def preact_resnet18() -> nn.Module:
    blocks: list[nn.Module] = [nn.Conv2d(3, 32, 3, 1, 1, bias=False)]
    source = 32
    for stage, width in enumerate((32, 64, 128, 256)):
        blocks += [PreActivation(source, width, 2 if stage else 1), PreActivation(width, width, 1)]
        source = width
    return nn.Sequential(*blocks, nn.BatchNorm2d(source), nn.ReLU(), head(source))


def resnet50_d() -> nn.Module:
    """Deep stem; shortcuts pool before their 1x1 convolution."""

    def block(source: int, inner: int, target: int, stride: int) -> nn.Module:
        body = nn.Sequential(
            conv_bn(source, inner, 1), conv_bn(inner, inner, 3, stride), conv_bn(inner, target, 1, act=None)
        )
        pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride > 1 else nn.Identity()
        same = source == target
        return Residual(body, None if same else nn.Sequential(pool, conv_bn(source, target, 1, act=None)))

    layers = [conv_bn(3, 16, 3, 2), conv_bn(16, 16), conv_bn(16, 32), nn.MaxPool2d(3, 2, 1)]
    source = 32
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner = 16 * 2**stage
        for number in range(depth):
            layers.append(block(source, inner, 4 * inner, 2 if number == 0 and stage else 1))
            source = 4 * inner
    return nn.Sequential(*layers, head(source))


class Res2Block(nn.Module):
    """Four slices of the inner channels, each convolved together with what the one before gave."""

    def __init__(self, source: int, width: int, target: int) -> None:
        super().__init__()
        self.width = width
        self.reduce = conv_bn(source, 4 * width, 1)
        self.convs = nn.ModuleList(conv_bn(width, width) for _ in range(3))
        self.expand = conv_bn(4 * width, target, 1, act=None)
        self.shortcut = conv_bn(source, target, 1, act=None) if source != target else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        slices = self.reduce(x).split(self.width, 1)
        outs = [slices[0]]
        for number, conv in enumerate(self.convs, 1):
            outs.append(conv(slices[number] if number == 1 else slices[number] + outs[-1]))
        return F.relu(self.expand(torch.cat(outs, 1)) + self.shortcut(x))


def res2net() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
    source = 32
    for width, depth in ((8, 3), (16, 4), (32, 3)):
        for _ in range(depth):
            layers.append(Res2Block(source, width, 16 * width))
            source = 16 * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, head(source))


class DualPath(nn.Module):
    """DPN: the block's output is split; one part is added to the residual path, the other joins the dense path."""

    def __init__(self, source: int, inner: int, residual: int, growth: int, first: bool) -> None:
        super().__init__()
        self.residual, self.growth = residual, growth
        self.body = nn.Sequential(
            conv_bn(source, inner, 1), conv_bn(inner, inner, 3, 1, 8), conv_bn(inner, residual + growth, 1, act=None)
        )
        self.project = conv_bn(source, residual + growth, 1, act=None) if first else None

    def forward(self, x: Tensor) -> Tensor:
        short = self.project(x) if self.project else x
        out = self.body(x)
        left = short[:, : self.residual] + out[:, : self.residual]
        return F.relu(torch.cat([left, short[:, self.residual :], out[:, self.residual :]], 1))


def dpn() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2), nn.MaxPool2d(3, 2, 1)]
    source = 16
    for residual, growth, depth in ((64, 8, 3), (128, 16, 3)):
        for number in range(depth):
            layers.append(DualPath(source, residual, residual, growth, number == 0))
            source = residual + 2 * growth if number == 0 else source + growth
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, head(source))


class EfficientChannelAttention(nn.Module):
    """ECA: a 1-D convolution over neighbouring channels' means. Channels here are positions, and have an order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3)).unsqueeze(1)
        gate: Tensor = torch.sigmoid(self.conv(means)).transpose(1, 2).unsqueeze(-1)
        return x * gate


class ConvBlockAttention(nn.Module):
    """CBAM: channels gated from mean and maximum through one shared pair of layers, then positions gated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.shared(F.adaptive_avg_pool2d(x, 1)) + self.shared(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(gate)
        over_channels = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        attended: Tensor = x * torch.sigmoid(self.spatial(over_channels))
        return attended


def _with_attention(attention) -> nn.Module:
    def block(source: int, target: int, stride: int) -> nn.Module:
        body = nn.Sequential(conv_bn(source, target, 3, stride), conv_bn(target, target, act=None), attention(target))
        same = source == target and stride == 1
        return Residual(body, None if same else conv_bn(source, target, 1, stride, act=None))

    layers: list[nn.Module] = [conv_bn(3, 16)]
    source = 16
    for stage, width in enumerate((16, 32, 64, 128)):
        layers += [block(source, width, 2 if stage else 1), block(width, width, 1)]
        source = width
    return nn.Sequential(*layers, head(source))


def eca_resnet18() -> nn.Module:
    return _with_attention(lambda width: EfficientChannelAttention())


def cbam_resnet18() -> nn.Module:
    return _with_attention(ConvBlockAttention)


class SelectiveKernel(nn.Module):
    """SKNet: two kernels' outputs mixed by a softmax between them, channel by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ways = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, d, d, groups=4, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for d in (1, 2)
        )
        self.squeeze, self.select = conv_bn(width, width // 2, 1), nn.Conv2d(width // 2, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        stacked = torch.stack([way(x) for way in self.ways], 1)
        pooled = stacked.sum(1).mean((2, 3), keepdim=True)
        choice = self.select(self.squeeze(pooled)).reshape(x.shape[0], 2, x.shape[1], 1, 1)
        mixed: Tensor = (stacked * choice.softmax(1)).sum(1)
        return mixed


def _bottlenecks(mix, pool: type[nn.Module]) -> nn.Module:
    """Three stages of bottlenecks whose 3x3 convolution is `mix`, each stage ending in a pooling."""

    def block(source: int, inner: int, target: int) -> nn.Module:
        body = nn.Sequential(conv_bn(source, inner, 1), mix(inner), conv_bn(inner, target, 1, act=None))
        return Residual(body, None if source == target else conv_bn(source, target, 1, act=None))

    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
    source = 32
    for inner, depth in ((32, 2), (64, 2), (128, 2)):
        for _ in range(depth):
            layers.append(block(source, inner, 2 * inner))
            source = 2 * inner
        layers.append(pool(2))
    return nn.Sequential(*layers, head(source))


def sknet() -> nn.Module:
    return _bottlenecks(SelectiveKernel, nn.MaxPool2d)


class SplitAttention(nn.Module):
    """ResNeSt: a grouped convolution makes two candidates per channel, a gate per candidate sums them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv = conv_bn(width, 2 * width, 3, 1, 2)
        self.squeeze, self.gate = SqueezeExcite(width, width // 2).squeeze, nn.Conv2d(width // 2, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.conv(x).split(self.width, 1)
        pooled = (parts[0] + parts[1]).mean((2, 3), keepdim=True)
        gates = self.gate(F.relu(self.squeeze(pooled))).view(-1, 2, self.width, 1, 1).softmax(1)
        mixed: Tensor = parts[0] * gates[:, 0] + parts[1] * gates[:, 1]
        return mixed


def resnest() -> nn.Module:
    return _bottlenecks(SplitAttention, nn.AvgPool2d)
