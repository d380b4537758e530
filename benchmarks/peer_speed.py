"""The time to halve a network: Torch-Pruning beside cutback, in one interleaved run.

    python -m pip install --no-deps torch-pruning==1.6.1
    python -m benchmarks.peer_speed --json peer.json

Both start from a network in memory, and cut half of every group's channels by magnitude: the peer builds its
dependency graph and steps as its documentation shows; cutback couples, scores by l2, plans and cuts. With `load`, which
the peer has no counterpart of, cutback starts from the ONNX file instead. Neither proves anything in that time;
afterwards the peer's network must run, and cutback's must pass its proof. FLOPs left are each tool's own count. Inputs
are 96 x 96.
"""

import argparse
import copy
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.networks import NETWORKS, export
from benchmarks.peer import modules, output_layers
from pipeline.allocation import keep
from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import Model, load
from pipeline.graph.proof import prove
from pipeline.importance import score
from pipeline.stages.scoring import best_channels
from targets.errors import CutbackError

SHARE = 0.5
SIZE = 96
CLASSES = 1000
TIMES_FASTER = 5.0
SIZED = {"vit_b16"}  # its parameters depend on the size of the images
# What a tool that cannot follow a network has been seen to raise.
FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError, ArithmeticError)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args(arguments)
    try:
        peer = version("torch-pruning")
    except PackageNotFoundError:
        parser.exit(2, "Torch-Pruning is not installed. Run: pip install --no-deps torch-pruning==1.6.1\n")
    rows = []
    for name in asked.network or NETWORKS:
        rows.append(compare(name, asked.rounds))
        print(describe(rows[-1]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"peer": peer, "networks": rows}, indent=1) + "\n", encoding="utf-8")


def compare(name: str, rounds: int) -> dict[str, Any]:
    """One network: the first round of both is a warm-up, then they take turns at going first."""
    network = NETWORKS[name](classes=CLASSES, **({"size": SIZE} if name in SIZED else {}))
    with tempfile.TemporaryDirectory(prefix="cutback-peer-") as folder:
        path = export(network, Path(folder, "net.onnx"), SIZE)
        row: dict[str, Any] = {"network": name, "peer": [], "cutback": [], "cutback_with_load": []}
        row |= peer_result(network) | cutback_result(path)
        for number in range(rounds):
            for side in ("peer", "cutback") if number % 2 else ("cutback", "peer"):
                gc.collect()
                if side == "peer" and row["peer_failure"] is None:
                    row["peer"].append(time_peer(network))
                elif side == "cutback" and row["cutback_failure"] is None:
                    in_memory, with_load = time_cutback(path)
                    row["cutback"].append(in_memory)
                    row["cutback_with_load"].append(with_load)
    return row


def peer_cut(network: nn.Module) -> None:
    """As its documentation shows, for a network whose classes are to stay."""
    import torch_pruning as tp

    pruner = tp.pruner.BasePruner(
        network,
        torch.randn(1, 3, SIZE, SIZE),
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=SHARE,
        ignored_layers=modules(network, output_layers(network, CLASSES)),
    )
    pruner.step()


def time_peer(network: nn.Module) -> float:
    own = copy.deepcopy(network)
    start = time.perf_counter()
    peer_cut(own)
    return time.perf_counter() - start


def peer_result(network: nn.Module) -> dict[str, Any]:
    """Share of FLOPs left, or why there is none: a network that does not run is no result."""
    import torch_pruning as tp

    own, image = copy.deepcopy(network), torch.randn(1, 3, SIZE, SIZE)
    try:
        before, _ = tp.utils.count_ops_and_params(own, image)
        peer_cut(own)
        with torch.no_grad():
            own(image)
        after, _ = tp.utils.count_ops_and_params(own, image)
    except FAILURES as error:
        return {"peer_failure": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", "peer_left": None}
    return {"peer_failure": None, "peer_left": after / before}


def time_cutback(path: Path) -> tuple[float, float]:
    """Seconds from the graph in memory, and from the file."""
    start = time.perf_counter()
    model = load(path)
    loaded = time.perf_counter()
    cutback_cut(model)
    done = time.perf_counter()
    return done - loaded, done - start


def cutback_cut(model: Model) -> tuple[Channels, Kept, Model]:
    channels = couple(model)
    counts = keep({group.id: group.channels for group in channels.free}, SHARE)
    kept = best_channels(score("l2", model.proto, channels.free), counts)
    return channels, kept, cut(model, channels, kept)


def cutback_result(path: Path) -> dict[str, Any]:
    """Share of FLOPs left and the proof's error, or why there is neither."""
    try:
        model = load(path)
        channels, kept, smaller = cutback_cut(model)
        proof = prove(smaller, masked(model, channels, kept))
    except CutbackError as error:
        return {"cutback_failure": str(error), "cutback_left": None, "proof": None}
    left = paper_cost(smaller).flops / paper_cost(model).flops
    return {"cutback_failure": None, "cutback_left": left, "proof": proof.relative_error}


def describe(row: Mapping[str, Any]) -> str:
    sides = {side: row[side] for side in ("peer", "cutback", "cutback_with_load") if row[side]}
    times = "; ".join(
        f"{side} {min(seconds):.3f} / {statistics.median(seconds):.3f} s" for side, seconds in sides.items()
    )
    left = ", ".join(f"{side} {row[side + '_left']:.3f}" for side in ("peer", "cutback") if row[side + "_left"])
    failed = "".join(f"; {side} fails: {why}" for side in ("peer", "cutback") if (why := row[side + "_failure"]))
    faster = ""
    if len(sides) == 3:
        ratios = [statistics.median(row["peer"]) / statistics.median(row[side]) for side in sides if side != "peer"]
        met = "" if min(ratios) >= TIMES_FASTER else f" (goal {TIMES_FASTER:g}x)"
        faster = f"; {ratios[0]:.1f}x faster, {ratios[1]:.1f}x with load{met}"
    return f"{row['network']} (fastest / median): {times}{faster}; FLOPs left: {left}{failed}"


if __name__ == "__main__":
    main()
