"""MobileNetV2 (Sandler et al. 2018, table 2)."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise

# expansion t, output channels c, repeats n, stride s of the first
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Widen by a 1x1, filter each channel by a 3x3, narrow by a 1x1; added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [conv_norm(inputs, hidden, activation=nn.ReLU6)] if expansion != 1 else []
        self.branch = nn.Sequential(
            *widen,
            conv_norm(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6),
            conv_norm(hidden, outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.shortcut else branch


class MobileNetV2(nn.Module):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 32, 3, stride=2, activation=nn.ReLU6)]
        width = 32
        for expansion, outputs, repeats, stride in STAGES:
            for index in range(repeats):
                layers.append(InvertedResidual(width, outputs, stride if index == 0 else 1, expansion))
                width = outputs
        layers.append(conv_norm(width, 1280, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.features(image)
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def mobilenet_v2(classes: int = 1000, seed: int = 0) -> nn.Module:
    """3.50 M parameters, 0.30 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(MobileNetV2(classes), seed)
