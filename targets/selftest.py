"""The A/A check: one model measured against itself, again and again. What claims a difference there is wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from targets.connection import Connection, Engine
from targets.errors import BadInput
from targets.measure import measure
from targets.measurement import Measurement, Ratio, ratio

# A sound protocol fails the check in less than this share of its checks: how rare a number of claims has to be before
# it counts as more than chance.
TOO_RARE = 0.05

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class SelfTest:
    """One A/A measurement: two sides of the same model, every session of its own."""

    ratio: Ratio
    sides: tuple[Measurement, Measurement]

    @property
    def claimed(self) -> bool:
        return self.ratio.verdict != "inconclusive"


@dataclass(frozen=True)
class Tally:
    """How many of `count` independent self-tests at `confidence` claimed a difference, and whether that is chance.

    `expected`: claims of a protocol whose intervals cover as often as they say. `allowed`: the most that such a
    protocol makes in all but 5 % of runs of so many tests (binomial). `low`, `high`: where the rate of claims lies,
    by the exact (Clopper-Pearson) interval at 95 %.
    """

    count: int
    claims: int
    confidence: float
    expected: float
    allowed: int
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return self.claims <= self.allowed


def tally(count: int, claims: int, confidence: float = 0.99) -> Tally:
    if not 0 <= claims <= count or count < 1:
        raise BadInput(f"{claims} claims of {count} self-tests cannot be. Ask for at least one self-test.")
    rate = 1 - confidence
    exact = stats.binomtest(claims, count).proportion_ci(0.95, method="exact")
    allowed = int(stats.binom.ppf(1 - TOO_RARE, count, rate))  # the least k with P(more than k) <= 5 %
    return Tally(count, claims, confidence, count * rate, allowed, float(exact.low), float(exact.high))


def self_tests(
    engines: tuple[Engine | Path, Engine | Path],
    connection: Connection,
    *,
    shapes: Shapes | None = None,
    sessions: int = 10,
    quick: bool = False,
    confidence: float = 0.99,
    seeds: Sequence[int] = (0,),
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[SelfTest]:
    """One self-test a seed, as each is done: `engines`, two builds of one model, by the very protocol that compares
    models. Self-tests share no session, so their claims are independent. `on_progress` counts sessions over all."""
    total = 2 * sessions * len(seeds)
    for number, seed in enumerate(seeds):
        sides = measure(
            engines,
            connection,
            shapes=shapes,
            sessions=sessions,
            quick=quick,
            seed=seed,
            on_progress=shifted(on_progress, 2 * sessions * number, total, f"self-test {number + 1} of {len(seeds)}"),
        )
        yield SelfTest(ratio(sides[0], sides[1], confidence), (sides[0], sides[1]))


def shifted(
    on_progress: Callable[[int, int, str], None] | None, before: int, total: int, title: str
) -> Callable[[int, int, str], None] | None:
    """A callback that counts on from `before`."""
    if on_progress is None:
        return None
    return lambda done, _, note: on_progress(before + done, total, f"{title}: {note}")


def as_row(test: SelfTest) -> dict[str, Any]:
    """What is kept of a self-test: the ratio, the medians and probes of its sessions, repeats and doubts."""
    return {
        "ratio": test.ratio.value,
        "low": test.ratio.low,
        "high": test.ratio.high,
        "confidence": test.ratio.confidence,
        "verdict": test.ratio.verdict,
        "quick": test.ratio.quick,
        "medians_ms": [[session.median_ns / 1e6 for session in side.sessions] for side in test.sides],
        "probes_us": [
            [None if session.probe_ns is None else session.probe_ns / 1e3 for session in side.sessions]
            for side in test.sides
        ],
        "repeats": sum(side.repeats for side in test.sides),
        "doubts": sorted({doubt for side in test.sides for doubt in side.doubts}),
    }
