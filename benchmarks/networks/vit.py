"""ViT-B/16 (Dosovitskiy et al. 2021, equations 1 to 7)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.networks.blocks import initialise

PATCH, WIDTH, HEADS, LAYERS = 16, 768, 12, 12
EPS = 1e-6


class Attention(nn.Module):
    """Queries, keys and values by one matrix (equation 5), heads side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(count, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, tokens, WIDTH)
        out: Tensor = self.out(mixed)
        return out


class Encoder(nn.Module):
    """Norm first: attention beside a shortcut, then two dense layers beside another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH, eps=EPS), nn.LayerNorm(WIDTH, eps=EPS)
        self.attention = Attention()
        self.dense = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        out: Tensor = x + self.dense(self.second(x))
        return out


class ViT(nn.Module):
    """Images (N, 3, size, size) to logits (N, classes)."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, (size // PATCH) ** 2 + 1, WIDTH))
        self.encoders = nn.Sequential(*(Encoder() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, eps=EPS)
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(image), -1, -1), patches], 1) + self.positions
        logits: Tensor = self.classifier(self.norm(self.encoders(tokens))[:, 0])
        return logits


def vit_b16(classes: int = 1000, seed: int = 0, size: int = 64) -> nn.Module:
    """86.57 M parameters, 17.6 G multiply-adds at 224 x 224; in eval mode. `size` is that of the images."""
    return initialise(ViT(classes, size), seed, size=size)
