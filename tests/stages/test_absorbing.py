"""Absorption: a removed channel's mean goes into its readers' biases."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.arrays import ArraySamples
from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, from_proto
from pipeline.stages.absorbing import absorb_means
from tests.stages.networks import images, opened

CONSTANT = 1  # the channel of the first convolution that is the same number wherever it is


def network(*, pads: int, gemm: dict[str, float] | None = None, bias: bool = True, groups: int = 1) -> Model:
    """conv 3 -> 4 whose channel 1 (and, for two groups, 3) has no weights but a bias; relu; a reader; its output."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((4, 3, 1, 1)).astype(np.float32)
    shift = np.array([0.1, 0.7, 0.2, 0.4], np.float32)
    for channel in (CONSTANT, 3) if groups == 2 else (CONSTANT,):
        first[channel] = 0
    weights = {"first.w": first, "first.b": shift}
    nodes = [
        helper.make_node("Conv", ["x", "first.w", "first.b"], ["first"], "first"),
        helper.make_node("Relu", ["first"], ["active"], "active"),
    ]
    if gemm is None:
        weights["reader.w"] = generator.standard_normal((6, 4 // groups, 3, 3)).astype(np.float32)
        names = ["active", "reader.w", *(["reader.b"] if bias else [])]
        nodes.append(helper.make_node("Conv", names, ["y"], "reader", pads=[pads] * 4, group=groups))
    else:
        nodes.append(helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pooled"))
        nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flat"))
        weights["reader.w"] = generator.standard_normal((4, 6)).astype(np.float32)
        nodes.append(helper.make_node("Gemm", ["flat", "reader.w", "reader.b"], ["y"], "reader"))
        nodes[-1].attribute.extend(helper.make_attribute(name, value) for name, value in gemm.items())
    if bias:
        weights["reader.b"] = generator.standard_normal(6).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def samples(count: int = 8) -> ArraySamples:
    values = np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)
    return ArraySamples({"x": values}, None, {})


def outputs(model: Model) -> np.ndarray:
    return np.asarray(run_unoptimised(model.proto, {"x": samples().read(np.array([5])).inputs["x"]})["y"])


def without(model: Model, *gone: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs of the uncut network, of the cut one, and of the cut one with absorption."""
    channels = couple(model)
    group = next(g for g in channels.free if any(piece.tensor == "first.w" for piece in g.slices))
    kept = {group.id: tuple(c for c in range(group.channels) if c not in gone)}
    small = cut(model, channels, kept)
    return outputs(model), outputs(small), outputs(absorb_means(model, small, channels, kept, samples()))


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_channel_goes_away_exactly(bias: bool) -> None:
    whole, small, absorbed = without(network(pads=0, bias=bias), CONSTANT)
    assert np.abs(whole - small).max() > 0.1
    assert np.allclose(whole, absorbed, rtol=1e-5, atol=1e-5)


def test_at_zero_padded_borders_a_constant_is_none() -> None:
    whole, _, absorbed = without(network(pads=1), CONSTANT)
    assert np.allclose(whole[:, :, 1:-1, 1:-1], absorbed[:, :, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    assert np.abs(whole - absorbed)[:, :, 0, :].max() > 0.1


def test_a_grouped_reader_takes_in_each_groups_own_channels() -> None:
    whole, small, absorbed = without(network(pads=0, groups=2), 1)  # coupled: channel 1 of both groups
    assert np.abs(whole - small).max() > 0.1
    assert np.allclose(whole, absorbed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scales", [{}, {"alpha": 0.5}, {"alpha": 2.0, "beta": 4.0}])
def test_a_matrix_product_is_scaled_as_it_says(scales: dict[str, float]) -> None:
    whole, small, absorbed = without(network(pads=0, gemm=scales), CONSTANT)
    assert np.abs(whole - small).max() > 0.05
    assert np.allclose(whole, absorbed, rtol=1e-5, atol=1e-5)


def test_channels_that_vary_leave_less_behind_than_without() -> None:
    whole, small, absorbed = without(network(pads=0), 0, 2)
    assert np.square(whole - absorbed).mean() < np.square(whole - small).mean()


def test_nothing_removed_changes_nothing() -> None:
    whole, small, absorbed = without(network(pads=0))
    assert np.array_equal(small, absorbed)
    assert np.array_equal(whole, absorbed)


@pytest.mark.parametrize("family", ["resnet_bottleneck", "mobilenet_v2", "densenet", "regnet"])
def test_real_families_come_closer_to_the_original_on_average(family: str) -> None:
    from tests.graph.random_cuts import random_half

    net = opened(family)
    kept = random_half(net.channels, keep=0.7)
    small = cut(net.model, net.channels, kept)
    absorbed = absorb_means(net.model, small, net.channels, kept, images(32))
    onnx.checker.check_model(absorbed.proto)
    assert absorbed.proto.graph.node == small.proto.graph.node or absorbed.proto != small.proto
    feeds = {"input": images(1, seed=9).read(np.array([0])).inputs["input"]}
    whole, cut_off, mended = (
        np.asarray(next(iter(run_unoptimised(m.proto, feeds).values()))) for m in (net.model, small, absorbed)
    )
    assert np.isfinite(mended).all()
    assert np.linalg.norm(whole - mended) < 1.5 * np.linalg.norm(whole - cut_off)
