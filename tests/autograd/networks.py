"""Whole networks, tiny, as the exporter writes them and the loader takes them, for any batch."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from pipeline.graph.model import free_batch, load
from tests.graph import zoo

SIDE = 16


class Attention(nn.Module):
    """One transformer block over 2 x 2 patches, two heads."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        parts = self.qkv(self.first(x)).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        shares = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((shares @ v).transpose(1, 2).reshape(batch, count, width))
        y: Tensor = x + self.mlp(self.second(x))
        return y


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.1 * torch.randn(1, (SIDE // 4) ** 2 + 1, width))
        self.blocks = nn.Sequential(Attention(width), Attention(width))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        y: Tensor = self.head(self.blocks(x)[:, 0])
        return y


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.top, self.down = self._block(3, 8), self._block(8, 12)
        self.wide = self._block(12, 12)
        self.up, self.last = nn.ConvTranspose2d(12, 8, 2, 2), nn.Conv2d(16 + 12, 2, 1)

    @staticmethod
    def _block(source: int, target: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(source, target, 3, 1, 1), nn.BatchNorm2d(target), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.top(x)
        c = self.down(nn.functional.max_pool2d(a, 2))
        wide = nn.functional.interpolate(self.wide(c), scale_factor=2.0, mode="bilinear")
        y: Tensor = self.last(torch.cat([a, self.up(c), wide], 1))
        return y


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "mobilenet_v2": lambda: zoo.build("mobilenet_v2"),
    "resnet": lambda: zoo.build("resnet_basic"),
    "shufflenet": lambda: zoo.build("shufflenet"),
    "unet": UNet,
    "vit": VisionTransformer,
}


@cache
def _written(name: str) -> bytes:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    kept: dict[str, Any] = {
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    }  # batch-norms stay
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network, (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=False, input_names=["input"], opset_version=17,
            dynamic_axes={"input": {0: "batch"}}, **kept,
        )  # fmt: skip
        made: bytes = free_batch(load(path)).SerializeToString()
    return made


def written(name: str) -> onnx.ModelProto:
    """The network, normalised, with batch-norms as nodes of their own and a free batch."""
    return onnx.load_from_string(_written(name))
