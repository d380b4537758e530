"""A detector in the style of YOLOv8-nano: split-and-concatenate blocks, a pyramid up and down, heads per level.

The heads end in raw maps, flattened and joined over the levels; what turns them into boxes is left to the caller.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.networks.blocks import conv_norm, initialise

BINS = 16


def silu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return conv_norm(inputs, outputs, kernel, stride=stride, activation=nn.SiLU)


class Split(nn.Module):
    """C2f: two halves, a chain of bottlenecks on the second, everything concatenated."""

    def __init__(self, inputs: int, outputs: int, depth: int, *, adds: bool) -> None:
        super().__init__()
        part = outputs // 2
        self.adds = adds
        self.enter, self.leave = silu(inputs, outputs, 1), silu((2 + depth) * part, outputs, 1)
        self.blocks = nn.ModuleList(nn.Sequential(silu(part, part), silu(part, part)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            out = block(parts[-1])
            parts.append(parts[-1] + out if self.adds else out)
        joined: Tensor = self.leave(torch.cat(parts, 1))
        return joined


class Pyramid(nn.Module):
    """SPPF: one pool three times in a row, all four maps concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = silu(width, width // 2, 1), silu(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        joined: Tensor = self.leave(torch.cat(parts, 1))
        return joined


class Yolo(nn.Module):
    """Images (N, 3, H, W), H and W multiples of 32, to (N, 4 * bins + classes, places)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.early = nn.Sequential(
            silu(3, 16, 3, 2), silu(16, 32, 3, 2), Split(32, 32, 1, adds=True), silu(32, 64, 3, 2),
            Split(64, 64, 2, adds=True),
        )  # fmt: skip
        self.middle = nn.Sequential(silu(64, 128, 3, 2), Split(128, 128, 2, adds=True))
        self.late = nn.Sequential(silu(128, 256, 3, 2), Split(256, 256, 1, adds=True), Pyramid(256))
        self.up_middle, self.up_early = Split(384, 128, 1, adds=False), Split(192, 64, 1, adds=False)
        self.down_early, self.down_middle = silu(64, 64, 3, 2), silu(128, 128, 3, 2)
        self.out_middle, self.out_late = Split(192, 128, 1, adds=False), Split(384, 256, 1, adds=False)
        self.boxes = nn.ModuleList(_head(width, 64, 4 * BINS) for width in (64, 128, 256))
        self.scores = nn.ModuleList(_head(width, max(64, min(classes, 100)), classes) for width in (64, 128, 256))

    def forward(self, image: Tensor) -> Tensor:
        early = self.early(image)
        middle = self.middle(early)
        late = self.late(middle)
        mixed = self.up_middle(torch.cat([F.interpolate(late, scale_factor=2), middle], 1))
        near = self.up_early(torch.cat([F.interpolate(mixed, scale_factor=2), early], 1))
        mid = self.out_middle(torch.cat([self.down_early(near), mixed], 1))
        far = self.out_late(torch.cat([self.down_middle(mid), late], 1))
        levels = zip(self.boxes, self.scores, (near, mid, far), strict=True)
        return torch.cat([torch.cat([box(x), score(x)], 1).flatten(2) for box, score, x in levels], 2)


def _head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(silu(inputs, width), silu(width, width), nn.Conv2d(width, outputs, 1))


def yolo(classes: int = 80, seed: int = 0) -> nn.Module:
    """3.16 M parameters (YOLOv8-nano's, but for the 16 that turn bins into numbers); in eval mode."""
    return initialise(Yolo(classes), seed)
