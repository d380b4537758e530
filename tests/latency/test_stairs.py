"""Staircases: their right edges, which widths are looked at, and what is kept of them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.couple import couple
from pipeline.graph.model import Model
from pipeline.latency import stairs
from pipeline.latency.alone import Sweep, sweep_of
from pipeline.latency.grain import Curve, Grain
from pipeline.latency.keys import STAIRCASE, key_of
from pipeline.latency.sites import Site, grouping_of, width_of
from pipeline.latency.stairs import (
    DENSE,
    DENSE_FROM,
    FEW_WIDTHS,
    around,
    checks,
    find_curves,
    first_widths,
    measure_sweeps,
    right_edges,
)
from targets.connection import Connection
from targets.pairing import GAUGE_RUNS
from targets.profiles.store import ProfileStore
from tests.latency.conftest import BRIEF
from tests.latency.networks import grouped, residual

SAME = 1.02


def test_right_edges_of_a_clean_staircase_are_the_ends_of_its_stairs() -> None:
    widths = range(1, 65)
    times = [1000.0 * -(-width // 16) for width in widths]
    assert right_edges(widths, times, SAME) == (16, 32, 48, 64)


def test_noise_within_a_stair_makes_no_edges() -> None:
    generator = np.random.default_rng(0)
    times = [1000.0 * -(-width // 16) * generator.uniform(0.99, 1.01) for width in range(1, 65)]
    assert right_edges(range(1, 65), times, 1.05) == (16, 32, 48, 64)


def test_a_narrow_width_that_is_slower_than_a_wide_one_is_no_edge() -> None:
    assert right_edges([7, 8, 16], [900.0, 400.0, 600.0], SAME) == (8, 16)


def test_order_of_measuring_does_not_matter() -> None:
    assert (
        right_edges([16, 4, 8], [3.0, 1.0, 2.0], SAME) == right_edges([4, 8, 16], [1.0, 2.0, 3.0], SAME) == (4, 8, 16)
    )


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=40))
def test_the_widest_is_an_edge_and_edges_cost_ever_more(times: list[float]) -> None:
    widths = range(1, len(times) + 1)
    edges = right_edges(widths, times, SAME)
    cost = dict(zip(widths, times, strict=True))
    assert edges[-1] == widths[-1]
    assert all(cost[narrow] * SAME < cost[wide] for narrow, wide in itertools.pairwise(edges))
    for width in set(widths) - set(edges):  # whatever is left out has a larger edge that costs no more
        assert any(cost[edge] <= cost[width] * SAME for edge in edges if edge > width)


@pytest.mark.parametrize("grain", [Grain(1, 1), Grain(4, 16)])
def test_a_wide_kernel_has_edges_over_all_its_widths(grain: Grain) -> None:
    widths = range(128, 2049)
    times = [(50.0 + grain.effective(width)) * (2.0 if grain.off(width) else 1.0) for width in widths]
    edges = right_edges(widths, times, SAME)  # a stair more costs less than what counts as the same
    assert all(edge % grain.block == 0 for edge in edges)
    assert edges[0] < 1.03 * 128 + grain.block
    assert edges[-1] == 2048
    assert all(wide <= 1.03 * narrow + 2 * grain.block for narrow, wide in itertools.pairwise(edges))


def test_whole_groups_leave_a_depthwise_convolution_and_channels_of_every_group_a_wide_one() -> None:
    for model, expected in ((grouped(16, 16), {"per_group": 1}), (grouped(32, 2), {"groups": 2}), (residual(), {})):
        channels = couple(model)
        name = "mid" if expected else "inner"
        (node,) = [node for node in model.proto.graph.node if node.name == name]
        assert grouping_of(model, channels, node) == expected


def sweep(model: Model, node: str, side: str, **kept: int) -> Sweep:
    channels = couple(model)
    (linear,) = [item for item in model.proto.graph.node if item.name == node]
    sides = tuple(width_of(model, channels, name) for name in (linear.input[0], linear.output[0]))
    site = Site(node, {"ops": ["Conv"], **kept}, sides, frozenset({node}), node)
    found = sweep_of(model, site, side)
    assert found is not None
    return found


@pytest.mark.parametrize(("full", "step"), [(16, 1), (40, 1), (64, 4), (41, 1), (1000, 1), (512, 8), (6, 2)])
def test_the_first_widths_end_at_the_whole_and_follow_the_step(full: int, step: int) -> None:
    widths = first_widths(full, step)
    assert widths == sorted(set(widths))
    assert widths[-1] == full
    assert all(width % step == 0 and width > 0 for width in widths)
    begin = 1 if full // step <= FEW_WIDTHS else DENSE_FROM  # from there on none is left out
    assert set(range(step * begin, min(full + 1, step * (begin + DENSE)), step)) <= set(widths)


def curve(grain: Grain) -> Curve:
    return Curve(grain, (0.0, 1.0), (0.0, 1.5), 0.0, {})


def test_checks_are_edges_that_were_not_measured_each_with_its_upper_neighbour() -> None:
    wide = replace(sweep(residual(), "inner", "out"), full=512)
    known = dict.fromkeys(first_widths(512, 1), 1.0)
    found = checks(curve(Grain(4, 16)), wide, known)
    edges = found[::2]
    assert len(edges) == 3
    assert all(edge % 16 == 0 and edge not in known for edge in edges)
    assert found[1::2] == [edge + 1 for edge in edges]
    assert checks(curve(Grain(1, 1)), wide, known) == []  # no edges to check
    assert checks(curve(Grain(4, 16)), wide, dict.fromkeys(range(1, 513), 1.0)) == []


def test_around_a_surprise_the_widths_are_dense_and_within_the_kernel() -> None:
    narrow = sweep(residual(64), "inner", "out")
    wide = replace(narrow, full=512)
    assert around([300, 400], wide) == list(range(300 - DENSE // 2, 300 + DENSE // 2))
    assert around([3], narrow) == list(range(1, 1 + DENSE))
    assert around([60], narrow)[-1] == 64
    whole = sweep(grouped(96, 2), "mid", "both", groups=2)
    assert all(width % 2 == 0 for width in around([48], whole))


class Device:
    """Whose stairs are known; `asked` holds what was timed."""

    def __init__(self, grain_at: Any) -> None:
        self.grain_at = grain_at
        self.asked: list[int] = []

    def __call__(self, asked: Mapping[str, tuple[Sweep, Sequence[int]]], *rest: object) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {}
        for name, (_, widths) in asked.items():
            self.asked += widths
            grain = {width: self.grain_at(width) for width in widths}
            found[name] = {w: (50.0 + 10.0 * grain[w].effective(w)) * (1.4 if grain[w].off(w) else 1.0) for w in widths}
        return found


def test_few_widths_show_the_grain_of_a_wide_kernel(monkeypatch: pytest.MonkeyPatch, connection: Connection) -> None:
    device = Device(lambda width: Grain(4, 16))
    monkeypatch.setattr(stairs, "measure_sweeps", device)
    (found,) = find_curves(
        {"one": replace(sweep(residual(), "inner", "out"), full=1024)}, connection, None, "s"
    ).values()
    assert found.grain == Grain(4, 16)
    assert len(device.asked) == len(set(device.asked)) < 80
    assert found.at(700) == pytest.approx(50.0 + 10.0 * 704, rel=0.01)


def test_where_a_check_surprises_the_stretch_around_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    device = Device(lambda width: Grain(4, 16) if width < 300 else Grain(1, 128))
    monkeypatch.setattr(stairs, "measure_sweeps", device)
    find_curves({"one": replace(sweep(residual(), "inner", "out"), full=1024)}, connection, None, "s")
    plain = Device(lambda width: Grain(4, 16))
    monkeypatch.setattr(stairs, "measure_sweeps", plain)
    find_curves({"one": replace(sweep(residual(), "inner", "out"), full=1024)}, connection, None, "s")
    further = sorted(set(device.asked) - set(plain.asked))
    assert len(further) >= DENSE // 2
    assert min(further) >= 128


@pytest.mark.parametrize(("groups", "kept"), [(16, {"per_group": 1}), (2, {"groups": 2})])
def test_grouped_convolutions_have_stairs(groups: int, kept: dict[str, int], connection: Connection) -> None:
    whole = sweep(grouped(16, groups), "mid", "both", **kept)
    assert whole.step == next(iter(kept.values()))
    (found,) = find_curves({"mid": whole}, connection, None, "grouped").values()
    assert list(found.times) == list(range(whole.step, 17, whole.step))
    assert all(time > 0 for time in found.times.values())


def test_one_side_of_a_grouped_convolution_alone_is_not_swept() -> None:
    model = grouped(16, 2)
    width = width_of(model, couple(model), "mid")
    assert sweep_of(model, Site("mid", {"groups": 2}, (width, width), frozenset({"mid"}), "mid"), "in") is None


def test_a_known_staircase_is_read_and_not_timed_again(connection: Connection, store: ProfileStore) -> None:
    out = sweep(residual(), "inner", "out")
    first = measure_sweeps({"inner": (out, [4, 8])}, connection, store, "one")
    assert list(first["inner"]) == [4, 8]
    assert measure_sweeps({"inner": (out, [4, 8])}, connection, store, "two") == first
    more = measure_sweeps({"another name": (out, [4, 8, 12])}, connection, store, "three")["another name"]
    assert {width: more[width] for width in (4, 8)} == first["inner"]
    assert more[12] > 0


def test_many_widths_are_timed_in_several_builds(
    connection: Connection, store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stairs, "MOST_BYTES", 4 * 16 * 9 * 12)  # a narrow one has room beside it, a wide one has not
    out = sweep(residual(), "inner", "out")
    found = measure_sweeps({"inner": (out, [4, 8, 16])}, connection, store, "one")
    assert list(found["inner"]) == [4, 8, 16]
    keys = [key_of(connection, {**out.op, "width": width}, STAIRCASE).digest for width in (4, 8, 16)]
    (narrow,), (middle,), (wide,) = (store.find(keys)[key] for key in keys)
    assert narrow.session_id == middle.session_id != wide.session_id


def test_each_build_keeps_its_own_gauge(connection: Connection, store: ProfileStore) -> None:
    sides = {f"(a kind of kernel, {side!r})": sweep(residual(), "inner", side) for side in ("in", "out")}
    rows = []
    for name, one in sides.items():  # the same session asks twice, for as many widths
        found = measure_sweeps({name: (one, [8])}, connection, store, "session")
        key = key_of(connection, {**one.op, "width": 8}, STAIRCASE).digest
        rows += store.find([key])[key]
        assert measure_sweeps({name: (one, [8])}, connection, store, "session") == found
    first, second = (row.observed["gauge_ns"] for row in rows)
    assert len(first) == len(second) == BRIEF * GAUGE_RUNS
    assert first != second
