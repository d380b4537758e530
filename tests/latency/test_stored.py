"""A profile travels as JSON and predicts the same afterwards."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.latency.candidates import Candidates
from pipeline.latency.grain import Grain
from pipeline.latency.heldout import HeldOut, Miss, spread_of
from pipeline.latency.predict import fit
from pipeline.latency.profiling import NetworkProfile
from pipeline.latency.samples import Known
from pipeline.latency.stairs import Staircase
from pipeline.latency.stored import from_json, to_json
from pipeline.latency.table import family_key
from tests.latency.conftest import Profiled
from tests.latency.networks import lawful_sample, lawful_sites, residual

EDGES = {"a": (16, 32, 64), "b": (0, 16, 64)}
MISSES = (Miss("second", "Conv", 0.031, "noise"), Miss("first", "Conv+Relu", 0.002, "its time does not follow"))


def profile_of(heldout: HeldOut) -> NetworkProfile:
    """Grains, gauges and streams that wander, kernels from elsewhere: all that a prediction hangs on."""
    generator = np.random.default_rng(0)
    samples = []
    for factor, stream in generator.uniform(0.8, 1.2, (30, 2)).tolist():
        plan = {"a": int(generator.integers(8, 65)), "b": int(generator.integers(8, 65))}
        taken = lawful_sample(plan, 800).scaled(factor**1.4 * stream**0.3)
        samples.append(replace(taken, gauge_ns=1e6 * factor, stream_ns=4e6 * stream))
    known: Known = {family_key({"ops": ["second"]}): {(7, 5): 0.5, (64, 63): 0.011}, family_key({"ops": ["new"]}): {}}
    latency = replace(fit(lawful_sites(Grain(4, 16)), samples, known), spread=spread_of(heldout), candidates=EDGES)
    stairs = {"a": Staircase({"group": "a"}, (1, 16, 64), (1.5, 2.5, 4.0), (16, 64))}
    return NetworkProfile(
        latency, Candidates(EDGES, stairs), heldout, 28, 2, ({"name": "first", "op": "Conv", "us": 2},)
    )


HELD_OUT = HeldOut(20, 0.01, 0.03, 8, 0.02, 0.09, (0.025, 0.08), MISSES)


def back(profile: NetworkProfile) -> NetworkProfile:
    text = json.dumps(to_json(profile))
    return from_json(json.loads(text), residual())


def test_it_predicts_the_same_on_and_off_the_step() -> None:
    profile = profile_of(HELD_OUT)
    again = back(profile)
    assert again.latency.powers == profile.latency.powers
    assert min(again.latency.powers) > 0
    for plan in ({"a": 64, "b": 64}, {"a": 16, "b": 48}, {"a": 23, "b": 41}, {"a": 7, "b": 5}, {"a": 64, "b": 63}):
        assert again.latency.predict_ns(plan) == profile.latency.predict_ns(plan)
        assert again.latency.interval_ns(plan) == profile.latency.interval_ns(plan)
        assert again.latency.on_edges(plan) == profile.latency.on_edges(plan)


def test_grains_gauges_spread_misses_and_what_others_showed_come_back() -> None:
    profile = profile_of(HELD_OUT)
    again = back(profile)
    assert [site.grains for site in again.latency.sites.sites] == [site.grains for site in profile.latency.sites.sites]
    assert [site.widths for site in again.latency.sites.sites] == [site.widths for site in profile.latency.sites.sites]
    assert again.latency.samples == profile.latency.samples
    assert again.latency.known == profile.latency.known
    assert again.latency.spread == (0.025, 0.08)
    assert again.heldout == HELD_OUT
    assert again.candidates == profile.candidates
    assert (again.built, again.reused, again.base_kernels) == (28, 2, profile.base_kernels)


def test_another_sample_teaches_both_the_same() -> None:
    profile = profile_of(HELD_OUT)
    sample = lawful_sample({"a": 24, "b": 40}, 800, gauge_ns=1.1e6)
    one, other = (found.latency.learned(sample) for found in (profile, back(profile)))
    assert one.predict_ns({"a": 24, "b": 40}) == other.predict_ns({"a": 24, "b": 40})


def test_what_was_not_checked_comes_back_unchecked() -> None:
    again = back(profile_of(HeldOut(0, math.nan, math.nan)))
    assert again.heldout.plans == 0
    assert all(map(math.isnan, (again.heldout.median_error, *again.latency.spread)))
    assert again.latency.interval_ns({"a": 16, "b": 16}) == (0.0, math.inf)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_real_profile_comes_back_whole(profiled: Profiled, which: str) -> None:
    profile: NetworkProfile = getattr(profiled, which)
    stored: dict[str, Any] = json.loads(json.dumps(to_json(profile)))
    again = from_json(stored, profiled.model)
    assert json.dumps(to_json(again)) == json.dumps(stored)
    for sample in profile.latency.samples:
        assert again.latency.predict_ns(sample.channels) == profile.latency.predict_ns(sample.channels)
    assert dict(again.latency.sites.owner) == dict(profile.latency.sites.owner)
    assert dict(again.latency.sites.maker) == dict(profile.latency.sites.maker)
