"""Peak memory by tables is what the network that is really cut needs."""

import math

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.costs import budgets_of
from pipeline.goal import parse_goal
from pipeline.graph.cut import cut
from pipeline.graph.model import Model, from_proto
from pipeline.memory import memory_rows, peak_memory
from pipeline.stages.opening import groups_to_cut
from pipeline.stages.problem import even_candidates, settle_budget
from tests.stages.networks import COSTED, first, opened, random_counts


def counted(model: Model) -> int:
    """The peak, straight from its definition: node by node, every tensor that is made by then and needed from then."""
    nodes = list(model.proto.graph.node)
    ends = [*nodes, helper.make_node("Identity", [value.name for value in model.proto.graph.output], [])]
    weights = {tensor.name for tensor in model.proto.graph.initializer}
    peak = 0
    for now, node in enumerate(nodes):
        made = {value.name for value in model.proto.graph.input} | {n for e in nodes[: now + 1] for n in e.output if n}
        needed = {name for later in ends[now:] for name in later.input} | set(node.output)
        peak = max(peak, sum(4 * math.prod(model.shapes[name]) for name in (made & needed) - weights))
    return peak


@pytest.mark.parametrize("vanish", [False, True])
@pytest.mark.parametrize("family", COSTED)
def test_peak_of_the_rows_is_that_of_the_cut_graph(family: str, vanish: bool) -> None:
    net = opened(family)
    full = {group.id: group.channels for group in net.channels.groups}
    (bound,) = parse_goal("memory<=0.5x").bounds
    rows = [settle_budget(row, net.channels.free, full) for row in budgets_of(bound, net.model, net.channels)]
    assert {row.limit for row in rows} == {0.5 * counted(net.model)}
    for seed in range(3):
        counts = random_counts(net, seed, vanish=vanish)
        small = cut(net.model, net.channels, first(counts))
        peak = max(row.at(counts) for row in rows)
        assert peak_memory(small) == counted(small)
        # Where a branch has vanished, its constants may be folded further than the rows know: never too little.
        assert peak == pytest.approx(counted(small)) or (vanish and peak > counted(small))


def test_a_tensor_that_is_read_late_is_alive_in_between() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["c"], name="third"),
        helper.make_node("Add", ["a", "c"], ["y"], name="last"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 2, 2]) for name in "xy"]
    proto = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), ir_version=8)
    model = from_proto(onnx.shape_inference.infer_shapes(proto))
    assert peak_memory(model) == 3 * 4 * 32  # a, b and c while the third runs; a, c and y while the last does


def test_rows_that_another_is_never_below_are_left_out() -> None:
    net = opened("vgg")
    rows = memory_rows(net.model, net.channels)
    assert 1 < len(rows) < len(net.model.proto.graph.node)


def test_goal_in_memory_is_met_by_the_network_that_is_cut() -> None:
    import numpy as np

    from pipeline.allocation import allocate
    from pipeline.stages.problem import complete, make_choices

    net = opened("resnet_basic")
    groups = groups_to_cut(net.channels)
    full = {group.id: group.channels for group in net.channels.groups}
    scores = {group.id: np.random.default_rng(0).uniform(0.1, 1, group.channels) for group in groups}
    choices = make_choices(scores, even_candidates(groups), groups, floor=0.0, vanish=True)
    budgets = [
        settle_budget(row, groups, full)
        for bound in parse_goal("memory<=0.6x,params<=0.7x").bounds
        for row in budgets_of(bound, net.model, net.channels)
    ]
    found = allocate("exact", scores, choices, budgets)
    small = cut(net.model, net.channels, first(complete(found.channels, groups, full)))
    assert 0.45 * counted(net.model) < counted(small) <= 0.6 * counted(net.model)
    assert found.costs["memory"] == pytest.approx(counted(small))
