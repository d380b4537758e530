"""Which widths are offered: what is swept, and which right edges are kept."""

import numpy as np
import pytest

from pipeline.allocation.problem import Width
from pipeline.graph.couple import Channels, couple
from pipeline.graph.model import Model
from pipeline.latency.candidates import MOST_CANDIDATES, find_candidates, thin
from pipeline.latency.grain import Curve, Grain, find_curve
from pipeline.latency.kinds import Kind, kind_of, settled, sweeps_of, with_grains
from pipeline.latency.sites import Site, SiteMap, grouping_of, width_of
from tests.latency.networks import grouped, residual, square_skip


def by_hand(model: Model, channels: Channels) -> SiteMap:
    """One site for each node that multiplies, and one for the pooling."""
    sites = []
    for node in model.proto.graph.node:
        sides = [width_of(model, channels, name) for name in (node.input[0], node.output[0])]
        if node.op_type in ("Conv", "Gemm"):
            grouping = grouping_of(model, channels, node)
            widths = tuple(dict.fromkeys(sides)) if grouping else tuple(sides)
            family = {"ops": [node.op_type], **grouping}
            sites.append(Site(node.output[0], family, widths, frozenset({node.name}), node.name))
        elif node.op_type == "GlobalAveragePool":
            sites.append(Site(node.output[0], {"ops": [node.op_type]}, (sides[1],), frozenset({node.name}), None))
    return SiteMap(tuple(sites), {}, {})


def stairs(grain: Grain) -> Curve:
    """Off the step half as fast."""
    return find_curve({w: (50.0 + 10.0 * grain.effective(w)) * (2.0 if grain.off(w) else 1.0) for w in range(1, 97)})


def curves_of(model: Model, sites: SiteMap, grain: Grain) -> dict[Kind, Curve]:
    return dict.fromkeys(sweeps_of(model, sites), stairs(grain))


def test_each_kind_of_kernel_is_swept_once_a_side() -> None:
    model = residual(64)
    sites = by_hand(model, couple(model))
    sweeps = sweeps_of(model, sites)
    found = {(sweep.node.op_type, sweep.side) for sweep in sweeps.values()}
    assert found == {("Conv", "in"), ("Conv", "out"), ("Gemm", "in"), ("Gemm", "out")}
    assert len(sweeps) == len(found)
    assert {sweep.node.name for sweep in sweeps.values() if sweep.node.op_type == "Conv"} <= {"inner", "outer"}
    assert all(kind_of(sweep) == kind for kind, sweep in sweeps.items())  # the stem's channels cost less


def test_what_is_too_narrow_for_stairs_is_not_swept() -> None:
    model = residual(6)
    assert {sweep.node.op_type for sweep in sweeps_of(model, by_hand(model, couple(model))).values()} == {"Gemm"}


@pytest.mark.parametrize(("groups", "kept"), [(16, {"per_group": 1}), (2, {"groups": 2})])
def test_grouped_convolutions_are_swept_with_both_sides_at_once(groups: int, kept: dict[str, int]) -> None:
    model = square_skip(16, groups)
    sites = by_hand(model, couple(model))
    (site,) = [site for site in sites.sites if site.linear == "body"]
    assert kept.items() <= site.family.items()
    (sweep,) = [sweep for sweep in sweeps_of(model, sites).values() if sweep.node.name == "body"]
    assert (sweep.side, sweep.full, sweep.step) == ("both", 16, next(iter(kept.values())))


def test_a_grouped_convolution_between_two_widths_is_not_swept_and_takes_the_usual_grain() -> None:
    model = grouped(64, 2)
    sites = by_hand(model, couple(model))
    sweeps = sweeps_of(model, sites)
    assert {sweep.node.name for sweep in sweeps.values()} == {"out", "y"}
    grained = with_grains(model, sites, dict.fromkeys(sweeps, stairs(Grain(4, 16))))
    (site,) = [site for site in grained.sites if site.linear == "mid"]
    assert site.grains == (Grain(4, 16),) * 2


