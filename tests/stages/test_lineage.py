"""Cut in two rounds, every channel leads back to the original, and the two cuts are one cut of it."""

import numpy as np
import pytest

from pipeline.graph import cut as cutting
from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.settle import drop_constants, left_adds
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.lineage import as_now, couple_again, of_original, spread_out, still_free, untouched
from pipeline.stages.opening import Opened
from tests.stages.networks import COSTED, images, opened


def random_plan(net: Opened, left: dict[str, tuple[int, ...]], seed: int, vanish: bool) -> dict[str, tuple[int, ...]]:
    """A legal further cut of what is left of the original."""
    draws = np.random.default_rng(seed)
    kept = dict(left)
    for group in net.channels.free:
        if group.vanishes and vanish and len(left[group.id]) != 1 and draws.random() < 0.4:
            kept[group.id] = ()
        elif left[group.id]:
            count = int(draws.integers(1, len(left[group.id]) + 1))
            kept[group.id] = tuple(sorted(int(c) for c in draws.choice(left[group.id], count, replace=False)))
    gone = {group.id for group in net.channels.free if group.vanishes and not kept[group.id]}
    return {g.id: () if g.vanishes_with in gone else kept[g.id] for g in net.channels.groups}


def more_than_one(net: Opened, left: dict[str, tuple[int, ...]]) -> set[str]:
    """Groups that must still be free: a single channel may be locked."""
    return {group.id for group in net.channels.free if len(left[group.id]) != 1}


@pytest.mark.parametrize("family", COSTED)
@pytest.mark.parametrize("seed", range(3))
def test_two_rounds_are_one_cut_of_the_original(family: str, seed: int) -> None:
    net = opened(family)
    whole = cutting.whole(net.channels, {})
    first = random_plan(net, whole, seed, vanish=seed > 0)
    smaller = cut(net.model, net.channels, first)
    now, lineage = couple_again(smaller, net.channels, first)
    between = Opened(smaller, now, "test", "0" * 64)
    own, decidable = still_free(
        lineage, between.channels, first, [group.id for group in net.channels.free], inexact=True
    )
    assert decidable >= more_than_one(net, first)
    second = random_plan(net, first, seed + 7, vanish=seed > 1)
    network = cut_and_prove(between, as_now(lineage, own, second), constants="kept")
    at_once = cut(net.model, net.channels, second)
    feeds = {"input": images(1, seed=9).read(np.array([0])).inputs["input"]}
    ours, theirs = (
        np.asarray(next(iter(run_unoptimised(model.proto, feeds).values()))) for model in (network.model, at_once)
    )
    scale = max(float(np.abs(theirs).max()), 1e-6)
    assert np.abs(ours - theirs).max() <= 1e-4 * scale


@pytest.mark.parametrize("family", ["resnet_bottleneck", "mobilenet_v2", "regnet"])
def test_scores_come_back_one_for_each_channel_that_is_left(family: str) -> None:
    net = opened(family)
    first = random_plan(net, cutting.whole(net.channels, {}), 1, vanish=True)
    smaller = cut(net.model, net.channels, first)
    now, lineage = couple_again(smaller, net.channels, first)
    between = Opened(smaller, now, "test", "0" * 64)
    own, decidable = still_free(lineage, between.channels, first, [g.id for g in net.channels.free], inexact=True)
    # Each channel is worth the number that it has in the original: its score must come back in its own place.
    numbers = {
        group.id: np.asarray([float(next(iter(origins))[1]) for origins in lineage.origins[group.id]]) for group in own
    }
    scores = of_original(lineage, numbers, first, decidable)
    for name in decidable:
        assert scores[name].tolist() == [float(channel) for channel in first[name]]


def test_excluded_groups_stay_as_they_are() -> None:
    net = opened("resnet_basic")
    allowed = [group.id for group in net.channels.free][1:]
    kept = cutting.whole(net.channels, {})
    own, decidable = still_free(untouched(net.channels), net.channels, kept, allowed, inexact=True)
    assert {group.id for group in own} == set(allowed) == decidable


def test_dropped_constants_do_not_break_the_line() -> None:
    net = opened("resnet_bottleneck")
    first = random_plan(net, cutting.whole(net.channels, {}), 2, vanish=True)
    assert any(not first[group.id] for group in net.channels.free)
    small = cut(net.model, net.channels, first)
    dropped = drop_constants(small, left_adds(net.model, net.channels, first))
    now, lineage = couple_again(dropped, net.channels, first)
    _, decidable = still_free(lineage, now, first, [group.id for group in net.channels.free], inexact=True)
    assert decidable >= more_than_one(net, first)


def test_importance_of_channels_that_left_earlier_is_unknown() -> None:
    values = spread_out(np.array([0.5, 0.25]), (1, 3), 4)
    assert [value if value == value else None for value in values] == [None, 0.5, None, 0.25]
