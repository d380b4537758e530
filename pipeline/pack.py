"""A bundle made ready for a device that is not connected: a folder that appears whole or not at all."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipeline.check import read_json
from pipeline.packs import find_pack
from pipeline.workspace import file_digest, write_json
from targets.connection import Tell, silent
from targets.errors import BadInput


def pack(bundle: str | Path, kind: str, output: str | Path, *, tell: Tell = silent) -> dict[str, Any]:
    """`bundle`: what `compress` wrote. Fills a new folder `output` with what the kind of device wants and a
    `manifest.json` with the hash of every file. BadInput where `bundle` is none, or `output` is there already."""
    source, folder = Path(bundle), Path(output)
    read_json(source, "manifest.json")
    make = find_pack(kind)
    if folder.exists():
        raise BadInput(f"{folder} is there already. Choose another --output, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        told = make(source, beside, tell=tell)
        files = sorted(path.relative_to(beside).as_posix() for path in beside.rglob("*") if path.is_file())
        manifest = {"kind": kind, **told, "files": {name: file_digest(beside / name) for name in files}}
        write_json(beside / "manifest.json", manifest)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {"bundle": str(source), "output": str(folder), **manifest}
