"""Graphs as other converters write them: cut by half as far as the same network from torch, and proven."""

from pathlib import Path

import onnx
import pytest

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import prove
from targets.errors import ProofFailed
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
    exact = {group.id: kept[group.id] for group in channels.free if group.exact}
    assert proven(model, channels, exact).relative_error < 1e-5
    assert sees_other_channels(model, channels, kept)
    for seed in range(2):
        proven(model, channels, random_vanishing(channels, seed))
