"""Networks whose layers read concatenations: dense blocks, one-shot aggregation, inceptions, cross-stage parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import CLASSES, Branches, DenseLayer, conv_bn, head


def densenet121() -> nn.Module:
    """Depths of DenseNet-121 (6, 12, 24, 16), growth 8 in place of 32."""
    growth = 8
    layers: list[nn.Module] = [conv_bn(3, 2 * growth, 7, 2), nn.MaxPool2d(3, 2, 1)]
    width = 2 * growth
    for stage, depth in enumerate((6, 12, 24, 16)):
        if stage:
            transition = nn.Conv2d(width, width // 2, 1, bias=False)
            layers += [nn.BatchNorm2d(width), nn.ReLU(), transition, nn.AvgPool2d(2)]
            width //= 2
        for _ in range(depth):
            layers.append(DenseLayer(width, growth))
            width += growth
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), head(width))


class OneShot(nn.Module):
    """VoVNet: five convolutions in a row, all concatenated once at the end."""

    def __init__(self, source: int, inner: int, target: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_bn(source if number == 0 else inner, inner) for number in range(5))
        self.join = conv_bn(source + 5 * inner, target, 1)

    def forward(self, x: Tensor) -> Tensor:
        outs = [x]
        for conv in self.convs:
            outs.append(conv(outs[-1]))
        joined: Tensor = self.join(torch.cat(outs, 1))
        return joined


def vovnet() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2), conv_bn(16, 32)]
    source = 32
    for inner, target in ((16, 64), (24, 96), (32, 128)):
        layers += [OneShot(source, inner, target), nn.MaxPool2d(3, 2, ceil_mode=True)]
        source = target
    return nn.Sequential(*layers, head(source))


def googlenet() -> nn.Module:
    """GoogLeNet's nine inceptions at a quarter of their widths."""

    def inception(source: int, one: int, r3: int, three: int, r5: int, five: int, pool: int) -> nn.Module:
        return Branches(
            conv_bn(source, one, 1),
            nn.Sequential(conv_bn(source, r3, 1), conv_bn(r3, three)),
            nn.Sequential(conv_bn(source, r5, 1), conv_bn(r5, five, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(source, pool, 1)),
        )

    table = (
        (16, 24, 32, 4, 8, 8), (32, 32, 48, 8, 24, 16), None, (48, 24, 52, 4, 12, 16), (40, 28, 56, 6, 16, 16),
        (32, 32, 64, 6, 16, 16), (28, 36, 72, 8, 16, 16), (64, 40, 80, 8, 32, 32), None, (64, 40, 80, 8, 32, 32),
        (96, 48, 96, 12, 32, 32),
    )  # fmt: skip
    layers: list[nn.Module] = [conv_bn(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), conv_bn(16, 16, 1), conv_bn(16, 48)]
    source = 48
    for row in table:
        if row is None:
            layers.append(nn.MaxPool2d(3, 2, 1))
        else:
            layers.append(inception(source, *row))
            source = row[0] + row[2] + row[4] + row[5]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(source, CLASSES))


def _asymmetric(source: int, target: int, kernel: tuple[int, int]) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(source, target, kernel, padding=padding, bias=False), nn.BatchNorm2d(target), nn.ReLU()
    )


def inception_v3() -> nn.Module:
    """One inception of each kind (A, reduction, B with 1x7 and 7x1, E with split ends), at an eighth of the width."""
    a = Branches(
        conv_bn(24, 8, 1),
        nn.Sequential(conv_bn(24, 6, 1), conv_bn(6, 8, 5)),
        nn.Sequential(conv_bn(24, 8, 1), conv_bn(8, 12), conv_bn(12, 12)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(24, 8, 1)),
    )
    reduction = Branches(
        conv_bn(36, 48, 3, 2), nn.Sequential(conv_bn(36, 8, 1), conv_bn(8, 12), conv_bn(12, 12, 3, 2)),
        nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    b = Branches(
        conv_bn(96, 24, 1),
        nn.Sequential(conv_bn(96, 16, 1), _asymmetric(16, 16, (1, 7)), _asymmetric(16, 24, (7, 1))),
        nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv_bn(96, 24, 1)),
    )
    e = Branches(
        conv_bn(72, 40, 1),
        nn.Sequential(conv_bn(72, 48, 1), Branches(_asymmetric(48, 48, (1, 3)), _asymmetric(48, 48, (3, 1)))),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(72, 24, 1)),
    )
    return nn.Sequential(conv_bn(3, 24, 3, 2), a, reduction, b, e, head(160))


class ScaledBranches(nn.Module):
    """Inception-ResNet: the joined branches through a 1x1 with bias, scaled, added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ways = Branches(
            conv_bn(width, 16, 1), nn.Sequential(conv_bn(width, 16, 1), conv_bn(16, 16)),
            nn.Sequential(conv_bn(width, 16, 1), conv_bn(16, 24), conv_bn(24, 32)),
        )  # fmt: skip
        self.join = nn.Conv2d(64, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + 0.17 * self.join(self.ways(x)))


def inception_resnet() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 32, 3, 2), conv_bn(32, 64), *(ScaledBranches(64) for _ in range(5)), nn.MaxPool2d(2),
        conv_bn(64, 96), head(96),
    )  # fmt: skip


class CrossStage(nn.Module):
    """CSPNet: one part of the channels passes by, the other runs through residual blocks, then both join."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        half = width // 2
        self.pass_by, self.enter = (conv_bn(width, half, 1, act=nn.LeakyReLU) for _ in range(2))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn(half, half, 1, act=nn.LeakyReLU), conv_bn(half, half, act=nn.LeakyReLU))
            for _ in range(depth)
        )
        self.leave = conv_bn(half, half, 1, act=nn.LeakyReLU)
        self.join = conv_bn(width, width, 1, act=nn.LeakyReLU)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.enter(x)
        for block in self.blocks:
            inner = inner + block(inner)
        joined: Tensor = self.join(torch.cat([self.leave(inner), self.pass_by(x)], 1))
        return joined


def cspdarknet53() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, act=nn.LeakyReLU)]
    source = 16
    for width, depth in ((32, 1), (64, 2), (128, 8), (256, 8), (256, 4)):
        layers += [conv_bn(source, width, 3, 2, act=nn.LeakyReLU), CrossStage(width, depth)]
        source = width
    return nn.Sequential(*layers, head(source))
