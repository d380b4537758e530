"""Numbers and names as the report prints them. What is not known becomes a dash."""

import math
import re
from collections.abc import Mapping
from typing import Any

DASH = "–"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def read(document: Any, *path: str) -> Any:
    """The value at a path of keys, None where any part of the way is missing, null or no mapping."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def entries(document: Any, *path: str) -> list[Mapping[str, Any]]:
    """The mappings in the list at a path; none where there is no list."""
    found = read(document, *path)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, (list, tuple)) else []


def texts(document: Any, *path: str) -> list[str]:
    """What is in the list at a path, as text."""
    found = read(document, *path)
    return [str(entry) for entry in found] if isinstance(found, (list, tuple)) else []


def floats(document: Any, *path: str) -> list[float]:
    """The numbers in the list at a path, not a number where an entry is none."""
    found = read(document, *path)
    if not isinstance(found, (list, tuple)):
        return []
    return [value if (value := as_float(entry)) is not None else math.nan for entry in found]


def as_float(value: Any) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def number(value: Any, digits: int = 3, unit: str = "") -> str:
    """To so many significant digits, never in powers of ten; integers in full."""
    known = as_float(value)
    if known is None:
        return DASH
    if isinstance(value, int):
        return str(value).replace("-", MINUS) + unit
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(known)))) if known else 0
    text = f"{known:.{min(decimals, 9)}f}"
    return (text.replace("-", MINUS) if float(text) else text.lstrip("-")) + unit


def factor(value: Any) -> str:
    known = as_float(value)
    return DASH if known is None else f"{known:.2f}{TIMES}"


def milliseconds(value: Any) -> str:
    return number(value, 4, " ms")


def interval(low: Any, high: Any, digits: int = 4, unit: str = "") -> str:
    if as_float(low) is None or as_float(high) is None:
        return DASH
    return f"{number(low, digits)} to {number(high, digits)}{unit}"


def with_interval(value: Any, low: Any, high: Any) -> str:
    """`1.700 ms [1.660, 1.740]`, without brackets where the ends are not known."""
    if as_float(low) is None or as_float(high) is None:
        return milliseconds(value)
    return f"{milliseconds(value)} [{number(low, 4)}, {number(high, 4)}]"


def percent(value: Any) -> str:
    known = as_float(value)
    return DASH if known is None else f"{known:.2f} %"


def short(name: str) -> str:
    """A tensor's name without the tail that every exporter puts on it."""
    return re.sub(r"(?<=.)_output_\d+$", "", name)


def share(value: Any) -> str:
    """A share of one as a percentage."""
    known = as_float(value)
    return DASH if known is None else number(100 * known, 2, " %")


def points(value: Any) -> str:
    """A signed change in percentage points."""
    known = as_float(value)
    if known is None:
        return DASH
    sign = "+" if known > 0 else MINUS if known < 0 else "\N{PLUS-MINUS SIGN}"
    return f"{sign}{abs(known):.2f} points"


def count(value: Any) -> str:
    """With a prefix: 41.2 M."""
    known = as_float(value)
    if known is None:
        return DASH
    for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(known) >= size:
            return number(known / size, 3) + prefix
    return number(known, 3)


def size(value: Any) -> str:
    """Bytes, in units of 1024."""
    known = as_float(value)
    if known is None:
        return DASH
    for unit, name in ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB")):
        if known >= unit:
            return number(known / unit, 3) + name
    return number(known, 3, " bytes")


def duration(value: Any) -> str:
    known = as_float(value)
    if known is None:
        return DASH
    if known < 60:
        return number(known, 2, " s")
    minutes, seconds = divmod(round(known), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def words(value: Any) -> str:
    """Anything else on one line: lists by commas, mappings as key: value, booleans as yes and no."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {words(entry)}" for key, entry in value.items()) or DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(words(entry) for entry in value) or DASH
    return f"{value:g}" if isinstance(value, float) else str(value)
