"""JSON of somebody else's making: bounded before it is parsed, plain afterwards (host side)."""

import json
import math
from typing import Any

MOST_CONTAINERS = 500_000  # lists and mappings; a profile has some thousands, and three bytes make one of ours of 64
DEEPEST = 32  # an answer within an answer; ours are five deep
LONGEST_TEXT = 1 << 16  # characters; what a runtime tells of one fused layer is the longest


def parsed(text: bytes) -> Any:
    """Finite numbers, and texts that a terminal shows and does not obey. `ValueError` where it is no JSON, deeper or in
    more parts than any of ours."""
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS:
        raise ValueError("too many parts")
    try:
        return cleaned(json.loads(text.decode("utf-8"), parse_constant=refuse_constant))
    except RecursionError as failure:
        raise ValueError("too deep") from failure


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def cleaned(value: Any, depth: int = 0) -> Any:
    """The same with the control characters of its texts replaced."""
    if depth > DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is a number to JSON
        raise ValueError("a number that is not finite")
    if isinstance(value, list):
        return value if all(type(each) is int for each in value) else [cleaned(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(each, depth + 1) for key, each in value.items()}
    return value


def shown(text: str) -> str:
    """`text` without what a terminal would obey. `ValueError` where it is longer than any of ours."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a text of {len(text)} characters")
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)
