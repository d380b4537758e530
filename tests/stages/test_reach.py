"""Why a goal is out of reach: the largest parts of what remains, each with what keeps it there."""

from dataclasses import replace

from pipeline.allocation import choices_from
from pipeline.graph.couple import couple
from pipeline.latency.predict import fit
from pipeline.stages.reach import MOST_NAMED, OUTSIDE, as_sentence, what_remains
from tests.latency.networks import GROUPS, SITE_WIDTHS, lawful_sample, lawful_sites, residual, true_ns
from tests.stages.test_approaching import SCORES

PLANS = [dict(GROUPS), *({"a": a, "b": b} for a in (8, 24, 48) for b in (8, 32, 56))]
CANDIDATES = {"a": (8, 32, 64), "b": (8, 32, 64)}


def remains(plan, choices, offset_ns: float = 0.0):
    model = residual()
    latency = replace(fit(lawful_sites(), [lawful_sample(each) for each in PLANS]), offset_ns=offset_ns)
    return what_remains(model, couple(model), latency, plan, choices, CANDIDATES)


def test_parts_are_the_plans_largest_in_order_with_their_shares() -> None:
    plan = {"a": 8, "b": 8}
    parts = remains(plan, choices_from(SCORES, CANDIDATES))
    times = {site: true_ns(site, plan) for site in SITE_WIDTHS}
    assert [part.name for part in parts] == sorted(times, key=lambda site: -times[site])
    assert len(parts) == MOST_NAMED
    for part in parts:
        assert abs(part.share - times[part.name] / sum(times.values())) < 0.05


def test_each_part_says_what_holds_it() -> None:
    lowest = {part.name: part.because for part in remains({"a": 8, "b": 8}, choices_from(SCORES, CANDIDATES))}
    assert all(because == "at the narrowest width that is worth its time" for because in lowest.values())
    floored = choices_from(SCORES, CANDIDATES, floors=[("a", 0.5)])
    held = {part.name: part.because for part in remains({"a": 32, "b": 8}, floored)}
    assert "the floor" in held["first"]
    assert held["first"].endswith("holds a")
    only_b = [choice for choice in choices_from(SCORES, CANDIDATES) if choice.group == "b"]
    left_out = {part.name: part.because for part in remains({"a": 64, "b": 8}, only_b)}
    assert left_out["first"].startswith("a may not be cut")


def test_time_outside_of_kernels_is_named_where_it_is_large() -> None:
    parts = remains({"a": 8, "b": 8}, choices_from(SCORES, CANDIDATES), offset_ns=1e6)
    assert parts[0].name == OUTSIDE
    assert parts[0].share > 0.9
    assert as_sentence(parts).startswith(f"What remains: {OUTSIDE} 100%")
    assert as_sentence(()) == ""
