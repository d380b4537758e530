"""ResNet-20 and ResNet-56 for images of 32 x 32 (He et al. 2015, section 4.2), with trained weights from an ONNX file.

Shortcuts are parameter-free (option A): every other pixel, new channels zero.
"""

from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from targets.errors import BadInput

WIDTHS = (16, 32, 64)
BLOCKS = {"resnet20": 3, "resnet56": 9}  # a stage


class Shortcut(nn.Module):
    """Every other pixel, and half of the new channels before the old ones, half behind."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first one's channels are the block's own, the second writes the
    residual stream."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if stride == 1 else Shortcut(width - inputs)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inside)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Images (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        inputs, stages = WIDTHS[0], []
        for width in WIDTHS:
            layers = []
            for _ in range(blocks):
                layers.append(Block(inputs, width, 2 if width > inputs else 1))
                inputs = width
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(inputs, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.layer3(self.layer2(self.layer1(x)))
        pooled = F.avg_pool2d(x, x.size(3))
        logits: Tensor = self.linear(pooled.view(pooled.size(0), -1))
        return logits


def stream_layers(network: CifarResNet) -> list[nn.Module]:
    """The convolutions that write the residual stream: the first one, and the last one of every block."""
    return [network.conv1, *(module.conv2 for module in network.modules() if isinstance(module, Block))]


def trained(name: str, checkpoint: Path) -> CifarResNet:
    """`name` (of BLOCKS) with the weights of an ONNX file whose initialisers have the module's own names; eval mode."""
    network = CifarResNet(BLOCKS[name])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(checkpoint).graph.initializer}
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = sorted(key for key in wanted if key not in stored or stored[key].shape != tuple(wanted[key].shape))
    if missing:
        raise BadInput(
            f"{checkpoint}: no weights of {name} under the name {missing[0]}. Give a file with batch-norm kept."
        )
    network.load_state_dict({key: torch.from_numpy(stored[key].copy()) for key in wanted}, strict=False)
    return network.eval()