def test_candidates_are_the_right_edges_of_the_stairs_and_zero_where_a_branch_may_vanish() -> None:
    model = residual(64)
    channels = couple(model)
    sites = by_hand(model, channels)
    found = find_candidates(model, channels, sites, channels.free, curves_of(model, sites, Grain(4, 16)))
    assert found == {"stem": (16, 32, 48, 64), "inner": (0, 16, 32, 48, 64)}


def test_smooth_kernels_offer_widths_from_all_over() -> None:
    model = residual(64)
    channels = couple(model)
    sites = by_hand(model, channels)
    for curves in (curves_of(model, sites, Grain()), {}):  # without curves, time goes with width
        for counts in find_candidates(model, channels, sites, channels.free, curves).values():
            wide = [count for count in counts if count]
            assert len(wide) == MOST_CANDIDATES
            assert wide[-1] == 64
            assert max(np.diff(wide)) <= 8


def test_what_was_not_swept_lies_in_memory_as_the_heaviest_kernels_leave_it() -> None:
    model = residual(64)
    sites = by_hand(model, couple(model))
    grained = with_grains(model, sites, settled(model, sites, curves_of(model, sites, Grain(4, 16))))
    assert {site.name: site.grains for site in grained.sites} == {
        site.name: (Grain(4, 16),) * len(site.widths) for site in sites.sites
    }


def test_a_light_kernels_grain_gives_way_to_the_usual_one() -> None:
    model = residual(64)
    sites = by_hand(model, couple(model))
    curves = curves_of(model, sites, Grain(4, 16))
    noisy = np.random.default_rng(3)
    (light,) = [kind for kind in curves if (kind.op, kind.side) == ("Gemm", "out")]
    curves[light] = find_curve({w: 1000.0 * float(noisy.uniform(0.7, 1.3)) for w in range(1, 97)})
    assert curves[light].grain != Grain(4, 16)
    assert settled(model, sites, curves)[light].grain == Grain(4, 16)


def test_thin_keeps_all_where_there_are_few_and_always_the_uncut_width() -> None:
    assert thin((4, 8), {4: 1.0, 8: 2.0, 12: 3.0}, 12) == (4, 8, 12)


def test_thin_spreads_many_evenly_in_time() -> None:
    times = {width: float(width) for width in range(1, 101)}
    chosen = thin(tuple(times), times, 100)
    assert len(chosen) == MOST_CANDIDATES
    assert (chosen[0], chosen[-1]) == (1, 100)
    gaps = np.diff(chosen)
    assert max(gaps) - min(gaps) <= 2


def test_thin_keeps_what_gives_most_channels_for_its_time() -> None:
    hull = {width: 10.0 * width for width in range(16, 177, 16)}  # eleven ends of blocks
    above = {width + 4: 10.0 * (width + 4) + 100.0 for width in range(16, 161, 16)}  # a little wider, much slower
    times = hull | above
    assert thin(tuple(sorted(times)), times, 176) == tuple(hull)


@pytest.mark.parametrize("seed", range(5))
def test_thin_never_offers_many_nor_loses_the_ends(seed: int) -> None:
    generator = np.random.default_rng(seed)
    times = dict(zip(range(3, 203), np.cumsum(generator.uniform(0.1, 10, 200)).tolist(), strict=True))
    chosen = thin(tuple(times), times, 202)
    assert len(chosen) <= MOST_CANDIDATES
    assert (chosen[0], chosen[-1]) == (3, 202)
    assert set(chosen) <= set(times)


def test_a_fixed_width_makes_no_candidates() -> None:
    model = residual(64)
    channels = couple(model)
    sites = by_hand(model, channels)
    alone = SiteMap(tuple(site for site in sites.sites if site.widths == (Width((), 3),)), {}, {})
    found = find_candidates(model, channels, alone, channels.free, {})
    assert found == {"stem": (64,), "inner": (0, 64)}
