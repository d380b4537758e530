"""Networks that give a map: encoders and decoders with skips, pyramids of pools and of dilations."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import conv_bn
from tests.zoo.networks.fusion import basic

CLASSES = 6


def twice(source: int, target: int) -> nn.Module:
    return nn.Sequential(conv_bn(source, target), conv_bn(target, target))


class UNet(nn.Module):
    """Four levels, transposed convolutions up, skips concatenated."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.down = nn.ModuleList(twice(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.join = nn.ModuleList(twice(2 * b, b) for _, b in pairs)
        self.predict = nn.Conv2d(widths[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for number, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        maps: Tensor = self.predict(x)
        return maps


def unet() -> nn.Module:
    return UNet()


class NestedUNet(nn.Module):
    """UNet++: every node reads all earlier nodes of its level and the resized one below."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.depth = len(widths)
        self.nodes = nn.ModuleDict()
        for level, width in enumerate(widths):
            self.nodes[f"{level}-0"] = twice(widths[level - 1] if level else 3, width)
            for step in range(1, self.depth - level):
                self.nodes[f"{level}-{step}"] = twice(step * width + widths[level + 1], width)
        self.predict = nn.ModuleList(nn.Conv2d(widths[0], CLASSES, 1) for _ in range(self.depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        found: dict[tuple[int, int], Tensor] = {}
        for level in range(self.depth):
            found[level, 0] = self.nodes[f"{level}-0"](F.max_pool2d(found[level - 1, 0], 2) if level else x)
            for step in range(1, level + 1):
                row = level - step
                up = F.interpolate(found[row + 1, step - 1], scale_factor=2, mode="bilinear", align_corners=True)
                read = torch.cat([*(found[row, earlier] for earlier in range(step)), up], 1)
                found[row, step] = self.nodes[f"{row}-{step}"](read)
        maps = [predict(found[0, step]) for step, predict in enumerate(self.predict, 1)]
        return torch.stack(maps).mean(0)


def unet_plus_plus() -> nn.Module:
    return NestedUNet()


def _dilated(source: int, target: int, dilation: int) -> nn.Module:
    conv = nn.Conv2d(source, target, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(target), nn.ReLU())


class DeepLab(nn.Module):
    """DeepLabV3+: dilated ways and a global one concatenated (ASPP), a skip from early features."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(conv_bn(3, 32, 3, 2), basic(32, 32, 2))
        self.late = nn.Sequential(basic(32, 64, 2), basic(64, 128), basic(128, 128))
        self.ways = nn.ModuleList([conv_bn(128, 48, 1), *(_dilated(128, 48, rate) for rate in (2, 4, 6))])
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(128, 48, 1))
        self.project, self.skip = conv_bn(5 * 48, 64, 1), conv_bn(32, 16, 1)
        self.decode = nn.Sequential(conv_bn(80, 64), nn.Conv2d(64, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        early = self.early(x)
        late = self.late(early)
        whole = F.interpolate(self.whole(late), size=late.shape[2:], mode="bilinear", align_corners=False)
        joined = self.project(torch.cat([*(way(late) for way in self.ways), whole], 1))
        up = F.interpolate(joined, size=early.shape[2:], mode="bilinear", align_corners=False)
        maps = self.decode(torch.cat([up, self.skip(early)], 1))
        return F.interpolate(maps, size=x.shape[2:], mode="bilinear", align_corners=False)


def deeplab_v3() -> nn.Module:
    return DeepLab()


class PyramidPooling(nn.Module):
    """PSPNet: the features pooled to four sizes, narrowed, resized and concatenated with themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 32, 3, 2), basic(32, 64, 2), basic(64, 128, 2), basic(128, 128))
        self.ways = nn.ModuleList(nn.Sequential(nn.AvgPool2d(12 // n), conv_bn(128, 32, 1)) for n in (1, 2, 3, 6))
        self.decode = nn.Sequential(conv_bn(256, 64), nn.Dropout2d(), nn.Conv2d(64, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        size = features.shape[2:]
        ways = [F.interpolate(way(features), size=size, mode="bilinear", align_corners=False) for way in self.ways]
        maps = self.decode(torch.cat([features, *ways], 1))
        return F.interpolate(maps, scale_factor=8, mode="bilinear", align_corners=False)


def pspnet() -> nn.Module:
    return PyramidPooling()


class SemanticFpn(nn.Module):
    """Feature pyramid whose levels are brought to one size, added, and read with group norm, as in Panoptic FPN."""

    def __init__(self) -> None:
        super().__init__()
        self.downs = nn.ModuleList(
            [nn.Sequential(conv_bn(3, 32, 3, 2), basic(32, 32)), basic(32, 64, 2), basic(64, 128, 2)]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, 48, 1) for width in (32, 64, 128))
        self.read = nn.ModuleList(
            nn.Sequential(nn.Conv2d(48, 32, 3, padding=1, bias=False), nn.GroupNorm(4, 32), nn.ReLU()) for _ in range(3)
        )
        self.predict = nn.Conv2d(32, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for down in self.downs:
            x = down(x)
            features.append(x)
        level = self.lateral[2](features[2])
        levels = [level]
        for number in (1, 0):
            level = self.lateral[number](features[number]) + F.interpolate(level, scale_factor=2)
            levels.append(level)
        size = levels[-1].shape[2:]
        total = sum(
            F.interpolate(read(level), size=size, mode="bilinear", align_corners=False)
            for read, level in zip(self.read, levels, strict=True)
        )
        maps: Tensor = self.predict(total)
        return maps


def fpn() -> nn.Module:
    return SemanticFpn()


class LinkNet(nn.Module):
    """Decoders of 1x1, transposed 3x3, 1x1; skips are added, not concatenated."""

    def __init__(self) -> None:
        super().__init__()

        def decoder(source: int, target: int) -> nn.Module:
            inner = source // 4
            return nn.Sequential(
                conv_bn(source, inner, 1), nn.ConvTranspose2d(inner, inner, 3, 2, 1, 1, bias=False),
                nn.BatchNorm2d(inner), nn.ReLU(), conv_bn(inner, target, 1),
            )  # fmt: skip

        self.stem = conv_bn(3, 32, 7, 2)
        self.one, self.two, self.three = basic(32, 32), basic(32, 64, 2), basic(64, 128, 2)
        self.up3, self.up2, self.up1 = decoder(128, 64), decoder(64, 32), decoder(32, 32)
        self.predict = nn.Sequential(conv_bn(32, 16), nn.Conv2d(16, CLASSES, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.stem(x))
        two = self.two(one)
        up = self.up2(self.up3(self.three(two)) + two) + one
        maps: Tensor = self.predict(self.up1(up))
        return maps


def linknet() -> nn.Module:
    return LinkNet()
