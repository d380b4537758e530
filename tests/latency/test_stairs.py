"""Right edges of staircases: the widths worth having, and which of many to offer."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.couple import couple
from pipeline.latency.candidates import MOST_CANDIDATES, thin
from pipeline.latency.sites import Site, grouping_of, width_of
from pipeline.latency.stairs import MOST_WIDTHS, SAME_STAIR, measure_staircase, right_edges, sweep_of, sweep_widths
from targets.connection import Connection
from targets.profiles.store import ProfileStore
from tests.latency.networks import grouped, residual


def test_right_edges_of_a_clean_staircase_are_the_ends_of_its_stairs() -> None:
    widths = range(1, 65)
    times = [1000.0 * -(-width // 16) for width in widths]
    assert right_edges(widths, times) == (16, 32, 48, 64)


def test_noise_within_a_stair_makes_no_edges() -> None:
    generator = np.random.default_rng(0)
    times = [1000.0 * -(-width // 16) * generator.uniform(0.99, 1.01) for width in range(1, 65)]
    assert right_edges(range(1, 65), times) == (16, 32, 48, 64)


def test_a_narrow_width_that_is_slower_than_a_wide_one_is_no_edge() -> None:
    assert right_edges([7, 8, 16], [900.0, 400.0, 600.0]) == (8, 16)


def test_order_of_measuring_does_not_matter() -> None:
    assert right_edges([16, 4, 8], [3.0, 1.0, 2.0]) == right_edges([4, 8, 16], [1.0, 2.0, 3.0]) == (4, 8, 16)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=40))
def test_the_widest_is_an_edge_and_edges_cost_ever_more(times: list[float]) -> None:
    widths = range(1, len(times) + 1)
    edges = right_edges(widths, times)
    cost = dict(zip(widths, times, strict=True))
    assert edges[-1] == widths[-1]
    assert all(cost[narrow] * SAME_STAIR < cost[wide] for narrow, wide in itertools.pairwise(edges))
    for width in set(widths) - set(edges):  # whatever is left out has a larger one that costs no more
        assert any(cost[wider] <= cost[width] * SAME_STAIR for wider in widths if wider > width)


def test_thin_keeps_all_where_there_are_few_and_always_the_uncut_width() -> None:
    assert thin((4, 8), {4: 1.0, 8: 2.0, 12: 3.0}, 12) == (4, 8, 12)


def test_thin_spreads_many_evenly_in_time() -> None:
    times = {width: float(width) for width in range(1, 101)}
    chosen = thin(tuple(times), times, 100)
    assert len(chosen) == MOST_CANDIDATES
    assert (chosen[0], chosen[-1]) == (1, 100)
    gaps = np.diff(chosen)
    assert max(gaps) - min(gaps) <= 2


@pytest.mark.parametrize(("full", "step", "offset"), [(16, 1, 0), (64, 4, 0), (1000, 1, 0), (96, 2, 32)])
def test_sweep_widths_end_at_the_whole_and_follow_the_step(full: int, step: int, offset: int) -> None:
    widths = sweep_widths(full, step, offset)
    assert widths == sorted(set(widths))
    assert widths[-1] == full + offset
    assert len(widths) <= MOST_WIDTHS + 1
    assert all((width - offset) % step == 0 and width > offset for width in widths)


def test_whole_groups_leave_a_depthwise_convolution_and_channels_of_every_group_a_wide_one() -> None:
    for model, expected in ((grouped(16, 16), {"per_group": 1}), (grouped(32, 2), {"groups": 2}), (residual(), {})):
        channels = couple(model)
        name = "mid" if expected else "inner"
        (node,) = [node for node in model.proto.graph.node if node.name == name]
        assert grouping_of(model, channels, node) == expected


@pytest.mark.parametrize(("groups", "kept"), [(16, {"per_group": 1}), (2, {"groups": 2})])
def test_grouped_convolutions_have_stairs(groups: int, kept: dict[str, int], connection: Connection, store) -> None:
    model = grouped(16, groups)
    channels = couple(model)
    width = width_of(model, channels, "mid")
    ((_, step),) = width.terms
    sweep = sweep_of(model, Site("mid", {"ops": ["Conv"], **kept}, (width,), frozenset({"mid"}), "mid"), "both")
    assert sweep is not None
    widths = sweep_widths(16, step)
    stairs = measure_staircase(sweep, widths, connection, store, "grouped")
    assert stairs.widths == tuple(widths)
    assert all(time > 0 for time in stairs.times_ns)


def test_one_side_of_a_grouped_convolution_alone_is_not_swept() -> None:
    model = grouped(16, 2)
    width = width_of(model, couple(model), "mid")
    assert sweep_of(model, Site("mid", {"groups": 2}, (width, width), frozenset({"mid"}), "mid"), "in") is None


def test_a_known_staircase_is_read_and_not_timed_again(connection: Connection, store: ProfileStore) -> None:
    model = residual()
    channels = couple(model)
    sides = (width_of(model, channels, "stem.out"), width_of(model, channels, "inner"))
    sweep = sweep_of(model, Site("inner", {"ops": ["Conv"]}, sides, frozenset({"inner"}), "inner"), "out")
    assert sweep is not None
    first = measure_staircase(sweep, [4, 8], connection, store, "one")
    again = measure_staircase(sweep, [4, 8], connection, store, "two")
    assert again == first
    more = measure_staircase(sweep, [4, 8, 12], connection, store, "three")
    assert more.times_ns[:2] == first.times_ns
    assert more.widths == (4, 8, 12)
