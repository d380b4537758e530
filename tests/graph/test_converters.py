"""Graphs as other converters write them: cut by half as far as the same network from torch, and proven."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import prove
from targets.errors import ProofFailed
from tests.graph import styles
from tests.graph.random_cuts import Kept, proven, random_half, random_vanishing

CONVERTED = Path(__file__).parent / "converted"
OUTPUT = "they are the graph's output"

# File: share of the multiply-adds that a cut by half leaves, and the groups that are inexact.
TENSORFLOW = {
    "tf_plain_9": (0.297, 0),
    "tf_plain_13": (0.297, 0),
    "tf_plain_17": (0.297, 0),
    "tf_residual_9": (0.276, 0),
    "tf_residual_17": (0.276, 0),
    "tf_mobile_9": (0.422, 0),
    "tf_mobile_17": (0.422, 0),
    "tf_branches_13": (0.263, 0),
    "tf_unet_11": (0.277, 0),
    "tf_unet_17": (0.277, 0),
    "tf_shuffle_13": (0.269, 1),  # a layer norm over channels
}


def halved(model: Model, channels: Channels) -> tuple[float, Kept]:
    """The share of the multiply-adds left when every free group loses half."""
    kept = random_half(channels)
    return paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops, kept


def sees_other_channels(model: Model, channels: Channels, kept: Kept) -> bool:
    """Whether the proof refuses a cut that took other channels than the mask."""
    try:
        prove(cut(model, channels, kept), masked(model, channels, random_half(channels, seed=1)))
    except ProofFailed:
        return True
    return False


@pytest.mark.parametrize("name", TENSORFLOW)
def test_keras_network_from_tf2onnx_is_cut_and_proven(name) -> None:
    share, inexact = TENSORFLOW[name]
    model = from_proto(onnx.load(CONVERTED / f"{name}.onnx"))
    channels = couple(model)
    assert all(OUTPUT in (group.locked_because or OUTPUT) for group in channels.groups)
    assert sum(not group.exact for group in channels.free) == inexact
    left, kept = halved(model, channels)
    assert left == pytest.approx(share, abs=2e-3)
    assert proven(model, channels, kept).relative_error < 1e-5
    assert sees_other_channels(model, channels, kept)
    for seed in range(2):
        proven(model, channels, random_vanishing(channels, seed))


# Every convolution and matrix product: multiply-adds, and how many of its sides a cut by half halves.
LAYERS: dict[Callable[[], onnx.ModelProto], list[tuple[int, int]]] = {
    styles.cntk: [(784 * 8 * 25, 1), (196 * 16 * 8 * 9, 2), (49 * 16 * 16 * 9, 2), (784 * 10, 1)],
    styles.mxnet: [
        (256 * 8 * 3 * 9, 1), (256 * 16 * 8, 2), (64 * 16 * 9, 1), (64 * 12 * 16, 2), (64 * 12 * 8, 2), (192 * 24, 2),
        (24 * 5, 1),
    ],
    styles.paddle: [
        (256 * 8 * 3 * 9, 1), (64 * 16 * 8, 2), (64 * 16 * 9, 1), (16 * 4, 2), (4 * 16, 2), (64 * 8 * 16, 2),
        (256 * 12 * 16 * 9, 2), (12 * 5, 1),
    ],
    styles.coreml: [(256 * 8 * 3 * 9, 1), (81 * 12 * 8 * 9, 2), (256 * 12 * 20 * 9, 2), (12 * 5, 1)],
    styles.keras: [
        (64 * 8 * 3 * 9, 1), (64 * 24 * 8, 2), (64 * 24 * 9, 1), (24 * 6, 2), (6 * 24, 2), (64 * 8 * 24, 2),
        (64 * 16 * 8 * 9, 2), (1024 * 12, 2), (12 * 5, 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("style", LAYERS, ids=lambda style: style.__name__)
def test_graph_in_the_style_of_a_converter_is_cut_and_proven(style) -> None:
    model = from_proto(style())
    assert paper_cost(model).flops == sum(work for work, _ in LAYERS[style])
    channels = couple(model)
    assert all(OUTPUT in (group.locked_because or OUTPUT) for group in channels.groups)
    assert all(group.exact for group in channels.groups)
    kept = random_half(channels)
    assert paper_cost(cut(model, channels, kept)).flops == sum(work >> sides for work, sides in LAYERS[style])
    assert proven(model, channels, kept).relative_error < 1e-5
    assert sees_other_channels(model, channels, kept)
    for seed in range(2):
        proven(model, channels, random_vanishing(channels, seed))


def test_initialisers_that_a_converter_lists_as_inputs_are_none() -> None:
    model = from_proto(styles.cntk())
    assert [value.name for value in model.proto.graph.input] == ["Input3"]
    assert {node.op_type for node in model.proto.graph.node if "Parameter193" in str(node.input)} == {"MatMul"}


def test_batch_that_a_converter_leaves_free_stays_free_after_the_cut() -> None:
    for style in (styles.paddle, styles.keras):
        model = from_proto(style())
        channels = couple(model)
        small = cut(model, channels, random_half(channels)).proto
        (source,) = small.graph.input
        shape = [3, *(dim.dim_value for dim in source.type.tensor_type.shape.dim[1:])]
        together = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (outputs,) = run_unoptimised(small, {source.name: together}).values()
        (alone,) = run_unoptimised(small, {source.name: together[1:2]}).values()
        assert np.allclose(outputs[1:2], alone, rtol=1e-4, atol=1e-5)
