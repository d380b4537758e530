"""Scores: a criterion, its normalisation, its cost regularisation; and what is held out of training."""

import numpy as np
import pytest

from calibration.arrays import ArraySamples
from calibration.batches import Subset, take
from pipeline.costs import channel_costs, parameter_tables
from pipeline.stages.holdout import FEWEST, split_off
from pipeline.stages.opening import groups_to_cut
from pipeline.stages.scoring import best_channels, score_channels
from targets.errors import BadInput
from tests.stages.networks import images, opened


def numbered(count: int) -> ArraySamples:
    """A set in which every example is its own number."""
    return ArraySamples({"x": np.arange(count, dtype=np.float32)}, np.arange(count), {})


@pytest.mark.parametrize("criterion", ["l1", "l2", "random", "bn-gamma", "taylor", "taylor-gate"])
def test_every_criterion_gives_one_finite_score_a_channel(criterion: str) -> None:
    net = opened("resnet_basic")
    groups = groups_to_cut(net.channels)
    scores = score_channels(
        net.model, net.channels, groups, criterion=criterion, normalisation="l2", samples=images(), count=16
    )
    assert {name: len(values) for name, values in scores.items()} == {g.id: g.channels for g in groups}
    assert all(np.isfinite(values).all() for values in scores.values())
    for values in scores.values():
        assert np.linalg.norm(values) == pytest.approx(1.0) or not values.any()


def test_a_cost_is_taken_off_scores_and_a_dearer_group_loses_more() -> None:
    net = opened("resnet_basic")
    groups = groups_to_cut(net.channels)
    plain, lean = (
        score_channels(
            net.model, net.channels, groups, criterion="l2", normalisation="l2", cost=cost, strength=strength
        )
        for cost, strength in (("none", 0.0), ("params", 0.5))
    )
    off = {name: plain[name] - lean[name] for name in plain}
    for values in off.values():
        assert np.ptp(values) < 1e-12
        assert values[0] > 0
    spent = channel_costs(parameter_tables(net.model, net.channels), groups, net.channels)
    assert sorted(off, key=lambda name: off[name][0]) == sorted(spent, key=lambda name: spent[name])


def test_latency_as_a_cost_needs_a_profile() -> None:
    net = opened("resnet_basic")
    with pytest.raises(BadInput, match="needs a profile"):
        score_channels(
            net.model, net.channels, net.channels.free, criterion="l2", normalisation="l2", cost="latency", strength=1.0
        )


def test_the_best_channels_are_the_largest_scores_and_ties_go_to_the_lower_number() -> None:
    scores = {"a": np.array([0.1, 0.9, 0.5, 0.9]), "b": np.ones(3)}
    assert best_channels(scores, {"a": 3, "b": 2}) == {"a": (1, 2, 3), "b": (0, 1)}
    assert best_channels(scores, {"a": 1}) == {"a": (1,), "b": (0, 1, 2)}
    assert best_channels(scores, {"a": 0, "b": 3}) == {"a": (), "b": (0, 1, 2)}


@pytest.mark.parametrize("count", [2, 7, 100, 5000])
def test_what_is_held_out_is_never_trained_on(count: int) -> None:
    samples = numbered(count)
    training, held_out = split_off(samples, seed=3)
    seen = [{int(v) for batch in part.batches(64) for v in batch.inputs["x"]} for part in (training, held_out)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(count))
    assert seen[0]
    assert seen[1]
    assert len(held_out) <= max(FEWEST, 0.04 * count)
    assert len(held_out) <= max(1, count // 5)
    again, _ = split_off(samples, seed=3)
    assert [b.inputs["x"].tolist() for b in again.batches(64)] == [b.inputs["x"].tolist() for b in training.batches(64)]


def test_a_subset_of_a_subset_reads_through() -> None:
    inner = Subset(numbered(20), np.array([3, 5, 7, 11], np.int64))
    outer = take(inner, 2, seed=0)
    (batch,) = outer.batches(8)
    assert len(outer) == 2
    assert set(batch.inputs["x"].tolist()) < {3.0, 5.0, 7.0, 11.0}
    assert batch.labels is not None
    assert batch.labels.tolist() == batch.inputs["x"].tolist()
