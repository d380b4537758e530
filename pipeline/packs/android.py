"""A folder for an Android app."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.packs.mobile import fill
from pipeline.packs.phone_models import FORMATS, Format
from targets.connection import Tell, silent

FILES = {
    "CutbackModel.kt": "CutbackModel.kt.j2",
    "benchmark.sh": "benchmark.sh.j2",
    "README.md": "README.android.md.j2",
}
DTYPES = {  # numpy's -> ai.onnxruntime.OnnxJavaType
    "float32": "FLOAT", "float64": "DOUBLE", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "bool": "BOOL",
}  # fmt: skip


def pack(
    bundle: Path, folder: Path, formats: tuple[Format, ...] = FORMATS, *, tell: Tell = silent
) -> Mapping[str, Any]:
    """Fill `folder` from what `compress` wrote to `bundle`."""
    return fill(bundle, folder, FILES, DTYPES, formats, tell)
