"""The grain of a kernel: the blocks in which its time climbs with a width, and the step off which it falls from the
fast path. Both are read off measured times, never assumed: they differ by runtime, precision, device and kind of
kernel.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Name = TypeVar("Name", bound=Hashable)  # of a curve

STEPS = (1, 2, 4, 8, 16, 32)
BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)
# What a grain has to explain better (in the logarithm of the error) to be believed: that there is a slow path, and each
# doubling of the block.
WORTH_A_STEP = 0.2
WORTH_A_DOUBLING = 0.02
ENOUGH_WEIGHT = 0.1  # of all multiply-adds, for a step to count for all
WORTH_ITS_OWN = 0.3  # and that a kind of kernel has a grain of its own
LEAST_ERROR = 0.01  # relative; below it times differ by noise, and no grain is worth telling from another


@dataclass(frozen=True, order=True)
class Grain:
    """`block`: a width costs what the next multiple of it costs. `step`: widths that are no multiple of it take
    another, slower path, whose time climbs by single channels."""

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
    error: float  # mean relative error over the widths that were measured
    times: Mapping[int, float]  # what was measured

    def at(self, width: int) -> float:
        fixed, slope = self.off if self.grain.off(width) else self.on
        return fixed + slope * self.grain.effective(width)

    @property
    def slower(self) -> float:
        """The share of its time that it takes more off the step, in the middle of the widths that were measured."""
        middle = (min(self.times) + max(self.times)) / 2
        on, off = (fixed + slope * middle for fixed, slope in (self.on, self.off))
        return off / max(on, 1e-12) - 1


def find_curve(times: Mapping[int, float]) -> Curve:
    """The grain that explains measured `times` (width -> any unit) best, coarser ones only where they are worth it."""
    widest = max(times)
    grains = [
        Grain(step, block)
        for step, block in itertools.product(STEPS, BLOCKS)
        if block % step == 0 and block <= max(widest // 2, 1)
    ]
    curves = [_fit(grain, times) for grain in grains or [Grain()]]
    return min((curve for curve in curves if _believable(curve)), key=_worth)


def settle(curves: Mapping[Name, Curve], weights: Mapping[Name, float]) -> dict[Name, Curve]:
    """The curves, with the grain that has most weight behind it wherever another one is not worth telling from it:
    the times of light kernels are noisy, and the memory between kernels is laid out in one way."""
    usual = common([curve.grain for curve in curves.values()], [weights[name] for name in curves])
    found = {}
    for name, curve in curves.items():
        alike = _fit(usual, curve.times)
        gain = math.log(max(alike.error, LEAST_ERROR)) - math.log(max(curve.error, LEAST_ERROR))
        found[name] = alike if gain < WORTH_ITS_OWN and _believable(alike) else curve
    return found


def common(grains: Sequence[Grain], weights: Sequence[float]) -> Grain:
    """The block with most weight behind it, and the widest step that has some: all kernels share the layout in
    memory that such a step comes from, though some of them hide it."""
    by_block: dict[int, float] = {}
    by_step: dict[int, float] = {}
    for grain, weight in zip(grains, weights, strict=True):
        by_block[grain.block] = by_block.get(grain.block, 0.0) + weight
        by_step[grain.step] = by_step.get(grain.step, 0.0) + weight
    enough = ENOUGH_WEIGHT * sum(by_step.values())
    step = max((step for step, weight in by_step.items() if weight >= enough), default=1)
    block = max(by_block, key=lambda block: (by_block[block], block), default=1)
    return Grain(step, math.lcm(step, block))


def _believable(curve: Curve) -> bool:
    """A path is off the fast one only if it is slower."""
    if curve.grain.step == 1:
        return True
    return curve.slower > 0


def _worth(curve: Curve) -> tuple[float, int, int]:
    price = WORTH_A_STEP * (curve.grain.step > 1) + WORTH_A_DOUBLING * math.log2(curve.grain.block)
    return math.log(max(curve.error, LEAST_ERROR)) + price, curve.grain.step, curve.grain.block


def _fit(grain: Grain, times: Mapping[int, float]) -> Curve:
    on = _line({w: t for w, t in times.items() if not grain.off(w)}, grain)
    off = _line({w: t for w, t in times.items() if grain.off(w)}, grain) or on
    on = on or off
    assert on is not None
    assert off is not None
    curve = Curve(grain, on, off, 0.0, dict(times))
    errors = [abs(curve.at(width) / time - 1) for width, time in times.items() if time > 0]
    return Curve(grain, on, off, float(np.mean(errors)) if errors else 0.0, dict(times))


def _line(times: Mapping[int, float], grain: Grain) -> tuple[float, float] | None:
    """Least squares of the relative error, neither part negative."""
    if not times:
        return None
    widths: NDArray[np.float64] = np.asarray([grain.effective(width) for width in times], np.float64)
    values = np.maximum(np.asarray(list(times.values()), np.float64), 1e-9)
    scale = float(widths.max())
    found, _ = nnls(np.stack([1 / values, widths / scale / values], axis=1), np.ones(len(values)))
    return float(found[0]), float(found[1] / scale)
