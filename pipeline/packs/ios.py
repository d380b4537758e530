"""A folder for an iOS app."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.packs.mobile import fill
from pipeline.packs.phone_models import FORMATS, Format
from targets.connection import Tell, silent

FILES = {
    "CutbackModel.swift": "CutbackModel.swift.j2",
    "CutbackGoldenTests.swift": "CutbackGoldenTests.swift.j2",
    "README.md": "README.ios.md.j2",
}
DTYPES = {  # numpy's -> ORTTensorElementDataType, which has no others
    "float32": "float", "int8": "int8", "uint8": "uInt8", "int32": "int32", "uint32": "uInt32", "int64": "int64",
    "uint64": "uInt64",
}  # fmt: skip


def pack(
    bundle: Path, folder: Path, formats: tuple[Format, ...] = FORMATS, *, tell: Tell = silent
) -> Mapping[str, Any]:
    """Fill `folder` from what `compress` wrote to `bundle`."""
    return fill(bundle, folder, FILES, DTYPES, formats, tell)
