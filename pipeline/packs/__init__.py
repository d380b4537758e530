"""Bundles for devices that are not connected, by kind: what a bundle of `compress` becomes for each."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from targets.errors import BadInput

Pack = Callable[[Path, Path], Mapping[str, Any]]  # (bundle, folder to fill) -> what was put there

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
