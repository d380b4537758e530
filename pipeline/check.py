"""Gates for continuous integration: is the bundle what it was, and is what was measured good enough?"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.errors import BadInput

CHUNK_BYTES = 1 << 20


def check(
    bundle: str | Path,
    *,
    max_latency_ns: float | None = None,
    min_speedup: float | None = None,
    max_drop: float | None = None,
) -> dict[str, Any]:
    """Compare a bundle's files with its manifest, and its measured numbers with the gates that are given.

    A latency counts with the upper end of its interval, a speed-up with the lower end, a drop in the metric's points
    as it was measured. A number that is missing, not finite, doubted or predicted only fails its gate. Nothing is run.
    Returns {"bundle", "gates": [{"name", "limit", "value", "passed", "why"}], "failures": [sentence], "doubts": [..]}.
    BadInput when the folder is not a bundle.
    """
    folder = Path(bundle)
    manifest = read_json(folder, "manifest.json")
    report = read_json(folder, "report.json")
    gates = []
    if max_latency_ns is not None:
        after = part(part(report, "latency"), "after")
        gates.append(gate("max-latency", after, "high_ms", max_latency_ns / 1e6, at_most=True))
    if min_speedup is not None:
        latency = part(report, "latency")
        ratio, sides = part(latency, "ratio"), (part(latency, "before"), part(latency, "after"))
        doubts = dict.fromkeys(doubt for each in (ratio, *sides) for doubt in each.get("doubts") or ())
        gates.append(gate("min-speedup", {**ratio, "doubts": [*doubts]}, "low", min_speedup, at_most=False))
    if max_drop is not None:
        gates.append(gate("max-drop", part(report, "accuracy"), "drop", max_drop, at_most=True))
    return {
        "bundle": str(folder),
        "gates": gates,
        "failures": [*changed_files(folder, manifest), *(str(each["why"]) for each in gates if not each["passed"])],
        "doubts": list(report.get("doubts") or ()),
    }


def read_json(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not a bundle: it has no {name}. Give the folder that compress wrote.") from error
    except NotADirectoryError as error:
        raise BadInput(f"{folder} is a file. Give the bundle's folder.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}. Compress again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} is not a JSON object. Compress again.")
    return content


def part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = report.get(name)
    return value if isinstance(value, Mapping) else {}


UNITS = {"high_ms": " ms", "low": "x", "drop": " points"}
TITLES = {"high_ms": "latency (upper end of the interval)", "low": "speed-up (lower end)", "drop": "accuracy drop"}


def gate(name: str, numbers: Mapping[str, Any], key: str, limit: float, *, at_most: bool) -> dict[str, Any]:
    """One gate's verdict. `numbers` is the part of the report that carries the number and what is doubted about it."""
    title, unit, value = TITLES[key], UNITS[key], numbers.get(key)
    doubts = [str(doubt) for doubt in numbers.get("doubts") or ()]
    wanted = f"{name} asks for at {'most' if at_most else 'least'} {limit:g}{unit}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        value, why = None, f"{name}: the bundle has no measured {title}; {wanted}"
    elif doubts:
        why = f"{name}: the {title} of {value:.4g}{unit} is in doubt: {'; '.join(doubts)}"
    elif (value <= limit) if at_most else (value >= limit):
        why = ""
    else:
        why = f"{name}: the {title} is {value:.4g}{unit}; {wanted}"
    return {"name": name, "limit": limit, "value": value, "passed": not why, "why": why}


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """A sentence for every file that is missing or not what the manifest says, the report the gates read included."""
    files = manifest.get("files")
    if not isinstance(files, Mapping) or not files:
        raise BadInput(f"{folder / 'manifest.json'} names no files. Compress again.")
    failures = [] if "report.json" in files else ["report.json: the manifest does not vouch for it"]
    root = folder.resolve()
    for name, expected in files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise BadInput(f"{folder / 'manifest.json'}: {name} lies outside the bundle. Do not use this bundle.")
        if not path.is_file():
            failures.append(f"{name}: the file is missing")
        elif sha256(path) != expected:
            failures.append(f"{name}: the content is not what the manifest says")
    return failures


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
