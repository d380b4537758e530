"""Bundles for devices that are not connected, by kind: what a bundle of `compress` becomes for each."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from targets.connection import Tell, silent
from targets.errors import BadInput


class Pack(Protocol):
    """(bundle, folder to fill) -> what was put there. `tell`: as of `connect`."""

    def __call__(self, bundle: Path, folder: Path, *, tell: Tell = silent) -> Mapping[str, Any]: ...


PACKS = {  # kind -> module with `pack(bundle, folder)`; imported when asked for
    "android": "pipeline.packs.android",
    "ios": "pipeline.packs.ios",
    "jetson": "pipeline.packs.jetson",
}


def find_pack(kind: str) -> Pack:
    if kind not in PACKS:
        raise BadInput(f"There is no pack for {kind!r}. Known: {', '.join(PACKS)}.")
    found: Pack = importlib.import_module(PACKS[kind]).pack
    return found
