"""Writing the report's three forms into a folder."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report.html import to_html
from pipeline.report.markdown import to_markdown


def write_report(report: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md and report.json, each beside and then renamed; returns their paths in that order.

    Any part of the report may be missing or null: what is not known is left out.
    """
    pages = {
        "report.html": to_html(report),
        "report.md": to_markdown(report),
        "report.json": json.dumps(plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write(folder / name, text) for name, text in pages.items())


def plain(value: Any) -> Any:
    """The same with what JSON has no word for replaced: null for numbers that are not finite, text for the rest."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)  # numpy scalars and arrays


def _write(path: Path, text: str) -> Path:
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(beside).chmod(0o644)  # mkstemp keeps others out; a report is for sharing
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
    return path
