"""Plain runs, profiled runs and a gauge take turns, on a clock that the test moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from targets import pairing, timing
from targets.pairing import FEWEST_TURNS, GAUGE_RUNS, LONGEST_TURN, MOST_TURNS, SAMPLE_NS, Turns, take_turns, warm_up

MS = 1_000_000


@dataclass
class Bench:
    """A clock, and three networks that take some of its time; `ran` holds what ran, in order."""

    now: int = 0
    ran: list[str] = field(default_factory=list)
    switch_ns: int = 0  # what the first run after another network takes beyond its own time

    def perf_counter_ns(self) -> int:
        return self.now

    def network(self, name: str, run_ns: int) -> Callable[[], None]:
        def run() -> None:
            cold = not self.ran or self.ran[-1] != name
            self.now += run_ns + (self.switch_ns if cold else 0)
            self.ran.append(name)

        return run

    def turns(self, runs: int, *, run_ns: int = MS, plain: bool = True, gauge: bool = True) -> Turns:
        return take_turns(
            self.network("plain", run_ns) if plain else None,
            self.network("profiled", 2 * run_ns),
            self.network("gauge", MS) if gauge else None,
            runs,
            lambda event: None,
        )


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(timing, "time", made)
    monkeypatch.setattr(pairing, "time", made)
    return made


def after_warm_up(bench: Bench, turns: Turns, sides: int = 3) -> list[str]:
    return bench.ran[turns.warm_ups * sides :]


def test_each_turn_is_the_gauge_then_plain_then_profiled_runs(bench: Bench) -> None:
    turns = bench.turns(runs=1000)
    assert bench.ran[: 3 * turns.warm_ups] == ["gauge", "plain", "profiled"] * turns.warm_ups
    one = ["gauge"] * GAUGE_RUNS + ["plain"] * (1 + LONGEST_TURN) + ["profiled"] * (1 + LONGEST_TURN)
    assert after_warm_up(bench, turns) == one * (1000 // LONGEST_TURN)


def test_the_run_that_finds_another_networks_caches_is_not_kept(bench: Bench) -> None:
    bench.switch_ns = 5 * MS
    turns = bench.turns(runs=64)
    assert set(turns.plain_ns) == {MS}
    profiled = [place for place, name in enumerate(bench.ran) if name == "profiled"]
    assert all(bench.ran[profiled[run] - 1] == "profiled" for run in turns.kept)
    assert turns.gauge_ns[:GAUGE_RUNS] == [6 * MS, MS, MS]  # of the gauge all runs are told, cold ones too


def test_kept_runs_are_counted_from_the_first_warm_up(bench: Bench) -> None:
    turns = bench.turns(runs=64)
    whole = 1 + LONGEST_TURN
    count = bench.ran.count("profiled") - turns.warm_ups
    kept = [turns.warm_ups + run for run in range(count) if run % whole]
    assert turns.kept == kept
    assert len(turns.plain_ns) == len(kept)
    assert len(turns.gauge_ns) == GAUGE_RUNS * count // whole


def test_a_fast_network_is_sampled_for_a_second(bench: Bench) -> None:
    turns = bench.turns(runs=1)
    assert len(turns.kept) == 1  # asked for fewer than there are turns: taken at its word
    turns = bench.turns(runs=FEWEST_TURNS)
    turn_ns = GAUGE_RUNS * MS + (1 + LONGEST_TURN) * 3 * MS
    assert len(turns.kept) == LONGEST_TURN * -(-SAMPLE_NS // turn_ns)


def test_a_very_fast_network_ends_after_the_most_turns_unless_more_runs_are_asked_for(bench: Bench) -> None:
    assert len(bench.turns(runs=24, run_ns=MS // 10).kept) == LONGEST_TURN * MOST_TURNS
    assert len(bench.turns(runs=1001, run_ns=MS // 10).kept) == LONGEST_TURN * -(-1001 // LONGEST_TURN)


def test_a_slow_network_takes_one_run_a_turn_and_the_fewest_turns(bench: Bench) -> None:
    turns = bench.turns(runs=FEWEST_TURNS, run_ns=400 * MS)
    assert len(turns.kept) == len(turns.plain_ns) == FEWEST_TURNS
    assert turns.kept == list(range(turns.warm_ups, turns.warm_ups + FEWEST_TURNS))  # none is left out: all are cold
    assert len(bench.turns(runs=20, run_ns=400 * MS).kept) == 20


@pytest.mark.parametrize("runs", [1, 3, FEWEST_TURNS - 1])
@pytest.mark.parametrize("run_ns", [MS // 100, 400 * MS])
def test_fewer_runs_than_turns_are_taken_at_their_word(bench: Bench, runs: int, run_ns: int) -> None:
    turns = bench.turns(runs, run_ns=run_ns)
    assert after_warm_up(bench, turns) == (["gauge"] * GAUGE_RUNS + ["plain", "profiled"]) * runs
    assert turns.plain_ns == [run_ns] * runs
    assert turns.kept == list(range(turns.warm_ups, turns.warm_ups + runs))


def test_without_plain_runs_the_profiled_ones_set_the_pace(bench: Bench) -> None:
    turns = bench.turns(runs=24, run_ns=5 * MS, plain=False)  # profiled: 10 ms, three of them a turn
    assert turns.plain_ns == []
    turn = ["gauge"] * GAUGE_RUNS + ["profiled"] * (1 + 3)
    ran = after_warm_up(bench, turns, sides=2)
    assert ran == turn * (len(ran) // len(turn))
    assert len(turns.kept) == 3 * len(ran) // len(turn) >= 24


def test_without_a_gauge_the_two_sides_take_turns(bench: Bench) -> None:
    turns = bench.turns(runs=3, gauge=False)
    assert turns.gauge_ns == []
    assert after_warm_up(bench, turns, sides=2) == ["plain", "profiled"] * 3


def test_all_sides_warm_up_and_the_fastest_run_of_the_judge_counts(bench: Bench) -> None:
    bench.switch_ns = 3 * MS
    one, other = bench.network("one", 20 * MS), bench.network("other", 10 * MS)
    assert warm_up([one, other], other) == (3, 13 * MS)
    slow = bench.network("slow", 40_000 * MS)
    assert warm_up([slow], slow) == (1, 40_003 * MS)  # a model with minutes a run does not warm up for ever


def test_every_turn_is_a_sign_of_life(bench: Bench) -> None:
    told: list[dict[str, Any]] = []
    take_turns(None, bench.network("profiled", MS), None, 4, told.append)
    assert told == [{"stage": "profile", "turns": turn} for turn in (1, 2, 3, 4)]
