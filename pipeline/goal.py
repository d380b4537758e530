"""Goals and gates: what `latency<=8ms,params<=0.5x` means, in nanoseconds, multiply-adds, counts and bytes."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from targets.errors import BadInput

Quantity = Literal["latency", "flops", "params", "memory"]

FORMS = (
    "latency<=8ms, latency<=0.5x, speedup>=2x, flops<=0.5x, flops<=300M, params<=0.5x, params<=2M, memory<=0.5x, "
    "memory<=2MB; joined by commas"
)
NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}  # both code points that mean micro
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
UNITS: dict[Quantity, dict[str, float]] = {"latency": NANOSECONDS, "flops": COUNTS, "params": COUNTS, "memory": BYTES}

NUMBER = r"(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+)"
TERM = re.compile(rf"(?P<name>[a-z]+)\s*(?P<sign><=|>=)\s*{NUMBER}\s*(?P<unit>[a-zµμ]*)")
DURATION = re.compile(rf"{NUMBER}\s*(?P<unit>[a-zµμ]+)")


@dataclass(frozen=True)
class Bound:
    """At most `limit`: nanoseconds, multiply-adds, parameters or bytes of activations alive at one time, or a share (0
    to 1) of the uncut network's."""

    quantity: Quantity
    limit: float
    relative: bool

    def against(self, uncut: float) -> float:
        """The limit as a number in the quantity's own unit, `uncut` being what the uncut network has."""
        return self.limit * uncut if self.relative else self.limit


@dataclass(frozen=True)
class Goal:
    """Bounds that hold together, at most one for each quantity, and the text they were written as."""

    bounds: tuple[Bound, ...]
    text: str

    def bound(self, quantity: Quantity) -> Bound | None:
        """The bound on `quantity`, if the goal has one."""
        return next((bound for bound in self.bounds if bound.quantity == quantity), None)


def parse_goal(text: str) -> Goal:
    """Read a goal; BadInput, with the allowed forms, for anything else."""
    bounds: dict[Quantity, Bound] = {}
    for term in text.split(","):
        bound = parse_term(term.strip(), text)
        if bound.quantity in bounds:
            raise BadInput(f"goal {text!r}: {bound.quantity} is bounded twice (speedup bounds latency). Keep one.")
        bounds[bound.quantity] = bound
    return Goal(tuple(bounds.values()), text.strip())


def parse_term(term: str, text: str) -> Bound:
    match = TERM.fullmatch(term.lower())
    if match is None:
        raise refusal(text, f"{term!r} is not a bound" if term else "a bound is missing")
    name, sign, unit, number = match["name"], match["sign"], match["unit"], float(match["number"])
    if not 0 < number < math.inf:
        raise refusal(text, f"the number in {term!r} must be above zero")
    if name == "speedup":
        if sign != ">=" or unit not in ("", "x"):
            raise refusal(text, f"{term!r} should look like speedup>=2x")
        return Bound("latency", share(1.0 / number, term, text), relative=True)
    quantity: Quantity | None = next((known for known in UNITS if known == name), None)
    if quantity is None:
        raise refusal(text, f"{name!r} cannot be bounded")
    if sign != "<=":
        raise refusal(text, f"{term!r} bounds {name} from below; what is wanted is a limit, {name}<=")
    if unit == "x":
        return Bound(quantity, share(number, term, text), relative=True)
    if unit not in UNITS[quantity]:
        known = ", ".join(name for name in UNITS[quantity] if name)
        raise refusal(text, f"the unit of {term!r} should be x (a share of the uncut network's) or one of {known}")
    return Bound(quantity, number * UNITS[quantity][unit], relative=False)


def share(value: float, term: str, text: str) -> float:
    if value > 1:
        raise refusal(text, f"{term!r} asks for more than the uncut network has; a share lies between 0x and 1x")
    return value


def refusal(text: str, why: str) -> BadInput:
    return BadInput(f"goal {text!r}: {why}. Allowed: {FORMS}")


def parse_duration(text: str) -> float:
    """Nanoseconds in `8ms`, `750us`, `0.2s`; BadInput without a unit, for zero, and for anything else."""
    match = DURATION.fullmatch(text.strip().lower())
    nanoseconds = float(match["number"]) * NANOSECONDS.get(match["unit"], math.nan) if match else math.nan
    if not 0 < nanoseconds < math.inf:
        raise BadInput(f"{text!r} is not a duration. Write a number above zero with its unit: 8ms, 750us, 0.2s")
    return nanoseconds
