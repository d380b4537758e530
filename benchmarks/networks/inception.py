"""Inception-v3 (Szegedy et al. 2016, table 1 and figures 5 to 7), without the auxiliary classifier.

Its convolutions and pools are not padded at the start: inputs are at least 75 x 75.
"""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import initialise


class Layer(nn.Sequential):
    """Convolution, batch-norm, ReLU. Rows and columns of the kernel may differ."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True
    ) -> None:
        sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sizes[0] // 2, sizes[1] // 2) if pad else 0
        super().__init__(
            nn.Conv2d(inputs, outputs, sizes, stride, padding, bias=False), nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU()
        )


class Joined(nn.Module):
    """Branches side by side; `width` channels come out."""

    def __init__(self, width: int, *branches: nn.Module) -> None:
        super().__init__()
        self.width = width
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def mixed_35(inputs: int, pooled: int) -> Joined:
    return Joined(
        224 + pooled,
        Layer(inputs, 64, 1),
        nn.Sequential(Layer(inputs, 48, 1), Layer(48, 64, 5)),
        nn.Sequential(Layer(inputs, 64, 1), Layer(64, 96, 3), Layer(96, 96, 3)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Layer(inputs, pooled, 1)),
    )


def smaller_17(inputs: int) -> Joined:
    return Joined(
        480 + inputs,
        Layer(inputs, 384, 3, 2, pad=False),
        nn.Sequential(Layer(inputs, 64, 1), Layer(64, 96, 3), Layer(96, 96, 3, 2, pad=False)),
        nn.MaxPool2d(3, 2),
    )


def mixed_17(inputs: int, w: int) -> Joined:
    row, column = (1, 7), (7, 1)
    return Joined(
        768,
        Layer(inputs, 192, 1),
        nn.Sequential(Layer(inputs, w, 1), Layer(w, w, row), Layer(w, 192, column)),
        nn.Sequential(
            Layer(inputs, w, 1), Layer(w, w, column), Layer(w, w, row), Layer(w, w, column), Layer(w, 192, row)
        ),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Layer(inputs, 192, 1)),
    )


def smaller_8(inputs: int) -> Joined:
    return Joined(
        512 + inputs,
        nn.Sequential(Layer(inputs, 192, 1), Layer(192, 320, 3, 2, pad=False)),
        nn.Sequential(
            Layer(inputs, 192, 1), Layer(192, 192, (1, 7)), Layer(192, 192, (7, 1)), Layer(192, 192, 3, 2, pad=False)
        ),
        nn.MaxPool2d(3, 2),
    )


def mixed_8(inputs: int) -> Joined:
    def both() -> Joined:
        return Joined(768, Layer(384, 384, (1, 3)), Layer(384, 384, (3, 1)))

    return Joined(
        2048,
        Layer(inputs, 320, 1),
        nn.Sequential(Layer(inputs, 384, 1), both()),
        nn.Sequential(Layer(inputs, 448, 1), Layer(448, 384, 3), both()),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Layer(inputs, 192, 1)),
    )


class InceptionV3(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Layer(3, 32, 3, 2, pad=False), Layer(32, 32, 3, pad=False), Layer(32, 64, 3), nn.MaxPool2d(3, 2),
            Layer(64, 80, 1), Layer(80, 192, 3, pad=False), nn.MaxPool2d(3, 2),
            mixed_35(192, 32), mixed_35(256, 64), mixed_35(288, 64), smaller_17(288),
            mixed_17(768, 128), mixed_17(768, 160), mixed_17(768, 160), mixed_17(768, 192), smaller_8(768),
            mixed_8(1280), mixed_8(2048),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(2048, classes))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def inception_v3(classes: int = 1000, seed: int = 0) -> nn.Module:
    """23.83 M parameters, 5.71 G multiply-adds at 299 x 299; in eval mode."""
    return initialise(InceptionV3(classes), seed, size=96)
