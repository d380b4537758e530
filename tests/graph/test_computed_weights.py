"""Weights that the graph computes: constants where they hang on no input, locked where they do."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import from_proto
from tests.graph.exports import export_as
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import coupled, ints, is_exact, proto

IMAGE = "float[1,3,4,4] x"


class StandardisedConv(nn.Conv2d):
    """Weight standardisation: every filter has mean zero and variance one."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        std = self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias, self.stride, self.padding)


class NormalisedConv(nn.Module):
    """Batch-norm on the weight, as reparameterised networks have it before they are merged."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        variance = self.norm.get_buffer("running_var")
        scale = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        return F.conv2d(x, self.conv.weight * scale.reshape(-1, 1, 1, 1), self.norm.bias, padding=1)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)

    def conv(source: int, target: int) -> nn.Module:
        if kind == "standardised":
            return StandardisedConv(source, target, 3, padding=1)
        if kind == "batch-norm on weights":
            return NormalisedConv(source, target)
        plain = nn.Conv2d(source, target, 3, padding=1)
        if kind == "weight norm":
            normed: nn.Module = parametrizations.weight_norm(plain)
            return normed
        with warnings.catch_warnings():  # of the newer form, which the older exporter cannot write
            warnings.simplefilter("ignore", FutureWarning)
            return nn.utils.spectral_norm(plain)

    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), *tail).eval()


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "standardised", "batch-norm on weights"])
def test_weight_computed_from_others_becomes_a_constant_and_is_cut(kind, exporter) -> None:
    model = from_proto(export_as(exporter, network(kind), (torch.randn(1, 3, 8, 8),)))
    assert [node.op_type for node in model.proto.graph.node if node.op_type in ("Conv", "Relu", "Gemm")] == [
        "Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Gemm"
    ]  # fmt: skip
    assert len(model.proto.graph.node) <= 9
    channels = couple(model)
    kept = random_half(channels)
    share = paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops
    assert share == pytest.approx((3 * 4 + 4 * 8 + 8 * 8) / (3 * 8 + 8 * 16 + 16 * 16), abs=2e-3)
    assert proven(model, channels, kept).relative_error < 1e-5


def test_large_weight_is_folded_where_that_makes_the_file_no_larger() -> None:
    """Five million elements: the scaled weight takes the place of the one it is computed from."""
    large = np.ones((2, 3, 900, 930), np.float32)
    body = "h = Mul(w, g) k = Div(h, d) a = Conv(x, k) y = Conv(a, v)"
    model = from_proto(proto("float[1,3,900,930] x", body, w=large, g=(2, 1, 1, 1), d=(2, 1, 1, 1), v=(2, 2, 1, 1)))
    assert [node.op_type for node in model.proto.graph.node] == ["Conv", "Conv"]
    assert {tensor.name for tensor in model.proto.graph.initializer} == {"k", "v"}


def test_large_constant_that_folding_would_write_out_stays_computed() -> None:
    body = "k = Expand(c, s) z = Add(x, k) y = ReduceSum(z)"
    source = proto("float[1,1,1,1] x", body, c=(1,), s=ints(1, 5, 1000, 1000))
    assert [node.op_type for node in from_proto(source).proto.graph.node] == ["Expand", "Add", "ReduceSum"]


@pytest.mark.parametrize(
    "before",
    ["k = Cast<to = 1>(h)", "c = Cast<to = 1>(t) k = Transpose<perm = [3, 2, 0, 1]>(c)",
     "c = Cast<to = 1>(f) k = Reshape(c, s)", "c = Cast<to = 1>(u) k = Squeeze(c, z)"],
)  # fmt: skip
def test_half_weights_behind_cast_and_movement_are_cut(before) -> None:
    random = np.random.default_rng(0)
    shapes = {"h": (4, 3, 1, 1), "t": (1, 1, 3, 4), "f": (4, 3), "u": (1, 4, 3, 1, 1)}
    halves: dict[str, Any] = {name: random.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    model, channels, _ = coupled(
        IMAGE, f"{before} a = Conv(x, k) y = Conv(a, v)", v=(2, 4, 1, 1), s=ints(4, 3, 1, 1), z=ints(0), **halves
    )
    assert [node.op_type for node in model.proto.graph.node] == ["Conv", "Conv"]
    assert is_exact(model, channels, {"a": (0, 2)})


def test_weight_scaled_by_one_number_from_an_activation_is_cut_where_it_lies() -> None:
    body = "m = ReduceMax(x) k = Mul(w, m) a = Conv(x, k) h = Mul(v, m) b = Conv(a, h) y = Conv(b, u)"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(4, 4, 1, 1), u=(2, 4, 1, 1))
    assert groups["a"].locked_because is None
    assert is_exact(model, channels, {"a": (0, 2), "b": (1, 3)})


def test_weight_mixed_from_activations_locks_what_it_reads_and_the_rest_cuts() -> None:
    """Dynamic convolution: a weighted sum of four kernels, with weights that the image gives."""
    body = (
        "a = Conv(x, w) g = GlobalAveragePool(a) f = Flatten(g) e = Gemm(f, p) s = Softmax(e) m = MatMul(s, q) "
        "k = Reshape(m, t) b = Conv(a, k) c = Conv(b, v) d = Relu(c) y = Conv(d, u)"
    )
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "p": (4, 4), "q": (4, 16), "v": (6, 4, 1, 1), "u": (2, 6, 1, 1)}
    model, channels, groups = coupled(IMAGE, body, **weights, t=ints(4, 4, 1, 1))
    assert "Conv (Conv_b) has a weight" in (groups["a"].locked_because or "")
    assert [group.id for group in channels.free if group.exact] == ["c"]  # and the experts, under their softmax
    assert is_exact(model, channels, {"c": (0, 2, 5)})
