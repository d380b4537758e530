"""Sessions, measurements and their comparison: raw samples in; medians, percentiles, intervals and verdicts out."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from targets.device import Device
from targets.errors import BadInput

# From here on the smallest and the largest run enclose the true 99th percentile with a confidence of 99.87 %
# (1 - 0.99 ** 662): below, the estimate is an extreme of a few runs.
MIN_RUNS_FOR_P99 = 662

LARGEST_CONDITIONS = 1 << 16  # characters of JSON; a board with all of its clocks takes some four thousand


@dataclass(frozen=True)
class Session:
    """One fresh process's timings. `samples_ns`: one whole run each, in order. `warm_ups`: runs before them.

    `doubts` are sentences that travel with the number. `voided`: why the session should not count (it was throttled,
    or other work was on its cores); empty for a good one. `protocol` is "full" or "quick". `probes_ns`: readings of the
    speed probe between the runs (see `targets.speed`); empty for sessions from before there was one. `conditions`:
    clocks, heat and power before and after it, as JSON (see `targets.conditions.Seen`); empty where the device tells
    nothing of them.
    """

    samples_ns: tuple[int, ...]
    warm_ups: int
    doubts: tuple[str, ...] = ()
    voided: tuple[str, ...] = ()
    protocol: str = "full"
    probes_ns: tuple[int, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def median_ns(self) -> float:
        return float(np.median(self.samples_ns))

    @property
    def probe_ns(self) -> float | None:
        """How slow the core was: the mean of the faster three quarters of the probe's readings; None without any.

        A core shared with another guest is so for some of the time, and the readings fall into two heaps: their mean
        follows the share, their median jumps and their minimum misses it. The slowest quarter is left out because a
        reading that was interrupted is no reading of speed.
        """
        if not self.probes_ns:
            return None
        ordered = sorted(self.probes_ns)
        return float(np.mean(ordered[: max(1, math.ceil(0.75 * len(ordered)))]))

    @property
    def throttled(self) -> tuple[str, ...]:
        """Those of the reasons in `voided` that are of heat or power: waiting helps."""
        return tuple(self.conditions.get("throttled", ()))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Session":
        return cls(
            samples_ns=tuple(int(sample) for sample in data["samples_ns"]),
            warm_ups=int(data["warm_ups"]),
            doubts=tuple(data.get("doubts", ())),
            voided=tuple(data.get("voided", ())),
            protocol=str(data.get("protocol", "full")),
            probes_ns=tuple(int(reading) for reading in data.get("probes_ns", ())),
            conditions=checked_conditions(data.get("conditions", {})),
        )


def checked_conditions(found: Any) -> dict[str, Any]:
    """`ValueError` for what no device of ours answers."""
    if not isinstance(found, dict) or len(json.dumps(found)) > LARGEST_CONDITIONS:
        raise ValueError("conditions of another form, or too many of them")
    if not all(isinstance(reason, str) for reason in found.get("throttled", ())):
        raise ValueError("reasons that are no sentences")
    if not isinstance(found.get("lock", {}), dict):
        raise ValueError("a lock of another form")
    return found


@dataclass(frozen=True)
class Measurement:
    """Sessions of one model on one device; at least one. The sessions, not the runs, are what repeats independently.

    `repeats`: sessions that were voided and taken again; they are not among `sessions`.
    """

    sessions: tuple[Session, ...]
    device: Device
    doubts: tuple[str, ...] = ()
    repeats: int = 0

    def __post_init__(self) -> None:
        if not self.sessions or not all(session.samples_ns for session in self.sessions):
            raise BadInput("A measurement needs at least one session, and each session at least one run.")

    @property
    def quick(self) -> bool:
        """Whether any session was of the quick protocol."""
        return any(session.protocol == "quick" for session in self.sessions)

    @property
    def median_ns(self) -> float:
        """The geometric mean of the sessions' medians: the centre of `interval_ns`, and what `ratio` compares."""
        return math.exp(float(np.mean(self._logs())))

    @property
    def p90_ns(self) -> float:
        """Over the runs of all sessions together."""
        return float(np.percentile(self._pooled(), 90))

    @property
    def p99_ns(self) -> float | None:
        """As `p90_ns`; None under 662 runs, which cannot show it."""
        pooled = self._pooled()
        return float(np.percentile(pooled, 99)) if len(pooled) >= MIN_RUNS_FOR_P99 else None

    def interval_ns(self, confidence: float = 0.99) -> tuple[float, float]:
        """Where the median lies: Student's t on the logarithms of the sessions' medians. (0, inf) for one session."""
        logs = self._logs()
        if len(logs) < 2:
            return 0.0, math.inf
        spread = float(stats.t.ppf((1 + confidence) / 2, len(logs) - 1)) * float(stats.sem(logs))
        centre = float(np.mean(logs))
        return math.exp(centre - spread), math.exp(centre + spread)

    def as_dict(self) -> dict[str, Any]:
        sessions = [session.as_dict() for session in self.sessions]
        return {
            "sessions": sessions,
            "device": self.device.as_dict(),
            "doubts": list(self.doubts),
            "repeats": self.repeats,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Measurement":
        sessions = tuple(Session.from_dict(session) for session in data["sessions"])
        return cls(sessions, Device.from_dict(data["device"]), tuple(data["doubts"]), int(data.get("repeats", 0)))

    def _logs(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.log([session.median_ns for session in self.sessions])

    def _pooled(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        return np.concatenate([np.asarray(session.samples_ns, dtype=np.int64) for session in self.sessions])


@dataclass(frozen=True)
class Ratio:
    """time(A) / time(B) with its interval: above 1, B is the faster one. The verdict speaks of B. `quick`: it rests on
    sessions of the quick protocol, and says so wherever it is shown."""

    value: float
    low: float
    high: float
    confidence: float
    verdict: Literal["faster", "slower", "inconclusive"]
    quick: bool = False


def incomparable(a: Measurement, b: Measurement) -> str:
    """Why a ratio of the two would say nothing of models or runtimes; empty where it would."""
    for part in ("device_class", "regime"):
        if getattr(a.device, part) != getattr(b.device, part):
            return f"The two were timed on different devices or regimes (their {part} differs); no ratio."
    return ""


def ratio(a: Measurement, b: Measurement, confidence: float = 0.99, *, across_devices: bool = False) -> Ratio:
    """time(A) / time(B) with a Welch interval on the logarithms of the sessions' medians.

    B is "faster" when the interval lies above 1, "slower" when below, else "inconclusive"; always so with fewer than
    two sessions on a side. `BadInput` when they were taken on different devices or regimes, unless that is asked for.
    """
    if not across_devices and (why := incomparable(a, b)):
        raise BadInput(why)
    logs = [np.log([session.median_ns for session in side.sessions]) for side in (a, b)]
    centre = float(np.mean(logs[0]) - np.mean(logs[1]))
    quick = a.quick or b.quick
    if min(map(len, logs)) < 2:
        return Ratio(math.exp(centre), 0.0, math.inf, confidence, "inconclusive", quick)
    variances = [float(np.var(side, ddof=1)) / len(side) for side in logs]
    error = math.sqrt(sum(variances))
    spread = 0.0
    if error > 0:
        freedom = sum(variances) ** 2 / sum(v**2 / (len(side) - 1) for v, side in zip(variances, logs, strict=True))
        spread = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    low, high = math.exp(centre - spread), math.exp(centre + spread)
    verdict: Literal["faster", "slower", "inconclusive"] = "inconclusive"
    if low > 1:
        verdict = "faster"
    if high < 1:
        verdict = "slower"
    return Ratio(math.exp(centre), low, high, confidence, verdict, quick)


def interquartile_mean(samples: Sequence[float]) -> float:
    """The mean of the middle half. As robust as the median, and not stuck on a clock's whole microseconds.

    scipy's trim_mean at 0.25, in a hundredth of its time: a warm profile is thousands of rows of a few dozen samples.
    """
    cut = len(samples) // 4
    return statistics.fmean(sorted(samples)[cut : len(samples) - cut])
