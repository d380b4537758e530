"""JSON on standard output."""

import json
import sys
from collections.abc import Mapping
from typing import Any


def print_json(result: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document. Strict: what JSON cannot say (NaN, an array) is a defect of the stage that made it."""
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()
