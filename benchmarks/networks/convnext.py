"""ConvNeXt-T (Liu et al. 2022, section 2 and appendix A)."""

import torch
from torch import Tensor, nn

from benchmarks.networks.blocks import initialise

STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))  # width, depth
EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return normal.permute(0, 3, 1, 2)


class Block(nn.Module):
    """7x7 depthwise, then per position: norm, four times wider, back, scaled by a learnt factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.widen = nn.Linear(width, 4 * width)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.norm(self.filter(x).permute(0, 2, 3, 1))
        branch = self.scale * self.narrow(self.activation(self.widen(branch)))
        moved: Tensor = branch.permute(0, 3, 1, 2)
        return x + moved


class ConvNeXt(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        width = STAGES[0][0]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), ChannelNorm(width, eps=EPS)]
        for number, (wider, depth) in enumerate(STAGES):
            if number:
                layers += [ChannelNorm(width, eps=EPS), nn.Conv2d(width, wider, 2, 2)]
                width = wider
            layers += [Block(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.classifier = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.features(image)
        logits: Tensor = self.classifier(self.norm(features.mean((2, 3))))
        return logits


def convnext_tiny(classes: int = 1000, seed: int = 0) -> nn.Module:
    """28.59 M parameters, 4.46 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(ConvNeXt(classes), seed)
