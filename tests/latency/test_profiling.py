"""A tiny network, really cut, built and profiled on this device; a second time from the database alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.graph.couple import couple
from pipeline.graph.model import save
from pipeline.latency import profiling
from pipeline.latency.design import design
from pipeline.latency.profiling import FEWEST_PLANS_KNOWN, cut_to, profile_network
from pipeline.latency.sites import sites_of
from pipeline.latency.table import family_key
from targets.connection import Connection
from targets.errors import BadInput
from tests.latency.conftest import WIDTH, Profiled
from tests.latency.networks import residual, square_skip


def test_every_node_that_takes_time_has_one_site(profiled: Profiled) -> None:
    sites = profiled.first.latency.sites
    linear = {node.name for node in profiled.model.proto.graph.node if node.op_type in ("Conv", "Gemm")}
    assert linear <= set(sites.owner)
    assert linear == {site.linear for site in sites.sites if site.linear}
    full = {group.id: group.channels for group in profiled.channels.groups}
    for site in sites.sites:
        if site.linear == "inner":
            assert site.at(full) == (WIDTH, WIDTH)
            assert site.at({**full, "inner": 4}) == (WIDTH, 4)


def test_a_cut_networks_kernels_all_belong_to_sites(profiled: Profiled, connection: Connection, tmp_path: Path) -> None:
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


def test_a_dense_convolution_over_one_group_keeps_both_sides(connection: Connection, tmp_path: Path) -> None:
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


def test_profiling_begins_uncut_and_follows_the_design(profiled: Profiled) -> None:
    full = {group.id: group.channels for group in profiled.channels.groups}
    designed = design(profiled.channels, profiled.channels.free, profiled.first.candidates.channels, 0)
    assert [sample.channels for sample in profiled.first.latency.samples] == [full, *designed]


def test_every_sample_has_its_gauge_and_what_was_held_out_its_errors(profiled: Profiled) -> None:
    latency, heldout = profiled.first.latency, profiled.first.heldout
    assert all(sample.gauge_ns > 0 for sample in latency.samples)
    assert 0 < heldout.plans + heldout.anywhere_plans <= len(latency.samples)
    assert latency.spread == tuple(heldout.spread)
    assert latency.candidates == profiled.first.candidates.channels
    assert latency.on_edges(latency.samples[0].channels)
    assert {miss.site for miss in heldout.misses} <= {site.name for site in latency.sites.sites}


def test_every_site_has_a_grain_for_each_width(profiled: Profiled) -> None:
    for site in profiled.first.latency.sites.sites:
        assert len(site.grains) == len(site.widths)


def test_stairs_are_drawn_over_each_groups_widths(profiled: Profiled) -> None:
    for group in profiled.channels.free:
        stairs = profiled.first.candidates.stairs[group.id]
        assert stairs.widths == tuple(sorted(set(stairs.widths)))
        assert (stairs.widths[0], stairs.widths[-1]) == (1, group.channels)
        assert set(stairs.edges) == set(profiled.first.candidates.channels[group.id]) - {0}
        assert set(stairs.edges) <= set(stairs.widths)
        assert len(stairs.times_ns) == len(stairs.widths)


def test_a_network_whose_kernels_another_one_showed_is_built_less_often(
    profiled: Profiled, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "ENOUGH_WIDTHS", 2)  # a network this small has few widths
    model = residual(WIDTH, tail="Sigmoid")
    channels = couple(model)
    found = profile_network(model, channels, channels.free, connection, profiled.store)
    alone = len(list(design(channels, channels.free, found.candidates.channels, 0))) + 1
    assert FEWEST_PLANS_KNOWN < len(found.latency.samples) < alone
    assert found.built + found.reused == len(found.latency.samples)
    assert found.candidates.channels == profiled.first.candidates.channels  # the same stairs, read and not timed
    for family, learned in found.latency.known.items():
        alike = [site for site in found.latency.sites.sites if family_key(site.family) == family]
        own = {site.at(sample.channels) for site in alike for sample in found.latency.samples}
        assert own | set(learned) == set(found.latency.table.samples[family])


def test_an_emulated_device_is_refused_before_anything_is_timed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "device", replace(connection.device, emulated=True))
    model = residual(WIDTH)
    channels = couple(model)
    with pytest.raises(BadInput, match=r"^local is emulated[^\n]*on the device itself[^\n]*$"):
        profile_network(model, channels, channels.free, connection, None)
