"""Costs on paper are what a network that is really cut has."""

import math

import numpy as np
import pytest

from pipeline.costs import PAPER_COSTS, budget_of, channel_costs, flops_tables, parameter_tables
from pipeline.goal import parse_goal
from pipeline.graph.cut import cut
from pipeline.graph.flops import paper_cost
from pipeline.graph.settle import drop_constants, left_adds
from pipeline.stages.opening import groups_to_cut
from pipeline.stages.problem import complete, even_candidates, make_choices, settle_budget
from targets.errors import BadInput
from tests.stages.networks import COSTED, first, opened, random_counts


def budget(family: str, quantity: str):
    net = opened(family)
    (bound,) = parse_goal(f"{quantity}<=0.5x").bounds
    return net, budget_of(bound, net.model, net.channels)


@pytest.mark.parametrize("family", COSTED)
@pytest.mark.parametrize("seed", range(3))
def test_tables_are_exact_for_plans_in_which_nothing_vanishes(family: str, seed: int) -> None:
    net, flops = budget(family, "flops")
    _, params = budget(family, "params")
    counts = random_counts(net, seed, vanish=False)
    real = paper_cost(cut(net.model, net.channels, first(counts)))
    assert flops.at(counts) == pytest.approx(real.flops, rel=1e-12)
    assert params.at(counts) == pytest.approx(real.params, rel=1e-12)


@pytest.mark.parametrize("family", [f for f in COSTED if any(g.vanishes for g in opened(f).channels.groups)])
@pytest.mark.parametrize("seed", range(4))
def test_branches_that_vanish_cost_nothing(family: str, seed: int) -> None:
    net, flops = budget(family, "flops")
    _, params = budget(family, "params")
    counts = random_counts(net, seed, vanish=True)
    full = {group.id: group.channels for group in net.channels.groups}
    flops, params = (settle_budget(each, net.channels.free, full) for each in (flops, params))
    small = cut(net.model, net.channels, first(counts))
    dropped = drop_constants(small, left_adds(net.model, net.channels, first(counts)))
    assert flops.at(counts) == pytest.approx(paper_cost(small).flops, rel=1e-12)
    # What shifts and scales a vanished branch's output is counted though it is gone: never too little is promised.
    gone = sum(group.vanishes and not counts[group.id] for group in net.channels.groups)
    widest = max(group.width for group in net.channels.groups)
    assert paper_cost(dropped).params <= paper_cost(small).params
    assert 0 <= params.at(counts) - paper_cost(small).params <= 4 * widest * gone


@pytest.mark.parametrize("family", ["resnet_basic", "resnet_bottleneck", "mobilenet_v2"])
@pytest.mark.parametrize("goal", ["flops<=0.3x", "params<=0.3x", "flops<=0.6x,params<=0.4x"])
def test_what_the_solver_promises_is_what_the_cut_network_has(family: str, goal: str) -> None:
    from pipeline.stages.allocating import decide_on_paper

    net = opened(family)
    groups = groups_to_cut(net.channels)
    scores = {group.id: np.random.default_rng(0).uniform(0.1, 1, group.channels) for group in groups}
    wanted = parse_goal(goal)
    decision = decide_on_paper(
        net, groups, scores, wanted, candidates=even_candidates(groups), allocator="exact", floor=0.0, vanish=True
    )
    before, after = paper_cost(net.model), paper_cost(cut(net.model, net.channels, first(dict(decision.channels))))
    for bound in wanted.bounds:
        share = getattr(after, bound.quantity) / getattr(before, bound.quantity)
        assert share <= bound.limit
    assert max(getattr(after, b.quantity) / (b.limit * getattr(before, b.quantity)) for b in wanted.bounds) > 0.9


@pytest.mark.parametrize("cost", PAPER_COSTS)
@pytest.mark.parametrize("family", ["resnet_bottleneck", "efficientnet", "densenet"])
def test_costs_fall_with_every_width_and_average_to_one(family: str, cost: str) -> None:
    net = opened(family)
    tables = PAPER_COSTS[cost](net.model, net.channels)
    full = {group.id: group.channels for group in net.channels.groups}
    groups = groups_to_cut(net.channels)
    for group in groups:
        less = {**full, group.id: max(1, group.channels // 2)}
        assert math.fsum(table.at(less) for table in tables) < math.fsum(table.at(full) for table in tables)
    per_channel = channel_costs(tables, groups, net.channels)
    total = sum(per_channel[group.id] * group.channels for group in groups)
    assert total == pytest.approx(sum(group.channels for group in groups))


def test_memory_counts_bytes_of_activations() -> None:
    net = opened("vgg")
    full = {group.id: group.channels for group in net.channels.groups}
    tables = {table.name: table for table in PAPER_COSTS["memory"](net.model, net.channels)}
    for name, table in tables.items():
        assert table.at(full) == pytest.approx(4 * math.prod(net.model.shapes[name]))


def test_costs_that_nobody_has_regularise_nothing() -> None:
    net = opened("vgg")
    with pytest.raises(BadInput, match="nothing to regularise by"):
        channel_costs((), groups_to_cut(net.channels), net.channels)


def test_tables_name_the_initialisers_and_nodes_they_speak_of() -> None:
    net = opened("resnet_basic")
    assert {t.name for t in parameter_tables(net.model, net.channels)} <= {
        t.name for t in net.model.proto.graph.initializer
    }
    assert {t.name for t in flops_tables(net.model, net.channels)} <= {n.name for n in net.model.proto.graph.node}


def test_inner_groups_of_a_bottleneck_go_with_the_branch() -> None:
    net = opened("resnet_bottleneck")
    groups = groups_to_cut(net.channels)
    inner = [g for g in groups if g.vanishes_with and not g.vanishes]
    assert inner
    full = {g.id: g.channels for g in net.channels.groups}
    plan = complete({str(inner[0].vanishes_with): 0, inner[0].id: 3}, groups, full)
    assert plan[inner[0].id] == 0
    assert plan[inner[1].id] == full[inner[1].id]
    assert complete({}, groups, full) == full


def test_an_empty_branch_is_worth_what_its_inner_groups_lose() -> None:
    net = opened("resnet_bottleneck")
    groups = groups_to_cut(net.channels)
    scores = {group.id: np.full(group.channels, 0.5) for group in groups}
    choices = {c.group: c for c in make_choices(scores, even_candidates(groups), groups, floor=0.0, vanish=True)}
    outer = next(g for g in groups if g.vanishes)
    lost = sum(0.5 * g.channels for g in groups if g.vanishes_with == outer.id and g.id != outer.id)
    assert choices[outer.id].options[0].channels == 0
    assert choices[outer.id].options[0].value == pytest.approx(-lost)
    for group in groups:
        if not group.vanishes:
            assert choices[group.id].options[0].channels > 0


def test_nothing_vanishes_where_that_is_not_allowed_and_the_floor_holds() -> None:
    net = opened("resnet_bottleneck")
    groups = groups_to_cut(net.channels)
    scores = {group.id: np.ones(group.channels) for group in groups}
    for choice in make_choices(scores, even_candidates(groups), groups, floor=0.5, vanish=False):
        full = choice.options[-1].channels
        assert choice.options[0].channels >= full / 2
