"""The grain of a kernel: the blocks in which its time climbs with a width, and the step off which it falls from the fast
path. Both are read off measured times, never assumed: they differ by runtime, precision, device and kind of kernel.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

STEPS = (1, 2, 4, 8, 16, 32)
BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)
# A coarser grain has to explain the times this much better (of the logarithm of the error, a term) than a finer one.
WORTH_A_TERM = 0.05
LEAST_ERROR = 0.01  # relative; below it times differ by noise, and no grain is worth telling from another


@dataclass(frozen=True, order=True)
class Grain:
    """`block`: a width costs what the next multiple of it costs. `step`: widths that are no multiple of it take another,
    slower path, whose time climbs by single channels."""

    step: int = 1
    block: int = 1

    def effective(self, width: int) -> int:
        """The width that is paid for."""
        return width if self.off(width) else -(-width // self.block) * self.block

    def off(self, width: int) -> bool:
        return width % self.step != 0


@dataclass(frozen=True, eq=False)
class Curve:
    """Time over one width as its grain has it: `fixed + slope * effective width`, on and off the step."""

    grain: Grain
    on: tuple[float, float]
    off: tuple[float, float]
    error: float  # median relative error over the widths that were measured

    def at(self, width: int) -> float:
        fixed, slope = self.off if self.grain.off(width) else self.on
        return fixed + slope * self.grain.effective(width)


def find_curve(times: Mapping[int, float]) -> Curve:
    """The grain that explains measured `times` (width -> any unit) best, coarser ones only where they are worth it."""
    widest = max(times)
    grains = [
        Grain(step, block)
        for step, block in itertools.product(STEPS, BLOCKS)
        if block % step == 0 and block <= max(widest // 2, 1)
    ]
    curves = [_fit(grain, times) for grain in grains or [Grain()]]
    return min(curves, key=_worth)


def common(grains: Sequence[Grain], weights: Sequence[float]) -> Grain:
    """The grain with most weight behind it."""
    total: dict[Grain, float] = {}
    for grain, weight in zip(grains, weights, strict=True):
        total[grain] = total.get(grain, 0.0) + weight
    return max(total, key=lambda grain: (total[grain], grain)) if total else Grain()


def _worth(curve: Curve) -> tuple[float, int, int]:
    terms = 1.0 + (curve.grain.step > 1)
    return (
        math.log(max(curve.error, LEAST_ERROR)) + WORTH_A_TERM * terms,
        curve.grain.step,
        -curve.grain.block,
    )


def _fit(grain: Grain, times: Mapping[int, float]) -> Curve:
    on = _line({w: t for w, t in times.items() if not grain.off(w)}, grain)
    off = _line({w: t for w, t in times.items() if grain.off(w)}, grain) or on
    on = on or off
    assert on is not None and off is not None
    curve = Curve(grain, on, off, 0.0)
    errors = [abs(curve.at(width) / time - 1) for width, time in times.items() if time > 0]
    return Curve(grain, on, off, float(np.mean(errors)) if errors else 0.0)


def _line(times: Mapping[int, float], grain: Grain) -> tuple[float, float] | None:
    """Least squares of the relative error, neither part negative."""
    if not times:
        return None
    widths: NDArray[np.float64] = np.asarray([grain.effective(width) for width in times], np.float64)
    values = np.maximum(np.asarray(list(times.values()), np.float64), 1e-9)
    scale = float(widths.max())
    found, _ = nnls(np.stack([1 / values, widths / scale / values], axis=1), np.ones(len(values)))
    return float(found[0]), float(found[1] / scale)
