"""One model against itself: what claims a difference there is counted, and the count is judged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from targets.connection import Connection
from targets.errors import BadInput
from targets.measurement import Session
from targets.selftest import SelfTest, as_row, self_tests, tally
from tests.targets.models import elementwise, saved
from tests.targets.test_measurement import DEVICE

SIDES = (Path("first"), Path("second"))


class Noisy:
    """A device whose sessions scatter by 1 %. Its core is shared for a part of some sessions, which slows the model by
    up to 25 % and the probe by up to 90 %. `slower`: how much longer the second build truly takes."""

    device = DEVICE

    def __init__(self, seed: int, *, shared: bool = False, slower: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shared = shared
        self.slower = slower
        self.taken: list[str] = []

    def time(self, model: Path, *, shapes: Mapping[str, Any] | None = None, quick: bool = False) -> Session:
        self.taken.append(model.name)
        share = self.rng.uniform(0, 1) if self.shared and self.rng.uniform() < 0.5 else 0.0
        centre = 1e7 * (1 + 0.25 * share) * (self.slower if model.name == "second" else 1.0)
        median = int(centre * np.exp(self.rng.normal(0, 0.01)))
        reading = int(40_000 * (1 + 0.9 * share) * np.exp(self.rng.normal(0, 0.01)))
        return Session((median,) * 3, 10, (), (), "quick" if quick else "full", (reading,))

    def run(self, count: int, **options: Any) -> list[SelfTest]:
        return list(self_tests(SIDES, cast(Connection, self), seeds=range(count), **options))


def test_three_claims_in_a_hundred_are_chance_and_four_are_not() -> None:
    assert tally(100, 3).passed
    assert not tally(100, 4).passed
    assert tally(100, 1).expected == pytest.approx(1)


def test_a_single_self_test_may_claim_nothing() -> None:
    assert tally(1, 0).passed
    assert not tally(1, 1).passed


@pytest.mark.parametrize("count", [1, 5, 10, 20, 100, 1000])
def test_a_sound_protocol_fails_at_most_one_check_in_twenty(count: int) -> None:
    allowed = tally(count, 0).allowed
    assert stats.binom.sf(allowed, count, 0.01) <= 0.05
    assert allowed == 0 or stats.binom.sf(allowed - 1, count, 0.01) > 0.05  # and it is the least that does


def test_the_rate_has_its_exact_interval() -> None:
    none = tally(100, 0)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 100))


@pytest.mark.parametrize(("count", "claims"), [(0, 0), (2, 3), (2, -1)])
def test_counts_that_cannot_be_are_refused(count: int, claims: int) -> None:
    with pytest.raises(BadInput, match="cannot be"):
        tally(count, claims)


def test_no_session_is_in_two_self_tests() -> None:
    device = Noisy(0)
    found = device.run(3, sessions=4)
    medians = [session.median_ns for test in found for side in test.sides for session in side.sessions]
    assert len(device.taken) == len(medians) == len(set(medians)) == 24
    assert device.taken[:8] != device.taken[8:16]  # each in an order of its own


def test_a_steady_device_claims_about_one_in_a_hundred() -> None:
    claims = sum(test.claimed for test in Noisy(1).run(1000))
    assert claims <= 20  # 10 expected


def test_a_device_whose_core_is_shared_claims_no_more_and_sees_finer_with_the_probe() -> None:
    found = Noisy(2, shared=True).run(500)
    assert sum(test.claimed for test in found) <= 12  # 5 expected
    assert sum(side.repeats for test in found for side in test.sides) > 1000
    blind = Noisy(2, shared=True)
    kept = blind.time
    blind.time = lambda *a, **k: Session(kept(*a, **k).samples_ns, 10)  # type: ignore[method-assign]
    widths = [np.median([test.ratio.high - test.ratio.low for test in tests]) for tests in (found, blind.run(500))]
    assert widths[0] < 0.6 * widths[1]


def test_a_true_difference_of_five_percent_is_claimed() -> None:
    found = Noisy(3, slower=1.05).run(50)
    assert all(test.ratio.verdict == "slower" for test in found)
    assert not tally(50, sum(test.claimed for test in found)).passed


def test_progress_counts_the_sessions_of_all_self_tests() -> None:
    seen: list[tuple[int, int, str]] = []
    Noisy(4).run(2, sessions=2, on_progress=lambda *event: seen.append(event))
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert {total for _, total, _ in seen} == {8}
    assert seen[-1][2].startswith("self-test 2 of 2")


def test_a_quick_self_test_says_so() -> None:
    (test,) = Noisy(5).run(1, quick=True)
    assert as_row(test)["quick"] is True
    assert any("quick protocol" in doubt for doubt in as_row(test)["doubts"])


def test_a_model_is_tested_on_a_real_device(connection: Connection, tmp_path: Path) -> None:
    path = saved(elementwise((1, 64)), tmp_path / "model.onnx")
    engines = [connection.build(path, tmp_path / f"{side}.engine") for side in "ab"]
    (test,) = self_tests((engines[0], engines[1]), connection, sessions=2, quick=True)
    row = json.loads(json.dumps(as_row(test)))
    assert [len(medians) for medians in row["medians_ms"]] == [2, 2]
    assert all(reading > 0 for side in row["probes_us"] for reading in side)
    assert row["low"] <= row["ratio"] <= row["high"]
