"""The file that makes a recovery survive being killed: always whole, and never used for another run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from targets.errors import BadInput

VERSION = 1
NORM_TOLERANCE = 1e-3  # re-made students differ by rounding; another choice of channels differs by far more


def identity(student: nn.Module, settings: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """What makes a run this run: settings, how many samples, and each parameter's shape and norm before training."""
    parameters = {name: value.detach() for name, value in student.named_parameters()}
    return {
        "version": VERSION,
        "settings": dict(settings),
        "samples": samples,
        "shapes": {name: list(value.shape) for name, value in parameters.items()},
        "norms": {name: float(value.double().norm()) for name, value in parameters.items()},
    }


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Written beside and renamed: at `path` there is a whole checkpoint or the previous one, whatever happens."""
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        beside.unlink(missing_ok=True)
        raise BadInput(
            f"{path}: the checkpoint cannot be written ({error}). Free the disk, or give another place."
        ) from error


def load(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state saved at `path`, None where there is none; BadInput where it cannot be read or is of another run."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:
        raise BadInput(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}). Delete it: rm {path}"
        ) from error
    difference = _difference(found, wanted)
    if difference is not None:
        raise BadInput(f"{path}: a checkpoint of another run ({difference}). To begin anew delete it: rm {path}")
    return dict(state)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    if found.get("version") != wanted["version"]:
        return f"format {found.get('version')}, this is {wanted['version']}"
    for name, value in wanted["settings"].items():
        before = found["settings"].get(name)
        if before != value:
            return f"{name} {before} there, {value} now"
    if found["samples"] != wanted["samples"]:
        return f"{found['samples']} samples there, {wanted['samples']} now"
    if found["shapes"] != wanted["shapes"]:
        return "the network's parameters have other shapes"
    for name, norm in wanted["norms"].items():
        if abs(found["norms"][name] - norm) > NORM_TOLERANCE * max(abs(norm), 1e-6):
            return f"parameter {name} had other values at the start"
    return None
