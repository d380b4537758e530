"""EfficientNet-B0 (Tan & Le 2019, table 1)."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

# expansion, kernel, stride of the first, output channels, repeats
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class SqueezeExcite(nn.Module):
    """Each channel scaled by what the means of all channels say of it (Hu et al. 2018)."""

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: type[nn.Module] = nn.SiLU,
        gate: type[nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))
        return x * scale


class MBConv(nn.Module):
    """Inverted residual with squeeze-and-excite, a quarter of the *input's* channels wide in the squeeze."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [conv_norm(inputs, hidden, activation=nn.SiLU)] if expansion != 1 else []
        self.branch = nn.Sequential(
            *widen,
            conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.SiLU),
            SqueezeExcite(hidden, max(1, inputs // 4)),
            conv_norm(hidden, outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.shortcut else branch


class EfficientNetB0(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 32, 3, stride=2, activation=nn.SiLU)]
        width = 32
        for expansion, kernel, stride, outputs, repeats in STAGES:
            for index in range(repeats):
                layers.append(MBConv(width, outputs, kernel, stride if index == 0 else 1, expansion))
                width = outputs
        layers.append(conv_norm(width, 1280, activation=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def efficientnet_b0(classes: int = 1000, seed: int = 0) -> nn.Module:
    """5.29 M parameters, 0.39 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(EfficientNetB0(classes), seed)
