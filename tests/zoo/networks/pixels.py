"""Networks from image to image: super-resolution, generators, style."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import Residual


def conv(source: int, target: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(source, target, kernel, padding=kernel // 2)


def espcn() -> nn.Module:
    return nn.Sequential(
        conv(1, 64, 5), nn.Tanh(), conv(64, 32), nn.Tanh(), conv(32, 9), nn.PixelShuffle(3), nn.Sigmoid()
    )


class Scaled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + 0.5 * self.body(x)
        return out


class Edsr(nn.Module):
    """Residual blocks without norms, a long skip, two pixel shuffles with a convolution between."""

    def __init__(self, width: int = 48, depth: int = 8) -> None:
        super().__init__()
        self.enter, self.body = (
            conv(3, width),
            nn.Sequential(*(Scaled(width) for _ in range(depth)), conv(width, width)),
        )
        self.up = nn.Sequential(
            conv(width, 4 * width), nn.PixelShuffle(2), conv(width, 4 * width), nn.PixelShuffle(2), conv(width, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        out: Tensor = self.up(x + self.body(x))
        return out


def edsr() -> nn.Module:
    return Edsr()


class SpatialAttention(nn.Module):
    """RFDN's and RLFN's ESA: narrowed, strided, pooled, resized back, a gate for every value."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.narrow, self.skip = conv(width, inner, 1), conv(inner, inner, 1)
        self.stride, self.deep, self.widen = nn.Conv2d(inner, inner, 3, 2), conv(inner, inner), conv(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        deep = self.deep(F.max_pool2d(self.stride(narrow), 5, 3))
        resized = F.interpolate(deep, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.widen(resized + self.skip(narrow)))


class LocalFeature(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (conv(width, width), nn.LeakyReLU(0.05))]
        self.body, self.leave, self.gate = nn.Sequential(*layers), conv(width, width, 1), SpatialAttention(width, 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gate(self.leave(self.body(x) + x))
        return out


class Rlfn(nn.Module):
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.enter, self.leave = conv(3, width), conv(width, width)
        self.body = nn.Sequential(*(LocalFeature(width) for _ in range(4)))
        self.up = nn.Sequential(conv(width, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        out: Tensor = self.up(self.leave(self.body(x)) + x)
        return out


def rlfn() -> nn.Module:
    return Rlfn()


class SrGan(nn.Module):
    """SRResNet: PReLU with a slope per channel, batch-norm, a shuffle behind which PReLU sees fewer channels."""

    def __init__(self, width: int = 32, depth: int = 5) -> None:
        super().__init__()

        def block() -> nn.Module:
            return nn.Sequential(
                conv(width, width), nn.BatchNorm2d(width), nn.PReLU(width), conv(width, width), nn.BatchNorm2d(width)
            )

        self.enter = nn.Sequential(conv(3, width, 9), nn.PReLU(width))
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.leave = nn.Sequential(conv(width, width), nn.BatchNorm2d(width))
        self.up = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU(width), conv(width, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        x = first
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.up(self.leave(x) + first)
        return out


def srresnet() -> nn.Module:
    return SrGan()


def style_transfer() -> nn.Module:
    """Johnson et al. 2016: reflection padding, instance norm, residual blocks, nearest resizing up."""

    def layer(source: int, target: int, kernel: int, stride: int = 1, act: bool = True) -> nn.Module:
        layers = [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(source, target, kernel, stride)]
        return nn.Sequential(*layers, nn.InstanceNorm2d(target, affine=True), *([nn.ReLU()] if act else []))

    blocks = (Residual(nn.Sequential(layer(64, 64, 3), layer(64, 64, 3, act=False))) for _ in range(4))
    return nn.Sequential(
        layer(3, 16, 9), layer(16, 32, 3, 2), layer(32, 64, 3, 2), *blocks, nn.Upsample(scale_factor=2),
        layer(64, 32, 3), nn.Upsample(scale_factor=2), layer(32, 16, 3), nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9),
    )  # fmt: skip


def dcgan() -> nn.Module:
    """The generator: noise of 64 numbers, a linear layer, transposed convolutions."""
    layers: list[nn.Module] = [nn.Linear(64, 128 * 16), nn.Unflatten(1, (128, 4, 4)), nn.BatchNorm2d(128), nn.ReLU()]
    for source, target in ((128, 64), (64, 32), (32, 16)):
        layers += [nn.ConvTranspose2d(source, target, 4, 2, 1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())


class Autoencoder(nn.Module):
    """A convolutional VAE at test time: the mean is the code."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 48),
        )  # fmt: skip
        self.mean, self.spread = nn.Linear(48, 16), nn.Linear(48, 16)
        self.decode = nn.Sequential(
            nn.Linear(16, 64 * 16), nn.ReLU(), nn.Unflatten(1, (64, 4, 4)), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),
            nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 3, 2, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encode(x)
        mean = self.mean(code)
        return self.decode(mean).sigmoid(), self.spread(code)


def vae() -> nn.Module:
    return Autoencoder()
