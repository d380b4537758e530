"""Uniform and threshold allocation, the options they choose from, and the table of allocators."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.allocation import (
    ALLOCATORS,
    Budget,
    CostTable,
    Option,
    allocate,
    allocate_threshold,
    allocate_uniform,
    choices_from,
    keep,
)
from targets.errors import BadInput
from tests.allocation.problems import over

SCORES = {"a": np.linspace(1.0, 2.0, 64), "b": np.linspace(0.0, 1.0, 32), "fixed": np.ones(8)}
CANDIDATES = {"a": range(8, 65, 8), "b": range(0, 33, 8)}


def product_budget(limit: float) -> Budget:
    return Budget("flops", limit, (CostTable("conv", (over("a"), over("b")), lambda w: float(w[0] * w[1])),))


def test_options_are_worth_their_largest_scores() -> None:
    (choice,) = choices_from({"g": np.array([1.0, 5.0, -2.0, 3.0])}, {"g": [0, 1, 2, 3]})
    assert choice.options == (Option(0, 0.0), Option(1, 5.0), Option(2, 8.0), Option(3, 9.0), Option(4, 7.0))


def test_floor_spares_only_the_width_zero_that_was_asked_for() -> None:
    (choice,) = choices_from({"g": np.ones(8)}, {"g": [0, 1, 2, 4]}, floor=0.3)
    assert [option.channels for option in choice.options] == [0, 4, 8]


def test_group_without_candidates_keeps_its_width() -> None:
    assert [[o.channels for o in c.options] for c in choices_from(SCORES, CANDIDATES)][2] == [8]


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BadInput, match="not finite"):
        choices_from({"g": np.array([1.0, np.nan])}, {})


@given(st.floats(0.01, 1.0), st.integers(1, 4096))
def test_keep_is_the_nearest_whole_channel_and_never_none(share: float, channels: int) -> None:
    kept = keep({"g": channels}, share)["g"]
    assert 1 <= kept <= channels
    assert abs(kept - share * channels) <= 0.5 or kept == 1


@pytest.mark.parametrize("share", [0.0, -0.5, 1.7, float("nan")])
def test_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share to keep"):
        keep({"g": 8}, share)


def test_uniform_keeps_the_same_share_everywhere() -> None:
    choices = choices_from(SCORES, CANDIDATES)
    found = allocate_uniform(choices, [product_budget(0.25 * 64 * 32)])
    assert found.channels == {"a": 32, "b": 16, "fixed": 8}
    assert found.costs == {"flops": 512.0}


def test_uniform_is_not_fooled_by_a_tooth_in_the_stairs() -> None:
    choices = choices_from({"g": np.ones(64)}, {"g": range(1, 65)})
    teeth = CostTable("conv", (over("g"),), lambda w: float(w[0]) + (0.0 if w[0] % 8 == 0 else 100.0))
    assert allocate_uniform(choices, [Budget("latency", 50.0, (teeth,))]).channels == {"g": 48}


def test_threshold_cuts_the_lowest_scores_of_the_whole_network() -> None:
    choices = choices_from(SCORES, CANDIDATES)
    found = allocate_threshold(SCORES, choices, [product_budget(0.5 * 64 * 32)])
    assert found.channels == {"a": 64, "b": 16, "fixed": 8}


def test_threshold_as_widths_fall_takes_counts_off_the_grid() -> None:
    choices = choices_from(SCORES, CANDIDATES)
    found = allocate_threshold(SCORES, choices, [product_budget(13.5 * 64)], widths="any")
    assert found.channels == {"a": 64, "b": 13, "fixed": 8}
    assert found.value == pytest.approx(SCORES["a"].sum() + SCORES["b"][-13:].sum() + 8.0)


def test_threshold_floor_keeps_a_layer_from_collapsing() -> None:
    scores = {"a": np.full(16, 9.0) + np.arange(16), "b": np.zeros(16) + np.arange(16) * 1e-3}
    choices = choices_from(scores, {g: range(1, 17) for g in scores})
    found = allocate_threshold(scores, choices, [product_budget(16.0 * 4)], floor=0.25)
    assert found.channels["b"] == 4


def test_unknown_allocator_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=", ".join(ALLOCATORS)):
        allocate("magic", SCORES, (), [])


def test_floor_of_the_last_pattern_that_matches_counts() -> None:
    scores = {name: np.ones(16) for name in ("layer1.a", "layer1.b", "layer2.a")}
    candidates = {name: range(1, 17) for name in scores}
    choices = choices_from(scores, candidates, floor=0.25, floors=[("layer1.*", 0.5), ("*.b", 0.75)])
    assert [choice.options[0].channels for choice in choices] == [8, 12, 4]


def test_floor_for_groups_that_are_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match=r"No group that may be cut matches 'ghost\*'"):
        choices_from({"a": np.ones(4)}, {}, floors=[("ghost*", 0.5)])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_floor_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share of each group's channels"):
        choices_from({"a": np.ones(4)}, {}, floors=[("a", share)])
