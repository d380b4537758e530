"""ResNeXt-50 32x4d (Xie et al. 2017, table 1): ResNet-50 with a wider 3x3 in 32 groups."""

from torch import Tensor, nn

from benchmarks.networks.blocks import conv_norm, initialise
from benchmarks.networks.resnet import EXPANSION, ResNet, shortcut

GROUPS = 32


class GroupedBottleneck(nn.Module):
    """1x1, grouped 3x3 at twice ResNet's width, 1x1 to twice that, beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, 2 * width, activation=nn.ReLU),
            conv_norm(2 * width, 2 * width, 3, stride=stride, groups=GROUPS, activation=nn.ReLU),
            conv_norm(2 * width, width * EXPANSION),
        )
        self.shortcut = shortcut(inputs, width * EXPANSION, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


def resnext50(classes: int = 1000, seed: int = 0) -> nn.Module:
    """25.03 M parameters, 4.26 G multiply-adds at 224 x 224; in eval mode."""
    return initialise(ResNet(GroupedBottleneck, EXPANSION, (3, 4, 6, 3), classes), seed)
