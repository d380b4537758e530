"""Laws from sums: kernels whose law is known, seen end to end alone; what the graph suggests; few widths."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from pipeline.graph.couple import couple
from pipeline.latency import few_widths
from pipeline.latency.alone import Sweep
from pipeline.latency.between import between
from pipeline.latency.few_widths import MOST_BUILDS, find_few_curves, telling_widths
from pipeline.latency.grain import BLOCKS, STEPS, Curve, Grain, find_curve
from pipeline.latency.heldout import held_out
from pipeline.latency.kinds import Kind, sweeps_of
from pipeline.latency.predict import fit
from pipeline.latency.sites import SiteMap, Work
from pipeline.latency.suggested import suggested_kernels, suggested_sites
from pipeline.latency.table import Sample
from tests.latency.networks import GROUPS, SITE_WIDTHS, grouped, lawful_sample, lawful_sites, residual

# Of the lawful kernels, on paper: that they multiply is known, what else they do is not.
SLOWER = (
    0.3  # of its time that the second kernel takes more for each side off the step; its sweeps showed twice as much
)
WORK = {"first": Work(10, 1, 1, 5), "second": Work(1, 1, 2, 2, (2 * SLOWER,) * 2), "third": Work(3, 1, 4, 1)}


def paper_sites(grain: Grain) -> SiteMap:
    sites = lawful_sites(grain)
    return SiteMap(tuple(replace(s, work=WORK[s.name]) for s in sites.sites), sites.owner, sites.maker, told=False)


def whole(plan: Mapping[str, int], slower: float = 0.0) -> Sample:
    """End to end alone; the second kernel takes a share of `slower` more for each width that is no multiple of 4."""
    off = sum(count % 4 > 0 for count in plan.values())
    sample = lawful_sample(plan, factors={"second": 1 + slower * off})
    return replace(sample, sites_ns={}, kernels={})


def plans(count: int, seed: int = 0) -> list[dict[str, int]]:
    generator = np.random.default_rng(seed)
    return [dict(GROUPS), *({g: int(generator.integers(8, 65)) for g in GROUPS} for _ in range(count - 1))]


def test_plans_that_were_not_seen_are_predicted_from_sums_alone() -> None:
    model = fit(paper_sites(Grain()), [whole(plan) for plan in plans(30)])
    for plan in plans(8, seed=1):
        assert model.predict_ns(plan) == pytest.approx(whole(plan).end_to_end_ns, rel=0.02)


def test_the_slow_path_off_the_step_is_learned_from_sums_alone() -> None:
    model = fit(paper_sites(Grain(4, 4)), [whole(plan, SLOWER) for plan in plans(60)])
    for plan in ({"a": 48, "b": 40}, {"a": 47, "b": 40}, {"a": 33, "b": 57}):
        assert model.predict_ns(plan) == pytest.approx(whole(plan, SLOWER).end_to_end_ns, rel=0.05)


def test_no_wider_kernel_is_ever_cheaper() -> None:
    model = fit(paper_sites(Grain()), [whole(plan) for plan in plans(12)])
    for table in model.cost_tables():
        assert all(
            table.cost((a, b)) <= table.cost((a + 1, b + 1)) for a, b in itertools.product((8, 31, 64), repeat=2)
        )


def test_a_disturbed_plan_changes_little() -> None:
    samples = [whole(plan) for plan in plans(30)]
    disturbed = [*samples[:7], replace(samples[7], end_to_end_ns=3 * samples[7].end_to_end_ns), *samples[8:]]
    one, other = (fit(paper_sites(Grain()), taken) for taken in (samples, disturbed))
    for plan in plans(8, seed=1):
        assert other.predict_ns(plan) == pytest.approx(one.predict_ns(plan), rel=0.05)


def test_a_device_that_changes_its_speed_is_brought_to_one() -> None:
    factors = np.random.default_rng(3).uniform(0.8, 1.2, 30).tolist()
    wandering = [replace(whole(p), gauge_ns=1e6).scaled(f) for p, f in zip(plans(30), factors, strict=True)]
    model = fit(paper_sites(Grain()), wandering)
    share = model.predict_ns({"a": 24, "b": 40}) / model.predict_ns(GROUPS)
    assert share == pytest.approx(whole({"a": 24, "b": 40}).end_to_end_ns / whole(GROUPS).end_to_end_ns, rel=0.02)


def test_what_was_held_out_has_errors_and_names_no_kernels() -> None:
    model = fit(paper_sites(Grain()), [whole(plan) for plan in plans(30)])
    found = held_out(replace(model, candidates=dict.fromkeys(GROUPS, (64,))))
    assert found.anywhere_plans == 29
    assert found.anywhere_median_error < 0.02
    assert found.misses == ()
    assert not found.kernels_told


def test_elementwise_nodes_that_nobody_else_reads_belong_to_what_feeds_them() -> None:
    kernels = {kernel.name: kernel.nodes for kernel in suggested_kernels(residual())}
    assert kernels["stem"] == ("stem", "stem.out")
    assert kernels["inner"] == ("inner", "inner.out")
    assert kernels["outer"] == ("outer", "sum", "last")  # the stem's end is read twice
    assert list(kernels) == ["stem", "inner", "outer", "pooled", "y"]  # flattening is no kernel


def test_sites_know_their_work_on_paper() -> None:
    model = residual(16)
    sites = {site.linear or site.name: site for site in suggested_sites(model, couple(model)).sites}
    assert sites["inner"].work == Work(macs=8 * 8 * 9, weights=9, reads=64, makes=64)
    assert sites["outer"].work == Work(macs=8 * 8 * 9, weights=9, reads=64, makes=128)  # the skip is read as well
    assert sites["pooled"].work == Work(macs=0, weights=0, reads=0, makes=65)


def test_a_few_widths_tell_grains_apart() -> None:
    """But for blocks of one step and two: which of them it is changes a time by a step at most."""
    for step, block in itertools.product(STEPS, BLOCKS):
        if block % step == 0 and block <= 32 and block not in (2, 2 * step):
            grain = Grain(step, block)
            times = {w: 10 + (1.6 if grain.off(w) else 1.0) * grain.effective(w) for w in telling_widths(100, 1)}
            assert find_curve(times).grain == grain


@pytest.mark.parametrize(("full", "step"), [(8, 1), (24, 1), (64, 8), (100, 1), (512, 32), (2048, 1)])
def test_widths_to_look_at_are_few_multiples_of_the_step_with_the_full_one(full: int, step: int) -> None:
    widths = telling_widths(full, step)
    assert widths == sorted(set(widths))
    assert all(0 < width <= full and width % step == 0 for width in widths)
    assert widths[-1] == full
    assert len(widths) <= MOST_BUILDS // 3


def test_kinds_beyond_the_builds_take_the_curve_of_the_heaviest_of_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times come from a law: what is claimed is which widths are asked for."""
    model = grouped(64, 8)
    asked: list[tuple[Kind, int]] = []
    sweeps = sweeps_of(model, suggested_sites(model, couple(model)))

    def law(sweep: object, width: int, *rest: object) -> float:
        asked.append((next(kind for kind, own in sweeps.items() if own is sweep), width))
        return 10.0 + width

    monkeypatch.setattr(few_widths, "_time", law)
    monkeypatch.setattr(few_widths, "MOST_BUILDS", 18)
    weights = {kind: float(number) for number, kind in enumerate(sweeps)}
    curves: dict[Kind, Curve] = find_few_curves(sweeps, weights, None, None, "session")  # type: ignore[arg-type]
    assert set(curves) == set(sweeps)
    measured = list(dict.fromkeys(kind for kind, _ in asked))
    assert measured == sorted(sweeps, key=lambda kind: -weights[kind])[: len(measured)]
    assert len(asked) <= 18
    assert len(measured) < len(sweeps)
    for kind in set(sweeps) - set(measured):
        assert any(curves[kind] is curves[other] for other in measured)


