"""PLAN.json: which channels a cut keeps, readable by people, by `cutback predict` and by other tools."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from pipeline.graph import cut as cutting
from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels
from pipeline.graph.flops import paper_cost
from pipeline.graph.labels import Blocks
from pipeline.graph.model import Model
from pipeline.memory import peak_memory
from pipeline.workspace import write_json
from targets.errors import BadInput


def describe_plan(model: Model, channels: Channels, kept: Kept, cut: Model, constants: str) -> dict[str, Any]:
    """`tensors`: for every initialiser that changes, the kept indices by axis. `groups`: kept channels by group.
    `flops`: multiply-adds before and after; `memory`: bytes of activations alive at one time. `constants`: whether
    those of vanished branches were kept or dropped. `blocks`: how channels in blocks were coupled."""
    full = cutting.whole(channels, kept)
    return {
        "tensors": {
            name: {str(axis): indices for axis, indices in axes.items()}
            for name, axes in cutting.plan(channels, kept).items()
        },
        "groups": [
            {
                "id": group.id,
                "width": group.width,
                "step": group.step,
                "kept": len(full[group.id]) * group.step,
                "channels": list(full[group.id]),
            }
            for group in channels.groups
        ],
        "flops": {"before": paper_cost(model).flops, "after": paper_cost(cut).flops},
        "params": {"before": paper_cost(model).params, "after": paper_cost(cut).params},
        "memory": {"before": peak_memory(model), "after": peak_memory(cut)},
        "constants": constants,
        "blocks": channels.blocks,
    }


def write_plan(path: Path, plan: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)


def read_blocks(path: Path) -> Blocks:
    """How the network was coupled that the plan is of."""
    blocks = _read(path).get("blocks", "auto")
    if blocks not in get_args(Blocks):
        raise BadInput(f"{path} is not a plan that `cutback prune --plan` wrote: blocks are {blocks!r}.")
    return cast(Blocks, blocks)


def read_plan(path: Path, channels: Channels) -> tuple[dict[str, tuple[int, ...]], str]:
    """(kept channels by group, what became of constants). BadInput when the plan is of another network."""
    data = _read(path)
    try:
        kept = {entry["id"]: tuple(int(channel) for channel in entry["channels"]) for entry in data["groups"]}
        constants = str(data.get("constants", "kept"))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not a plan that `cutback prune --plan` wrote: {error}.") from error
    strangers = sorted(set(kept) - {group.id for group in channels.groups})
    if strangers:
        raise BadInput(f"The plan {path} names group {strangers[0]!r}, which this network does not have.")
    cutting.whole(channels, kept)  # refuses what is not legal
    return kept, constants


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"Cannot read the plan {path}: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a plan that `cutback prune --plan` wrote: {error}.") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path} is not a plan that `cutback prune --plan` wrote: it holds no object.")
    return data
