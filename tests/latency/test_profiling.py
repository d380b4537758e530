"""A tiny network, really cut, built and profiled on this device; a second time from the database alone."""

import json

import numpy as np
import pytest

from pipeline.graph.couple import couple
from pipeline.latency.profiling import FEWEST_PLANS, PlanSpace, cut_to, design
from pipeline.latency.sites import sites_of
from pipeline.latency.stored import from_json, to_json
from targets.connection import Connection
from tests.latency.conftest import Profiled
from tests.latency.networks import square_skip


def test_every_node_that_takes_time_has_one_site(profiled: Profiled) -> None:
    sites = profiled.first.latency.sites
    linear = {node.name for node in profiled.model.proto.graph.node if node.op_type in ("Conv", "Gemm")}
    assert linear <= set(sites.owner)
    assert linear == {site.linear for site in sites.sites if site.linear}
    full = {group.id: group.channels for group in profiled.channels.groups}
    for site in sites.sites:
        if site.linear == "inner":
            assert site.at(full) == (16, 16)
            assert site.at({**full, "inner": 4}) == (16, 4)


def test_a_cut_networks_kernels_all_belong_to_sites(profiled: Profiled, connection: Connection, tmp_path) -> None:
    from pipeline.graph.model import save

    sites = profiled.first.latency.sites
    for plan in ({"stem": 8, "inner": 4}, {"stem": 12, "inner": 0}):
        full = {group.id: group.channels for group in profiled.channels.groups}
        for constants in ("kept", "dropped"):
            path = tmp_path / "cut.onnx"
            save(cut_to(profiled.model, profiled.channels, {**full, **plan}, constants), path)
            profile = connection.profile(path, runs=5)
            times = sites.gather(profile.kernels)
            assert sum(time.kernels for time in times.values()) == len(profile.kernels)
            runs = np.sum([time.samples_ns for time in times.values() if time.kernels], axis=0)
            assert runs.tolist() == np.sum([kernel.samples_ns for kernel in profile.kernels], axis=0).tolist()
            if plan["inner"] == 0:
                (site,) = [site for site in sites.sites if site.linear == "inner"]
                assert times[site.name].kernels == 0


def test_a_dense_convolution_over_one_group_keeps_both_sides(connection: Connection, tmp_path) -> None:
    from pipeline.graph.model import save

    model = square_skip()
    save(model, tmp_path / "net.onnx")
    channels = couple(model)
    sites = sites_of(model, channels, connection.profile(tmp_path / "net.onnx", runs=3).kernels)
    (site,) = [site for site in sites.sites if site.linear == "body"]
    assert len(site.widths) == 2
    assert site.at({group.id: 8 for group in channels.groups}) == (8, 8)


def test_candidates_are_widths_of_the_group_with_the_uncut_one_and_zero_where_it_may_vanish(profiled: Profiled) -> None:
    for group in profiled.channels.free:
        counts = profiled.first.candidates.channels[group.id]
        assert counts == tuple(sorted(set(counts)))
        assert counts[-1] == group.channels
        assert (counts[0] == 0) == group.vanishes


def test_the_second_time_builds_nothing_and_says_the_same(profiled: Profiled) -> None:
    first, second = profiled.first, profiled.second
    assert first.built + first.reused == len(first.latency.samples)
    assert first.built == len({tuple(sample.channels.values()) for sample in first.latency.samples})
    assert second.built == 0
    assert second.reused == len(second.latency.samples) == len(first.latency.samples)
    assert second.candidates.channels == first.candidates.channels
    (inner,) = [site.name for site in first.latency.sites.sites if site.linear == "inner"]
    # A site's time and kernels are medians over all plans that had its widths, and layouts differ by neighbours.
    for fresh, read in zip(first.latency.samples, second.latency.samples, strict=True):
        assert read.channels == fresh.channels
        for sample in (fresh, read):
            assert (sample.kernels[inner] == 0) == (fresh.channels["inner"] == 0)
        assert abs(read.count - fresh.count) <= 3
    full = first.latency.samples[0].channels
    assert second.latency.predict_ns(full) == pytest.approx(first.latency.predict_ns(full), rel=0.25)


def test_design_begins_uncut_and_shows_every_candidate_equally_often(profiled: Profiled) -> None:
    space = PlanSpace(profiled.channels.free, {"stem": (4, 8, 16), "inner": (0, 8, 16)})
    plans = list(design(profiled.channels, space, seed=0))
    assert plans[0] == {group.id: group.channels for group in profiled.channels.groups}
    assert len(plans) == FEWEST_PLANS + 1
    for group, counts in space.candidates.items():
        seen = [plan[group] for plan in plans[1:]]
        assert max(map(seen.count, counts)) - min(map(seen.count, counts)) <= 1
    assert plans == list(design(profiled.channels, space, seed=0))
    assert plans != list(design(profiled.channels, space, seed=1))


def test_a_stored_profile_comes_back_whole(profiled: Profiled) -> None:
    stored = json.loads(json.dumps(to_json(profiled.first)))
    back = from_json(stored, profiled.model)
    assert to_json(back) == to_json(profiled.first)
    for sample in profiled.first.latency.samples:
        assert back.latency.predict_ns(sample.channels) == profiled.first.latency.predict_ns(sample.channels)
    kernels = (
        {"owner": dict(p.latency.sites.owner), "maker": dict(p.latency.sites.maker)} for p in (back, profiled.first)
    )
    assert next(kernels) == next(kernels)
