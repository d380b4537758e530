"""A detector like YOLOv5n (release 6): CSP backbone, pyramid pooling, top-down and bottom-up neck, heads at three
scales."""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

WIDTHS = (16, 32, 64, 128, 256)  # at strides 2 to 32
DEPTHS = (1, 2, 3, 1)
ANCHORS = 3  # a scale
EPS = 1e-3


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return conv_norm(inputs, outputs, kernel, stride=stride, activation=nn.SiLU, eps=EPS)


class Bottleneck(nn.Module):
    """1x1 and 3x3, beside a shortcut where asked."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(width, width), conv(width, width, 3))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.branch(x)
        return x + inside if self.residual else inside


class C3(nn.Module):
    """Two halves, one through bottlenecks, joined by a Concat."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool = True) -> None:
        super().__init__()
        self.first = conv(inputs, outputs // 2)
        self.second = conv(inputs, outputs // 2)
        self.inside = nn.Sequential(*(Bottleneck(outputs // 2, residual) for _ in range(depth)))
        self.join = conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([self.inside(self.first(x)), self.second(x)], 1))
        return joined


class Pyramid(nn.Module):
    """SPPF: what three max-pools in a row see, and their input, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.join = conv(width * 2, width)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.first(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        joined: Tensor = self.join(torch.cat(seen, 1))
        return joined


class Yolo(nn.Module):
    """Images (N, 3, H, W), H and W multiples of 32, to raw predictions (N, ANCHORS * (5 + classes), places of all
    scales)."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        w0, w1, w2, w3, w4 = WIDTHS
        stem = nn.Sequential(
            nn.Conv2d(3, w0, 6, 2, 2, bias=False),
            nn.BatchNorm2d(w0, eps=EPS),
            nn.SiLU(),
        )
        self.to8 = nn.Sequential(
            stem, conv(w0, w1, 3, 2), C3(w1, w1, DEPTHS[0]), conv(w1, w2, 3, 2), C3(w2, w2, DEPTHS[1])
        )
        self.to16 = nn.Sequential(conv(w2, w3, 3, 2), C3(w3, w3, DEPTHS[2]))
        self.to32 = nn.Sequential(conv(w3, w4, 3, 2), C3(w4, w4, DEPTHS[3]), Pyramid(w4))
        self.up = nn.Upsample(scale_factor=2)
        self.narrow32, self.down16 = conv(w4, w3), C3(w4, w3, 1, residual=False)
        self.narrow16, self.out8 = conv(w3, w2), C3(w3, w2, 1, residual=False)
        self.shrink8, self.out16 = conv(w2, w2, 3, 2), C3(w3, w3, 1, residual=False)
        self.shrink16, self.out32 = conv(w3, w3, 3, 2), C3(w4, w4, 1, residual=False)
        self.heads = nn.ModuleList(nn.Conv2d(width, ANCHORS * (5 + classes), 1) for width in (w2, w3, w4))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.to8(image)
        middle = self.to16(fine)
        lateral32 = self.narrow32(self.to32(middle))
        lateral16 = self.narrow16(self.down16(torch.cat([self.up(lateral32), middle], 1)))
        out8 = self.out8(torch.cat([self.up(lateral16), fine], 1))
        out16 = self.out16(torch.cat([self.shrink8(out8), lateral16], 1))
        out32 = self.out32(torch.cat([self.shrink16(out16), lateral32], 1))
        found = [head(each).flatten(2) for head, each in zip(self.heads, (out8, out16, out32), strict=True)]
        return torch.cat(found, 2)


def yolo(classes: int = 80, seed: int = 0) -> nn.Module:
    """1.87 M parameters, 0.57 G multiply-adds at 320 x 320; in eval mode."""
    return initialise(Yolo(classes), seed)
