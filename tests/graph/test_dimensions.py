"""Ranks, precisions, free sizes, several inputs and outputs."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import outputs_agree, prove
from targets.errors import ProofFailed
from tests.graph.exports import export_as
from tests.graph.random_cuts import Kept, proven, random_half
from tests.graph.small import coupled, is_exact

EXPORTERS = ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)]


class Net(nn.Module):
    """Stem, residual, depthwise, transposed convolution, concatenation and a head, in one, two or three dimensions."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
        up = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        self.pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        self.stem = nn.Sequential(conv(3, 8, 3, padding=1), norm(8), nn.ReLU())
        depthwise = conv(16, 16, 3, padding=1, groups=16)
        self.body = nn.Sequential(conv(8, 16, 1), norm(16), nn.ReLU(), depthwise, conv(16, 8, 1))
        self.down = conv(8, 16, 3, padding=1)
        self.up = up(16, 8, 2, 2)
        self.last = conv(16, 12, 3, padding=1)
        self.axes = tuple(range(2, rank + 2))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.body(x))
        wide = self.up(F.relu(self.down(self.pool(x, 2))))
        out: Tensor = self.head(F.relu(self.last(torch.cat([x, wide], 1))).mean(self.axes))
        return out


def network(rank: int) -> nn.Module:
    torch.manual_seed(0)
    return Net(rank).eval()


def halved(model: Model) -> tuple[Channels, Kept, float]:
    channels = couple(model)
    assert all("graph's output" in (group.locked_because or "graph's output") for group in channels.groups)
    kept = random_half(channels)
    return channels, kept, paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops


def multiply_adds(rank: int, keep: float) -> float:
    """Of Net on 8 points along each axis, with every width times `keep` but those of the input and the output."""
    stem, inner, down, last = (keep * width for width in (8, 16, 16, 12))
    block = 3 * 3**rank * stem + 2 * stem * inner + inner * 3**rank
    below = stem * 3**rank * down + down * 2**rank * stem
    return float(8**rank * (block + 2 * stem * 3**rank * last) + 4**rank * below + 4 * last)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_networks_of_every_rank_are_cut(rank, exporter) -> None:
    model = from_proto(export_as(exporter, network(rank), (torch.randn(1, 3, *[8] * rank),)))
    channels, kept, left = halved(model)
    assert left == pytest.approx(multiply_adds(rank, 0.5) / multiply_adds(rank, 1))
    assert proven(model, channels, kept).relative_error < 1e-5


PRECISIONS = {
    torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16, torch.float64: TensorProto.DOUBLE
}  # fmt: skip


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_networks_of_other_precisions_keep_it_and_are_proven_in_float32(dtype, exporter) -> None:
    model = from_proto(export_as(exporter, network(2).to(dtype), (torch.randn(1, 3, 8, 8, dtype=dtype),)))
    channels, kept, left = halved(model)
    assert left == pytest.approx(multiply_adds(2, 0.5) / multiply_adds(2, 1))
    small = cut(model, channels, kept)
    held = {tensor.name: tensor.data_type for tensor in model.proto.graph.initializer}
    assert {tensor.name: tensor.data_type for tensor in small.proto.graph.initializer} == held
    assert PRECISIONS[dtype] in held.values()
    assert small.proto.graph.output[0].type.tensor_type.elem_type == PRECISIONS[dtype]
    proof = prove(small, masked(model, channels, kept))
    assert proof.relative_error < 1e-5
    with pytest.raises(ProofFailed):
        prove(small, masked(model, channels, random_half(channels, seed=1)))


def test_weights_in_half_and_sums_in_float_are_cut_together() -> None:
    half: dict[str, Any] = {name: np.random.default_rng(0).standard_normal(shape).astype(np.float16)
            for name, shape in {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1)}.items()}  # fmt: skip
    body = (
        "h = Cast<to = 10>(x) a = Conv(h, w) f = Cast<to = 1>(a) s = Sigmoid(f) "
        "g = Cast<to = 10>(s) b = Conv(g, v) y = Cast<to = 1>(b)"
    )
    model, channels, _ = coupled("float[1,3,4,4] x", body, **half)
    assert is_exact(model, channels, {"a": (1, 2)})


class Free(nn.Module):
    """Sizes that come from the input: interpolation to another branch's size, padding up to a multiple of four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.lateral, self.last = nn.Conv2d(12, 8, 1), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2], x.shape[3]
        x = F.pad(x, (0, -w % 4, 0, -h % 4))
        fine = F.relu(self.stem(x))
        coarse = self.lateral(F.relu(self.down(fine)))
        wide = F.interpolate(coarse, size=fine.shape[2:], mode="nearest")
        out: Tensor = self.last(torch.cat([fine, wide], 1))[:, :, :h, :w]
        return out


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_free_height_and_width_are_cut_at_one_size_and_run_at_others(exporter) -> None:
    torch.manual_seed(0)
    example = (torch.randn(2, 3, 10, 14),)
    if exporter == "legacy":
        axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "h", 3: "w"}}
        options: dict[str, Any] = {"dynamic_axes": axes, "input_names": ["x"], "output_names": ["y"]}
    else:
        dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)}
        options = {"dynamic_shapes": (dims,), "input_names": ["x"], "output_names": ["y"]}
    source = export_as(exporter, Free().eval(), example, **options)
    model = from_proto(source, {"x": (1, 3, 10, 14)})
    channels, kept, left = halved(model)
    assert left == pytest.approx(0.42, abs=0.05)
    assert proven(model, channels, kept).relative_error < 1e-5
    pair = [maker(model, channels, kept).proto for maker in (cut, masked)]
    for shape in ((1, 3, 10, 14), (3, 3, 7, 9), (2, 3, 16, 16)):
        feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        assert outputs_agree(*(run_unoptimised(graph, feeds) for graph in pair)) < 1e-5
        assert run_unoptimised(pair[0], feeds)["y"].shape == (shape[0], 2, *shape[2:])


def test_several_inputs_and_outputs() -> None:
    body = (
        "a = Conv(x, w) b = Conv(z, v) c = Add(a, b) d = Relu(c) e = Conv(d, u) y = Sigmoid(e) "
        "p = GlobalAveragePool(d) f = Flatten(p) q = Gemm(f, t)"
    )
    model, channels, groups = coupled(
        "float[1,3,4,4] x, float[1,2,4,4] z", body, "y,q", w=(8, 3, 1, 1), v=(8, 2, 1, 1), u=(2, 8, 1, 1), t=(8, 5)
    )
    assert {piece.tensor for piece in groups["a"].slices} == {"w", "v", "u", "t"}
    assert [group.id for group in channels.free] == ["a"]
    assert is_exact(model, channels, {"a": (0, 6)})


def test_output_that_shows_an_inner_feature_locks_it_and_the_rest_is_cut() -> None:
    body = "a = Conv(x, w) r = Relu(a) b = Conv(r, v) m = Relu(b) c = Conv(m, u) n = Relu(c) y = Conv(n, t)"
    model, channels, groups = coupled(
        "float[1,3,4,4] x", body, "y,m", w=(8, 3, 1, 1), v=(6, 8, 1, 1), u=(8, 6, 1, 1), t=(2, 8, 1, 1)
    )
    assert groups["b"].locked_because == "they are the graph's output 'm'"
    assert {group.id for group in channels.free} == {"a", "c"}
    kept = random_half(channels)
    assert is_exact(model, channels, kept)