def test_sites_of_the_lawful_network_are_all_predicted() -> None:
    model = fit(paper_sites(Grain()), [whole(plan) for plan in plans(12)])
    assert [table.name for table in model.cost_tables()] == list(SITE_WIDTHS)


@pytest.mark.parametrize(("rank", "side"), [(0, "in"), (1, "out"), (2, "in"), (2, "out"), (2, "both"), (3, "in")])
def test_a_kernel_stands_between_edges_that_are_the_same_at_every_width(rank: int, side: str) -> None:
    op = "Conv" if rank else "Gemm"
    attributes: dict[str, Any] = {} if rank else {"transB": 1}
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    deep = side == "both"
    sweep = Sweep(node, (1, 24, *[5] * rank), (24, 1 if deep else 24, *[3] * rank), side, 24, 24, 1 if deep else None)
    ends = []
    for width in (7, 24):
        proto = onnx.shape_inference.infer_shapes(between(sweep, width, 2), strict_mode=True)
        onnx.checker.check_model(proto)
        ends.append([shape_of(value) for value in (*proto.graph.input, *proto.graph.output)])
        (kernel,) = [tensor for tensor in proto.graph.initializer if tensor.name == "kernel0.w"]
        assert tuple(kernel.dims) == sweep.weights(width)
    assert ends[0] == ends[1]


def shape_of(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
