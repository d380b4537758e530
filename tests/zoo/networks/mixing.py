"""Networks between convolution and attention: mixers, large kernels, windows, convolutions before transformers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import CLASSES, InvertedResidual, SqueezeExcite, conv_bn, head


class Plus(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def convmixer() -> nn.Module:
    width = 64
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.BatchNorm2d(width)]
    for _ in range(6):
        spatial = nn.Sequential(nn.Conv2d(width, width, 5, groups=width, padding=2), nn.GELU(), nn.BatchNorm2d(width))
        layers += [Plus(spatial), nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers, head(width))


def mlp(width: int, inner: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class Transposed(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.transpose(1, 2)).transpose(1, 2)
        return out


class Tokens(nn.Module):
    """Non-overlapping patches, flattened to (N, tokens, width)."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.project(x).flatten(2).transpose(1, 2)
        return tokens


class MeanTokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def mlp_mixer() -> nn.Module:
    width, tokens = 64, 64
    layers: list[nn.Module] = [Tokens(width, 8)]
    for _ in range(4):
        layers.append(Plus(nn.Sequential(nn.LayerNorm(width), Transposed(mlp(tokens, 32)))))
        layers.append(Plus(nn.Sequential(nn.LayerNorm(width), mlp(width, 4 * width))))
    return nn.Sequential(*layers, nn.LayerNorm(width), MeanTokens(), nn.Linear(width, CLASSES))


class Affine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def resmlp() -> nn.Module:
    """No norm runs over the channels: affine layers only."""
    width, tokens = 64, 64
    layers: list[nn.Module] = [Tokens(width, 8)]
    for _ in range(4):
        layers.append(Plus(nn.Sequential(Affine(width), Transposed(nn.Linear(tokens, tokens)), Affine(width))))
        layers.append(Plus(nn.Sequential(Affine(width), mlp(width, 4 * width), Affine(width))))
    return nn.Sequential(*layers, Affine(width), MeanTokens(), nn.Linear(width, CLASSES))


class SpatialGate(nn.Module):
    """gMLP: half of the channels, mixed over tokens, gates the other half."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(width // 2), nn.Conv1d(tokens, tokens, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed, gate = x.chunk(2, -1)
        out: Tensor = passed * self.mix(self.norm(gate))
        return out


def gmlp() -> nn.Module:
    width, tokens, inner = 64, 64, 192
    layers: list[nn.Module] = [Tokens(width, 8)]
    for _ in range(4):
        body = (nn.Linear(width, inner), nn.GELU(), SpatialGate(inner, tokens), nn.Linear(inner // 2, width))
        layers.append(Plus(nn.Sequential(nn.LayerNorm(width), *body)))
    return nn.Sequential(*layers, nn.LayerNorm(width), MeanTokens(), nn.Linear(width, CLASSES))


class LargeKernelAttention(nn.Module):
    """VAN: a depthwise, a dilated depthwise and a 1x1 make a gate for the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.far = nn.Conv2d(width, width, 7, padding=9, groups=width, dilation=3)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.enter(x))
        out: Tensor = self.leave(inner * self.mix(self.far(self.near(inner)))) + x
        return out


class VanBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.attend = LargeKernelAttention(width)
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(width, 1, 1)) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, 4 * width, 3, 1, 1, groups=4 * width), nn.GELU(),
            nn.Conv2d(4 * width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attend(self.norm1(x))
        out: Tensor = x + self.scale2 * self.mlp(self.norm2(x))
        return out


def van() -> nn.Module:
    layers: list[nn.Module] = []
    source = 3
    for width, depth, kernel in ((32, 2, 7), (64, 2, 3), (96, 3, 3)):
        layers += [nn.Conv2d(source, width, kernel, 2, kernel // 2), nn.BatchNorm2d(width)]
        layers += [VanBlock(width) for _ in range(depth)]
        source = width
    return nn.Sequential(*layers, head(source))


class Attention(nn.Module):
    """Multi-head self-attention over tokens; queries, keys and values from one linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        out: Tensor = self.leave((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        return out


def transformer_block(width: int, heads: int) -> nn.Module:
    attend = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
    return nn.Sequential(Plus(attend), Plus(nn.Sequential(nn.LayerNorm(width), mlp(width, 4 * width))))


class OnTokens(nn.Module):
    """A token network on a feature map."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        n, width, h, w = x.shape
        out: Tensor = self.body(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, width, h, w)
        return out


def coatnet() -> nn.Module:
    """Convolutional stages with squeeze-and-excite, then transformer stages."""

    def block(source: int, target: int, stride: int) -> nn.Module:
        gate = SqueezeExcite(4 * source, source // 2, nn.SiLU)
        return InvertedResidual(source, 4 * source, target, stride, nn.GELU, gate)

    return nn.Sequential(
        conv_bn(3, 24, 3, 2, act=nn.GELU), block(24, 48, 2), block(48, 48, 1), block(48, 64, 2),
        OnTokens(nn.Sequential(*(transformer_block(64, 4) for _ in range(2)))), conv_bn(64, 96, 3, 2, act=nn.GELU),
        OnTokens(transformer_block(96, 4)), head(96),
    )  # fmt: skip


class CompactTransformer(nn.Module):
    """CCT, for 32 x 32 pixels: a convolutional tokeniser, transformer blocks, tokens weighed by a softmax over them."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(32, width, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.place = nn.Parameter(torch.zeros(1, 64, width))
        self.blocks = nn.Sequential(*(transformer_block(width, 4) for _ in range(3)), nn.LayerNorm(width))
        self.weigh, self.say = nn.Linear(width, 1), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.tokens(x).flatten(2).transpose(1, 2) + self.place)
        pooled = (self.weigh(tokens).softmax(1).transpose(1, 2) @ tokens).squeeze(1)
        said: Tensor = self.say(pooled)
        return said


def cct() -> nn.Module:
    return CompactTransformer()


class CrossCovariance(nn.Module):
    """XCiT: attention between channels of one head, with a temperature, after normalising queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 4, 1).unbind(0)
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(-1)
        out: Tensor = self.leave((weights @ v).permute(0, 3, 1, 2).reshape(n, tokens, width))
        return out


def xcit() -> nn.Module:
    width = 64
    layers: list[nn.Module] = [Tokens(width, 8)]
    for _ in range(3):
        layers.append(Plus(nn.Sequential(nn.LayerNorm(width), CrossCovariance(width, 4))))
        layers.append(Plus(nn.Sequential(nn.LayerNorm(width), mlp(width, 4 * width))))
    return nn.Sequential(*layers, nn.LayerNorm(width), MeanTokens(), nn.Linear(width, CLASSES))


class Standardised(nn.Conv2d):
    """Weight standardisation: the weights' mean and spread are taken out on every call, and the fan-in."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(spread * self.weight[0].numel() + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def nfnet() -> nn.Module:
    """Norm-free: standardised weights, scaled GELU, gated residuals without batch-norm."""

    def body(width: int) -> nn.Module:
        half = width // 2
        return nn.Sequential(
            nn.GELU(), Standardised(width, half, 1), nn.GELU(), Standardised(half, half, 3, padding=1), nn.GELU(),
            Standardised(half, width, 1), SqueezeExcite(width, half),
        )  # fmt: skip

    layers: list[nn.Module] = [Standardised(3, 32, 3, 2, 1)]
    for source, width in ((32, 64), (64, 128)):
        layers += [nn.GELU(), Standardised(source, width, 3, 2, 1), Plus(body(width)), Plus(body(width))]
    return nn.Sequential(*layers, nn.GELU(), head(128))
