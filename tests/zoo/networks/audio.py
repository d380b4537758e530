"""Networks over time: 1-D convolutions, causal, dilated, gated, and one with a recurrent layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.zoo import conv_bn

CLASSES = 10


def m5() -> nn.Module:
    """Dai et al. 2017: raw sound, one wide strided layer, then threes."""
    layers: list[nn.Module] = []
    for source, target, kernel, stride in ((1, 32, 80, 16), (32, 32, 3, 1), (32, 64, 3, 1), (64, 128, 3, 1)):
        conv = nn.Conv1d(source, target, kernel, stride, kernel // 2)
        layers += [conv, nn.BatchNorm1d(target), nn.ReLU(), nn.MaxPool1d(4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, CLASSES))


class Causal(nn.Module):
    """TCN: two causal dilated convolutions with weight norm and a residual; the future is padded, then chopped."""

    def __init__(self, source: int, target: int, dilation: int) -> None:
        super().__init__()
        pad = 2 * dilation
        self.pad = pad
        self.one = nn.utils.parametrizations.weight_norm(nn.Conv1d(source, target, 3, padding=pad, dilation=dilation))
        self.two = nn.utils.parametrizations.weight_norm(nn.Conv1d(target, target, 3, padding=pad, dilation=dilation))
        self.shortcut = nn.Conv1d(source, target, 1) if source != target else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.one(x)[..., : -self.pad])
        out = F.relu(self.two(out)[..., : -self.pad])
        return F.relu(out + self.shortcut(x))


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, -1]


def tcn() -> nn.Module:
    blocks = [Causal(8 if number == 0 else 48, 48, 2**number) for number in range(5)]
    return nn.Sequential(*blocks, Last(), nn.Linear(48, CLASSES))


class WaveNet(nn.Module):
    """Dilated stacks: tanh times sigmoid, a residual on, a skip out; skips are summed."""

    def __init__(self, width: int = 32, skip: int = 48) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, width, 1)
        dilations = [2**number for number in range(6)]
        self.filters = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=dilation) for dilation in dilations)
        self.gates = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=dilation) for dilation in dilations)
        self.residuals = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in dilations)
        self.skips = nn.ModuleList(nn.Conv1d(width, skip, 1) for _ in dilations)
        self.leave = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, 64, 1), nn.ReLU(), nn.Conv1d(64, 32, 1))
        self.dilations = dilations

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        total: Tensor | None = None
        for number, dilation in enumerate(self.dilations):
            before = F.pad(x, (dilation, 0))
            out = torch.tanh(self.filters[number](before)) * torch.sigmoid(self.gates[number](before))
            skip = self.skips[number](out)
            total = skip if total is None else total + skip
            x = x + self.residuals[number](out)
        logits: Tensor = self.leave(total)
        return logits


def wavenet() -> nn.Module:
    return WaveNet()


class Separator(nn.Module):
    """Conv-TasNet: an encoder, masks from depthwise blocks with PReLU and one-group norm, a decoder."""

    def __init__(self, width: int = 48, inner: int = 64, speakers: int = 2) -> None:
        super().__init__()
        self.width, self.speakers = width, speakers
        self.encode, self.decode = nn.Conv1d(1, width, 16, 8), nn.ConvTranspose1d(width, 1, 16, 8)
        self.enter = nn.Sequential(nn.GroupNorm(1, width), nn.Conv1d(width, 32, 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(32, inner, 1), nn.PReLU(), nn.GroupNorm(1, inner),
                nn.Conv1d(inner, inner, 3, padding=2**number, dilation=2**number, groups=inner), nn.PReLU(),
                nn.GroupNorm(1, inner), nn.Conv1d(inner, 32, 1),
            )
            for number in range(4)
        )  # fmt: skip
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(32, speakers * width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.encode(x))
        y = self.enter(code)
        for block in self.blocks:
            y = y + block(y)
        masks = self.mask(y).view(x.shape[0], self.speakers, self.width, -1)
        masked = (masks * code.unsqueeze(1)).flatten(0, 1)
        voices: Tensor = self.decode(masked).view(x.shape[0], self.speakers, -1)
        return voices


def conv_tasnet() -> nn.Module:
    return Separator()


class Recogniser(nn.Module):
    """CRNN: a VGG, its height squeezed away, a bidirectional LSTM over the width, a linear layer per step."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            conv_bn(1, 32), nn.MaxPool2d(2), conv_bn(32, 64), nn.MaxPool2d(2), conv_bn(64, 96), conv_bn(96, 96),
            nn.MaxPool2d((2, 1)), conv_bn(96, 128), nn.MaxPool2d((4, 1)),
        )  # fmt: skip
        self.read = nn.LSTM(128, 48, bidirectional=True, batch_first=True)
        self.say = nn.Linear(96, 26)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.look(x).squeeze(2).transpose(1, 2)
        said: Tensor = self.say(self.read(steps)[0])
        return said


def crnn() -> nn.Module:
    return Recogniser()


class Keywords(nn.Module):
    """BC-ResNet: 2-D features meet their own mean over frequency, broadcast back."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.enter = conv_bn(1, width, 5, 2)
        self.two = nn.ModuleList(conv_bn(width, width, 3, 1, width, act=None) for _ in range(4))
        self.one = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width, bias=False), nn.BatchNorm2d(width),
                nn.SiLU(), nn.Conv2d(width, width, 1), nn.Dropout2d(),
            )
            for _ in range(4)
        )  # fmt: skip
        self.say = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for two, one in zip(self.two, self.one, strict=True):
            planes = two(x)
            x = F.relu(x + planes + one(planes.mean(2, keepdim=True)))
        said: Tensor = self.say(x.mean((2, 3), keepdim=True)).flatten(1)
        return said


def bc_resnet() -> nn.Module:
    return Keywords()
