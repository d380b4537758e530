"""Networks that keep several resolutions alive and fuse them: HRNet, DLA, hourglass."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import Residual, conv_bn, head


def basic(source: int, target: int, stride: int = 1) -> nn.Module:
    body = nn.Sequential(conv_bn(source, target, 3, stride), conv_bn(target, target, act=None))
    return Residual(body, None if source == target and stride == 1 else conv_bn(source, target, 1, stride, act=None))


class Exchange(nn.Module):
    """HRNet: every resolution goes through residual blocks, then receives all others, resized and added."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(basic(width, width), basic(width, width)) for width in widths)
        self.ways = nn.ModuleDict()
        for source, one in enumerate(widths):
            for target, other in enumerate(widths):
                if target < source:
                    self.ways[f"{source}-{target}"] = conv_bn(one, other, 1, act=None)
                elif target > source:
                    steps = [conv_bn(one, one, 3, 2) for _ in range(target - source - 1)]
                    self.ways[f"{source}-{target}"] = nn.Sequential(*steps, conv_bn(one, other, 3, 2, act=None))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        ys = [block(x) for block, x in zip(self.blocks, xs, strict=True)]
        fused = []
        for target, y in enumerate(ys):
            total = y
            for source, other in enumerate(ys):
                if source != target:
                    sent = self.ways[f"{source}-{target}"](other)
                    total = total + (
                        F.interpolate(sent, scale_factor=2.0 ** (source - target)) if source > target else sent
                    )
            fused.append(F.relu(total))
        return fused


class HighResolution(nn.Module):
    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 32, 3, 2), conv_bn(32, 32, 3, 2), basic(32, widths[0]))
        self.second, self.third = conv_bn(widths[0], widths[1], 3, 2), conv_bn(widths[1], widths[2], 3, 2)
        self.two, self.three = Exchange(widths[:2]), nn.ModuleList(Exchange(widths) for _ in range(2))
        self.predict = nn.Sequential(conv_bn(sum(widths), 64, 1), nn.Conv2d(64, 17, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        xs = self.two([x, self.second(x)])
        xs = [*xs, self.third(xs[-1])]
        for exchange in self.three:
            xs = exchange(xs)
        size = xs[0].shape[2:]
        resized = [xs[0], *(F.interpolate(y, size, mode="bilinear", align_corners=False) for y in xs[1:])]
        maps: Tensor = self.predict(torch.cat(resized, 1))
        return maps


def hrnet() -> nn.Module:
    return HighResolution()


class Aggregate(nn.Module):
    """DLA: a tree of blocks whose leaves are concatenated at its root."""

    def __init__(self, depth: int, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.left: nn.Module
        self.right: nn.Module
        if depth == 1:
            self.left, self.right = basic(source, target, stride), basic(target, target)
        else:
            self.left = Aggregate(depth - 1, source, target, stride)
            self.right = Aggregate(depth - 1, target, target, 1)
        self.root = conv_bn(2 * target, target, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        right = self.right(left)
        return F.relu(self.root(torch.cat([right, left], 1)) + right)


def dla() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16), conv_bn(16, 32, 3, 2), Aggregate(1, 32, 48, 2), Aggregate(2, 48, 96, 2),
        Aggregate(1, 96, 128, 2), head(128),
    )  # fmt: skip


class Hourglass(nn.Module):
    """Down, deeper, up again, added to what stayed above."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stay, self.down, self.up = basic(width, width), basic(width, width), basic(width, width)
        self.inner = Hourglass(depth - 1, width) if depth > 1 else basic(width, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        out: Tensor = self.stay(x) + F.interpolate(low, scale_factor=2)
        return out


class StackedHourglass(nn.Module):
    """Two hourglasses; the first one's maps are an output too, and feed the second."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, width, 3, 2), basic(width, width))
        self.first, self.second = Hourglass(3, width), Hourglass(3, width)
        self.predict, self.again = nn.Conv2d(width, 16, 1), nn.Conv2d(width, 16, 1)
        self.back, self.forward_on = nn.Conv2d(16, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        features = self.first(x)
        maps = self.predict(features)
        return maps, self.again(self.second(x + self.forward_on(features) + self.back(maps)))


def hourglass() -> nn.Module:
    return StackedHourglass()
