"""Detectors: backbone, neck, and heads with all the reshaping that they export with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import InvertedResidual, conv_bn
from tests.zoo.networks.fusion import basic

CLASSES = 4
BINS = 16


def silu(source: int, target: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return conv_bn(source, target, kernel, stride, act=nn.SiLU)


class C2f(nn.Module):
    """YOLOv8: split in two, a chain of bottlenecks on the last part, everything concatenated."""

    def __init__(self, source: int, target: int, depth: int, adds: bool) -> None:
        super().__init__()
        self.adds, part = adds, target // 2
        self.enter, self.leave = silu(source, target, 1), silu((2 + depth) * part, target, 1)
        self.blocks = nn.ModuleList(nn.Sequential(silu(part, part), silu(part, part)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            out = block(parts[-1])
            parts.append(parts[-1] + out if self.adds else out)
        joined: Tensor = self.leave(torch.cat(parts, 1))
        return joined


class PoolPyramid(nn.Module):
    """SPPF: the same pool three times in a row, all four concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = silu(width, width // 2, 1), silu(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        joined: Tensor = self.leave(torch.cat(parts, 1))
        return joined


class Detect(nn.Module):
    """YOLOv8's head: per level boxes as distributions over bins (softmax and a fixed 1x1) and class scores."""

    strides = (8, 16, 32)

    def __init__(self, widths: tuple[int, ...], side: int) -> None:
        super().__init__()
        self.boxes = nn.ModuleList(
            nn.Sequential(silu(width, 64), silu(64, 64), nn.Conv2d(64, 4 * BINS, 1)) for width in widths
        )
        self.scores = nn.ModuleList(
            nn.Sequential(silu(width, 32), silu(32, 32), nn.Conv2d(32, CLASSES, 1)) for width in widths
        )
        points = []
        for stride in self.strides:
            along = torch.arange(side // stride) + 0.5
            points.append(stride * torch.stack(torch.meshgrid(along, along, indexing="xy")).reshape(2, -1))
        self.register_buffer("points", torch.cat(points, 1))
        scale = [torch.full((points[n].shape[1],), float(stride)) for n, stride in enumerate(self.strides)]
        self.register_buffer("scale", torch.cat(scale))
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32).reshape(1, BINS, 1, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        maps = [
            torch.cat([box(x), score(x)], 1).flatten(2)
            for box, score, x in zip(self.boxes, self.scores, levels, strict=True)
        ]
        boxes, scores = torch.cat(maps, 2).split((4 * BINS, CLASSES), 1)
        n, _, anchors = boxes.shape
        bins = boxes.view(n, 4, BINS, anchors).transpose(1, 2).softmax(1)
        distances = F.conv2d(bins, self.bins).view(n, 4, anchors)  # type: ignore[arg-type]
        near, far = distances.chunk(2, 1)
        corners = torch.cat([self.points - near, self.points + far], 1) * self.scale  # type: ignore[operator]
        return torch.cat([corners, scores.sigmoid()], 1)


class Yolo8(nn.Module):
    def __init__(self, side: int = 64) -> None:
        super().__init__()
        self.early = nn.Sequential(silu(3, 16, 3, 2), silu(16, 32, 3, 2), C2f(32, 32, 1, True), silu(32, 64, 3, 2))
        self.p3 = C2f(64, 64, 2, True)
        self.p4 = nn.Sequential(silu(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.p5 = nn.Sequential(silu(128, 256, 3, 2), C2f(256, 256, 1, True), PoolPyramid(256))
        self.up4, self.up3 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.down3, self.down4 = silu(64, 64, 3, 2), silu(128, 128, 3, 2)
        self.out4, self.out5 = C2f(192, 128, 1, False), C2f(384, 256, 1, False)
        self.detect = Detect((64, 128, 256), side)

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.early(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.up4(torch.cat([F.interpolate(p5, scale_factor=2), p4], 1))
        n3 = self.up3(torch.cat([F.interpolate(n4, scale_factor=2), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        found: Tensor = self.detect([n3, n4, n5])
        return found


def yolo8() -> nn.Module:
    return Yolo8()


class Focus(nn.Module):
    """Every second pixel, four times, side by side in the channels."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.conv = silu(12, target)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        out: Tensor = self.conv(torch.cat(parts, 1))
        return out


class YoloX(nn.Module):
    """Focus stem, feature pyramid, decoupled heads; per level boxes, objectness and classes, flattened and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.p3 = nn.Sequential(Focus(16), silu(16, 32, 3, 2), C2f(32, 32, 1, True), silu(32, 64, 3, 2))
        self.p4 = nn.Sequential(silu(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.lateral, self.merge = silu(128, 64, 1), C2f(128, 64, 1, False)
        widths = (64, 128)
        self.stems = nn.ModuleList(silu(width, 48, 1) for width in widths)
        self.class_ways = nn.ModuleList(nn.Sequential(silu(48, 48), silu(48, 48)) for _ in widths)
        self.box_ways = nn.ModuleList(nn.Sequential(silu(48, 48), silu(48, 48)) for _ in widths)
        self.classes = nn.ModuleList(nn.Conv2d(48, CLASSES, 1) for _ in widths)
        self.boxes = nn.ModuleList(nn.Conv2d(48, 4, 1) for _ in widths)
        self.objects = nn.ModuleList(nn.Conv2d(48, 1, 1) for _ in widths)

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(x)
        p4 = self.p4(p3)
        p3 = self.merge(torch.cat([F.interpolate(self.lateral(p4), scale_factor=2), p3], 1))
        outs = []
        for level, features in enumerate((p3, p4)):
            stem = self.stems[level](features)
            near, far = self.class_ways[level](stem), self.box_ways[level](stem)
            joined = [self.boxes[level](far), self.objects[level](far).sigmoid(), self.classes[level](near).sigmoid()]
            outs.append(torch.cat(joined, 1).flatten(2))
        return torch.cat(outs, 2).permute(0, 2, 1)


def yolox() -> nn.Module:
    return YoloX()


class Darknet(nn.Module):
    """YOLOv3: Darknet residuals, two levels, raw maps with three anchors each."""

    def __init__(self) -> None:
        super().__init__()

        def leaky(source: int, target: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            return conv_bn(source, target, kernel, stride, act=nn.LeakyReLU)

        class Block(nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.body = nn.Sequential(leaky(width, width // 2, 1), leaky(width // 2, width))

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = x + self.body(x)
                return out

        self.early = nn.Sequential(
            leaky(3, 16), leaky(16, 32, 3, 2), Block(32), leaky(32, 64, 3, 2), Block(64), Block(64),
            leaky(64, 128, 3, 2), *(Block(128) for _ in range(4)),
        )  # fmt: skip
        self.late = nn.Sequential(leaky(128, 256, 3, 2), Block(256), Block(256), leaky(256, 128, 1))
        self.low = nn.Sequential(leaky(128, 256), nn.Conv2d(256, 3 * (5 + CLASSES), 1))
        self.up = leaky(128, 64, 1)
        self.high = nn.Sequential(leaky(192, 64, 1), leaky(64, 128), nn.Conv2d(128, 3 * (5 + CLASSES), 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early(x)
        late = self.late(early)
        upper = self.high(torch.cat([F.interpolate(self.up(late), scale_factor=2), early], 1))
        return self._anchored(self.low(late)), self._anchored(upper)

    @staticmethod
    def _anchored(maps: Tensor) -> Tensor:
        n, _, h, w = maps.shape
        return maps.view(n, 3, 5 + CLASSES, h, w).permute(0, 1, 3, 4, 2).contiguous()


def yolo3() -> nn.Module:
    return Darknet()


class SingleShot(nn.Module):
    """SSDLite on MobileNetV2: boxes and scores from four maps, channels last, flattened and joined."""

    def __init__(self) -> None:
        super().__init__()

        def down(source: int, target: int) -> nn.Module:
            return InvertedResidual(source, 4 * source, target, 2, nn.ReLU6)

        def stay(width: int) -> nn.Module:
            return InvertedResidual(width, 4 * width, width, 1, nn.ReLU6)

        self.levels = nn.ModuleList(
            [
                nn.Sequential(conv_bn(3, 16, 3, 2, act=nn.ReLU6), down(16, 24), stay(24), down(24, 32), stay(32)),
                nn.Sequential(down(32, 64), stay(64)),
                nn.Sequential(down(64, 96), stay(96)),
                down(96, 64),
            ]
        )
        widths = (32, 64, 96, 64)

        def predictor(width: int, numbers: int) -> nn.Module:
            return nn.Sequential(conv_bn(width, width, 3, 1, width, act=nn.ReLU6), nn.Conv2d(width, 6 * numbers, 1))

        self.boxes = nn.ModuleList(predictor(width, 4) for width in widths)
        self.scores = nn.ModuleList(predictor(width, CLASSES) for width in widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = [], []
        for level, box, score in zip(self.levels, self.boxes, self.scores, strict=True):
            x = level(x)
            boxes.append(box(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            scores.append(score(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, CLASSES))
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


def ssd() -> nn.Module:
    return SingleShot()


class Retina(nn.Module):
    """ResNet, feature pyramid, and two heads shared by all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 32, 3, 2), basic(32, 32))
        self.c3 = nn.Sequential(basic(32, 64, 2), basic(64, 64))
        self.c4 = nn.Sequential(basic(64, 128, 2), basic(128, 128))
        self.c5 = nn.Sequential(basic(128, 256, 2), basic(256, 256))
        self.lateral = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in (64, 128, 256))
        self.smooth = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1) for _ in range(3))
        self.p6 = nn.Conv2d(64, 64, 3, 2, 1)

        def tower(numbers: int) -> nn.Module:
            layers = [layer for _ in range(4) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
            return nn.Sequential(*layers, nn.Conv2d(64, 9 * numbers, 3, padding=1))

        self.boxes, self.scores = tower(4), tower(CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        c5 = self.c5(c4)
        p5 = self.lateral[2](c5)
        p4 = self.lateral[1](c4) + F.interpolate(p5, size=c4.shape[2:])
        p3 = self.lateral[0](c3) + F.interpolate(p4, size=c3.shape[2:])
        levels = [smooth(p) for smooth, p in zip(self.smooth, (p3, p4, p5), strict=True)]
        levels.append(self.p6(levels[-1]))
        return self._joined(self.boxes, levels, 4), self._joined(self.scores, levels, CLASSES)

    @staticmethod
    def _joined(tower: nn.Module, levels: list[Tensor], numbers: int) -> Tensor:
        flat = []
        for level in levels:
            out = tower(level)
            n, _, h, w = out.shape
            flat.append(out.view(n, -1, numbers, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, numbers))
        return torch.cat(flat, 1)


def retinanet() -> nn.Module:
    return Retina()


class CentreNet(nn.Module):
    """ResNet, three transposed convolutions up again, and one small head per quantity."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            conv_bn(3, 32, 3, 2), basic(32, 32), basic(32, 64, 2), basic(64, 128, 2), basic(128, 128, 2)
        )
        layers: list[nn.Module] = []
        for source, target in ((128, 96), (96, 64), (64, 48)):
            layers += [nn.ConvTranspose2d(source, target, 4, 2, 1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]
        self.up = nn.Sequential(*layers)

        def predictor(numbers: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, numbers, 1))

        self.heat, self.size, self.offset = predictor(CLASSES), predictor(2), predictor(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.up(self.down(x))
        return self.heat(features).sigmoid(), self.size(features), self.offset(features)


def centernet() -> nn.Module:
    return CentreNet()
