"""Video networks: 3-D convolutions, whole and factored."""

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


def conv_bn_3d(
    source: int, target: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1), groups: int = 1
) -> nn.Sequential:
    padding = tuple(size // 2 for size in kernel)
    conv = nn.Conv3d(source, target, kernel, stride, padding, groups=groups, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm3d(target))


class Block(nn.Module):
    """Two 3-D convolutions and a shortcut; `factored` as R(2+1)D: 1x3x3, then 3x1x1."""

    def __init__(self, source: int, target: int, stride: int, factored: bool) -> None:
        super().__init__()
        strides = (stride, stride, stride)

        def whole(a: int, b: int, step: int) -> nn.Module:
            return conv_bn_3d(a, b, (3, 3, 3), (step, step, step))

        def split(a: int, b: int, step: int) -> nn.Module:
            middle = (a * b * 27) // (a * 9 + 3 * b)
            return nn.Sequential(
                conv_bn_3d(a, middle, (1, 3, 3), (1, step, step)), nn.ReLU(),
                conv_bn_3d(middle, b, (3, 1, 1), (step, 1, 1)),
            )  # fmt: skip

        make = split if factored else whole
        self.body = nn.Sequential(make(source, target, stride), nn.ReLU(), make(target, target, 1))
        same = source == target and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn_3d(source, target, (1, 1, 1), strides)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _network(factored: bool) -> nn.Module:
    layers: list[nn.Module] = [conv_bn_3d(3, 16, (3, 7, 7), (1, 2, 2)), nn.ReLU()]
    source = 16
    for stage, width in enumerate((16, 32, 64, 128)):
        layers += [Block(source, width, 2 if stage else 1, factored), Block(width, width, 1, factored)]
        source = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(source, CLASSES))


def r3d18() -> nn.Module:
    return _network(False)


def r2plus1d18() -> nn.Module:
    return _network(True)


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool, self.squeeze = nn.AdaptiveAvgPool3d(1), nn.Conv3d(width, width // 4, 1)
        self.excite = nn.Conv3d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(F.relu(self.squeeze(self.pool(x))))
        return x * gate.sigmoid()


class X3dBlock(nn.Module):
    """Depthwise 3-D convolution inside an inverted bottleneck, gated, SiLU."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        inner = 2 * target
        self.body = nn.Sequential(
            conv_bn_3d(source, inner, (1, 1, 1)), nn.ReLU(),
            conv_bn_3d(inner, inner, (3, 3, 3), (1, stride, stride), inner), Gate(inner), nn.SiLU(),
            conv_bn_3d(inner, target, (1, 1, 1)),
        )  # fmt: skip
        same = source == target and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn_3d(source, target, (1, 1, 1), (1, stride, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def x3d() -> nn.Module:
    layers: list[nn.Module] = [conv_bn_3d(3, 24, (1, 3, 3), (1, 2, 2)), conv_bn_3d(24, 24, (5, 1, 1), groups=24)]
    layers.append(nn.ReLU())
    source = 24
    for width, depth in ((24, 2), (48, 3), (96, 2)):
        for number in range(depth):
            layers.append(X3dBlock(source, width, 2 if number == 0 else 1))
            source = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(source, CLASSES))
