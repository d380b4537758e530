"""Plans tried on a network: really cut, measured by its loss, and gone on from after a fine-tune."""

import numpy as np
import pytest

from pipeline.allocation import Budget, CostTable, Width, allocate, choices_from
from pipeline.graph.model import Model
from pipeline.stages.opening import groups_to_cut
from pipeline.stages.scoring import score_channels
from pipeline.stages.trial import NetworkTrial
from targets.errors import BadInput
from tests.stages.networks import images, opened


def trial_of(family: str, updates: int = 2) -> tuple[NetworkTrial, dict[str, np.ndarray], Model]:
    net = opened(family)
    groups = groups_to_cut(net.channels)
    scores = score_channels(net.model, net.channels, groups, criterion="l2", normalisation="l2")
    trial = NetworkTrial(net.model, net.channels, scores, images(160), updates=updates, count=32)
    return trial, scores, net.model


def test_loss_grows_as_channels_go_and_the_same_plan_has_the_same_loss() -> None:
    trial, scores, _ = trial_of("resnet_basic")
    full = {group: len(values) for group, values in scores.items()}
    less, least = ({group: max(1, int(n * share)) for group, n in full.items()} for share in (0.75, 0.1))
    assert trial.loss(full) < trial.loss(less) < trial.loss(least)
    assert trial.loss(dict(reversed(less.items()))) == trial.loss(less)


def test_the_best_scored_channels_are_the_ones_that_stay() -> None:
    net = opened("vgg")
    groups = groups_to_cut(net.channels)
    kind = score_channels(net.model, net.channels, groups, criterion="taylor", normalisation="l2", samples=images(64))
    wrong = {group: -values for group, values in kind.items()}
    half = {group: len(values) // 2 for group, values in kind.items()}
    losses = [NetworkTrial(net.model, net.channels, s, images(64), count=64).loss(half) for s in (kind, wrong)]
    assert losses[0] < losses[1]


def test_adopting_trains_and_goes_on_from_there() -> None:
    trial, scores, model = trial_of("resnet_basic", updates=20)
    before = model.proto.SerializeToString()
    half = {group: max(1, len(values) // 2) for group, values in scores.items()}
    third = {group: max(1, len(values) // 3) for group, values in scores.items()}
    untrained = trial.loss(half)
    trial.adopt(half)
    assert trial.loss(half) < untrained
    assert trial.loss(third) > trial.loss(half)
    assert model.proto.SerializeToString() == before
    full = {group: len(values) for group, values in scores.items()}
    with pytest.raises(BadInput, match="cannot be tried any more"):
        trial.loss(full)
    trial.adopt(full)
    assert trial.loss(half) == untrained


def test_branches_may_vanish_in_a_trial_and_stay_away() -> None:
    trial, scores, _ = trial_of("resnet_basic")
    net = opened("resnet_basic")
    branch = next(group.id for group in groups_to_cut(net.channels) if group.vanishes)
    plan = {group: 0 if group == branch else len(values) for group, values in scores.items()}
    assert trial.loss(plan) > 0
    trial.adopt(plan)
    thinner = {group: count if count == 0 else max(1, count // 2) for group, count in plan.items()}
    assert trial.loss(thinner) > trial.loss(plan)


@pytest.mark.parametrize("name", ["sensitivity", "netadapt"])
def test_allocators_that_try_plans_out_work_on_a_real_network(name: str) -> None:
    trial, scores, _ = trial_of("vgg")
    choices = choices_from(scores, {group: (len(values) // 2,) for group, values in scores.items()})
    widths = CostTable("all", (Width(tuple((group, 1) for group in scores)),), lambda at: float(at[0]))
    full = sum(len(values) for values in scores.values())
    found = allocate(name, scores, choices, [Budget("params", 0.8 * full, (widths,))], trial=trial)
    assert 0.5 * full < sum(found.channels.values()) <= 0.8 * full
