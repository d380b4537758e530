"""Every family of small convolutional networks, from every exporter: found, cut by half, proven, run on a batch."""

import numpy as np
import pytest

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import Model, free_batch, from_proto
from pipeline.graph.proof import outputs_agree, random_feeds
from tests.graph.exports import EXPORTERS, exported
from tests.graph.random_cuts import proven, random_half, random_vanishing
from tests.graph.zoo import FAMILIES

# The default suite runs every family through the quick exporter in all its forms, and those families through the slow
# one that it writes differently: Split from sequences, batch-norm with noise around it, Pad, shape arithmetic.
QUICK_DYNAMO = {"resnet_parameter_free", "shufflenet", "regnet", "vgg"}
VANISHING = {
    "resnet_basic": 3, "resnet_parameter_free": 3, "resnet_bottleneck": 3, "resnext": 2, "regnet": 2,
    "mobilenet_v2": 1, "mobilenet_v3": 1, "efficientnet": 1, "mnasnet": 1,
}  # fmt: skip


def variants():
    for family in FAMILIES:
        for exporter in EXPORTERS:
            for free in (False, True):
                quick = exporter.startswith("legacy") or (family in QUICK_DYNAMO and free)
                marks = () if quick else (pytest.mark.slow,)
                name = f"{family}-{exporter}-{'free' if free else 'fixed'}"
                yield pytest.param((family, exporter, free), id=name, marks=marks)


@pytest.fixture(params=variants())
def network(request) -> tuple[str, Model, Channels]:
    family, exporter, free = request.param
    model = from_proto(exported(family, exporter, free=free))
    return family, model, couple(model)


def test_family_is_cut_to_a_third_exactly_and_runs_on_any_batch(network) -> None:
    family, model, channels = network
    assert {group.locked_because for group in channels.groups if group.locked_because} == {
        f"they are the graph's output {model.proto.graph.output[0].name!r}"
    }
    assert sum(group.vanishes for group in channels.groups) == VANISHING.get(family, 0)
    kept = random_half(channels)
    small = cut(model, channels, kept)
    assert 0.2 <= paper_cost(small).flops / paper_cost(model).flops <= 0.4
    assert proven(model, channels, kept).relative_error < 1e-5
    for seed in range(2 if VANISHING.get(family) else 0):
        assert proven(model, channels, random_vanishing(channels, seed)).relative_error < 1e-5
    (name,) = model.bound
    feeds = {name: np.random.default_rng(0).standard_normal((3, *model.bound[name][1:])).astype(np.float32)}
    (together,) = run_unoptimised(free_batch(small), feeds).values()
    (alone,) = run_unoptimised(small.proto, {name: feeds[name][1:2]}).values()
    assert together.shape == (3, 10)
    assert np.allclose(together[1:2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_that_took_other_channels_would_be_seen(family) -> None:
    model = from_proto(exported(family, "legacy_kept", free=False))
    channels = couple(model)
    first, second = (masked(model, channels, random_half(channels, seed)) for seed in (0, 1))
    feeds = random_feeds(model, 0)
    assert outputs_agree(run_unoptimised(first.proto, feeds), run_unoptimised(second.proto, feeds)) > 1e-2


@pytest.mark.parametrize("exporter", ["legacy_kept", "dynamo_kept"])
def test_normalised_export_holds_nothing_but_layers(exporter) -> None:
    model = from_proto(exported("resnet_parameter_free", exporter, free=True))
    assert {node.op_type for node in model.proto.graph.node} <= {
        "Conv", "BatchNormalization", "Relu", "Slice", "Pad", "Add", "GlobalAveragePool", "ReduceMean", "Flatten",
        "Reshape", "Gemm",
    }  # fmt: skip
    assert all(len(node.input) == 2 for node in model.proto.graph.node if node.op_type == "Conv")
