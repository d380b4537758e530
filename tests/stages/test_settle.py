"""Constants that vanished branches leave: folded exactly, or dropped for networks that are trained afterwards."""

import pytest

from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.proof import outputs_agree, random_feeds
from pipeline.graph.settle import drop_constants, fold_constants, left_adds
from pipeline.stages.cutting import cut_and_prove
from tests.stages.networks import first, opened

FAMILIES = ["resnet_basic", "resnet_parameter_free", "resnet_bottleneck", "mobilenet_v2"]


def without_branches(family: str):
    """The network in which every branch that may vanish did, and the Adds that lost one."""
    net = opened(family)
    gone = {g.id for g in net.channels.groups if g.vanishes}
    counts = {g.id: 0 if g.vanishes_with in gone else g.channels for g in net.channels.groups}
    kept = first(counts)
    return net, kept, cut(net.model, net.channels, kept), left_adds(net.model, net.channels, kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_changes_no_output_and_only_takes_adds_out(family: str) -> None:
    _, _, small, adds = without_branches(family)
    folded = fold_constants(small, adds)
    feeds = random_feeds(small, 0)
    assert outputs_agree(run_unoptimised(folded.proto, feeds), run_unoptimised(small.proto, feeds)) < 1e-5
    gone = {n.name for n in small.proto.graph.node} - {n.name for n in folded.proto.graph.node}
    assert gone <= set(adds)
    assert adds


@pytest.mark.parametrize("family", FAMILIES)
def test_dropping_leaves_no_add_of_a_constant_and_costs_no_more(family: str) -> None:
    _, _, small, adds = without_branches(family)
    dropped = drop_constants(fold_constants(small, adds), adds)
    left = {node.name for node in dropped.proto.graph.node}
    outputs = {value.name for value in dropped.proto.graph.output}
    assert not [node.name for node in small.proto.graph.node if node.name in adds and node.name in left
                and not outputs.intersection(node.output)]  # fmt: skip
    assert paper_cost(dropped).params <= paper_cost(small).params
    assert paper_cost(dropped).flops == paper_cost(small).flops
    relus = {node.output[0] for node in dropped.proto.graph.node if node.op_type == "Relu"}
    assert not [node for node in dropped.proto.graph.node if node.op_type == "Relu" and node.input[0] in relus]


@pytest.mark.parametrize("constants", ["kept", "dropped"])
def test_the_cut_is_proven_before_constants_are_dropped(constants: str) -> None:
    net, kept, _, adds = without_branches("resnet_basic")
    done = cut_and_prove(net, kept, constants=constants)
    assert done.proof["relative_error"] < 1e-5
    assert done.proof["exact_groups"] > 0
    assert ("dropped_constants_difference" in done.proof) == (constants == "dropped")
    names = {node.name for node in done.model.proto.graph.node}
    assert (done.model is done.exact) == (constants == "kept")
    if constants == "dropped":
        assert not names.intersection(adds)


def test_nothing_gone_leaves_the_graph_as_it_is() -> None:
    net = opened("resnet_basic")
    full = first({group.id: group.channels for group in net.channels.groups})
    assert left_adds(net.model, net.channels, full) == ()
    done = cut_and_prove(net, full, constants="dropped")
    assert done.model is done.exact
    assert paper_cost(done.model) == paper_cost(net.model)
