"""JSON on standard output."""

import json
import sys
from collections.abc import Mapping
from typing import Any


def print_json(result: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document; numbers that JSON has no word for (NaN, infinity) are null."""
    strict = json.loads(json.dumps(result), parse_constant=lambda _: None)
    sys.stdout.write(json.dumps(strict, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()
