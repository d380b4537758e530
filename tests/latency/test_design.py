"""Which plans are profiled: at candidates, each equally often, and some at any width."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import couple
from pipeline.latency.design import (
    ANYWHERE,
    FEWEST_PLANS,
    NARROWEST_SHARE,
    PLANS_PER_CANDIDATE,
    anywhere,
    at_candidates,
    design,
)
from tests.latency.networks import residual

CANDIDATES = {"stem": (16, 32, 64), "inner": (0, 32, 64)}  # few of many: chance does not find them
CHANNELS = couple(residual(64))
FULL = {group.id: group.channels for group in CHANNELS.groups}


def is_offered(plan: dict[str, int]) -> bool:
    return all(plan[group] in counts for group, counts in CANDIDATES.items())


def plans_of(candidates: Mapping[str, tuple[int, ...]], seed: int = 0) -> list[dict[str, int]]:
    return list(design(CHANNELS, CHANNELS.free, candidates, seed))


def test_every_candidate_comes_up_equally_often() -> None:
    plans = [plan for plan in plans_of(CANDIDATES) if is_offered(plan)]
    assert len(plans) == FEWEST_PLANS
    for group, counts in CANDIDATES.items():
        seen = [plan[group] for plan in plans]
        assert max(map(seen.count, counts)) - min(map(seen.count, counts)) <= 1


def test_the_first_plans_are_at_candidates_and_the_stated_share_of_others_lies_anywhere_between() -> None:
    plans = plans_of(CANDIDATES)
    assert all(plan.keys() == FULL.keys() for plan in plans)
    offered = [is_offered(plan) for plan in plans]
    assert all(offered[:2])
    assert offered.count(False) == math.floor(ANYWHERE * FEWEST_PLANS)
    for taken in range(1, len(plans) + 1):  # whoever stops early has the same share
        assert abs(offered[:taken].count(False) - ANYWHERE * offered[:taken].count(True)) < 1 + ANYWHERE


def test_many_candidates_ask_for_more_plans() -> None:
    many = {"stem": tuple(range(36, 65, 2)), "inner": (0, 64)}
    plans = plans_of(many)
    at = int(PLANS_PER_CANDIDATE * len(many["stem"]))
    assert at > FEWEST_PLANS
    assert len(plans) == at + math.floor(ANYWHERE * at + 1e-9)


def test_the_same_seed_gives_the_same_plans() -> None:
    assert plans_of(CANDIDATES) == plans_of(CANDIDATES)
    assert plans_of(CANDIDATES) != plans_of(CANDIDATES, seed=1)


def test_with_nothing_on_offer_there_is_nothing_to_profile() -> None:
    assert plans_of({"stem": (64,), "inner": (64,)}) == []


def test_groups_that_vanish_with_a_branch_are_gone_when_it_is_and_there_when_it_is_not() -> None:
    groups = (
        ChannelGroup("branch", 8, 1, (), (), vanishes_with="branch"),
        ChannelGroup("inside", 4, 1, (), (), vanishes_with="branch"),
        ChannelGroup("other", 8, 1, (), ()),
    )
    candidates = {"branch": (0, 4, 8), "inside": (0, 2, 4), "other": (4, 8)}
    plans = list(design(replace(CHANNELS, groups=groups), groups, candidates, 0))
    assert {plan["branch"] for plan in plans} >= {0, 4, 8}
    for plan in plans:
        assert (plan["inside"] == 0) == (plan["branch"] == 0)
        assert plan["other"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_drawn_plans_lose_no_branch_and_stay_wide_enough(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(20):
        for plan in (
            anywhere(FULL, CHANNELS.free, generator),
            at_candidates(FULL, CHANNELS.free, CANDIDATES, generator),
        ):
            assert plan.keys() == FULL.keys()
            for group in CHANNELS.free:
                assert NARROWEST_SHARE * group.channels <= plan[group.id] <= group.channels
        assert is_offered(plan)
