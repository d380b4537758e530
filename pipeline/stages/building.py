"""Build engines on the target and see that they do what their graph says."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, save
from pipeline.graph.proof import finite_feeds, outputs_agree
from pipeline.graph.rewrite import rewritten
from targets.comparison import BROKEN, BROKEN_QUANTISED
from targets.connection import Connection, Engine
from targets.errors import TargetError
from targets.runtimes import facts_of

NOTABLE = 1e-3
NOTABLE_QUANTISED = 0.05


@dataclass(frozen=True, eq=False)
class Built:
    """`difference`: the engine's outputs beside its own graph run unoptimised, relative, on the golden input; None
    where the target builds engines and runs none."""

    engine: Engine
    difference: float | None
    golden_inputs: dict[str, NDArray[np.generic]]
    golden_outputs: dict[str, NDArray[np.generic]]
    doubts: tuple[str, ...]


def engine_name(built: Built, after: str = "") -> str:
    """What the engine is called in a bundle: `engine`, `after`, and everything that its runtime puts behind a name."""
    return f"engine{after}{facts_of(built.engine.runtime).suffix}"


def needs_rewrites(model: Model, connection: Connection) -> bool:
    """Whether the runtime refuses the network as it was given, and takes it with the exact rewrites. Its `TargetError`
    where these do not help."""
    other = rewritten(model)
    if other is model:
        return False
    with tempfile.TemporaryDirectory(prefix="cutback-taken-") as folder:
        given, changed = Path(folder, "given.onnx"), Path(folder, "changed.onnx")
        save(model, given)
        try:
            connection.build(given, Path(folder, "given-engine"), shapes=model.bound)
        except TargetError as refusal:
            save(other, changed)
            try:
                connection.build(changed, Path(folder, "changed-engine"), shapes=model.bound)
            except TargetError:
                raise refusal from None
            return True
    return False


def build_and_check(model: Model, source: Path, output: Path, connection: Connection, seed: int = 0) -> Built:
    """Save the graph to `source`, build it on the device into `output`, and run the engine there on a golden input."""
    save(model, source)
    engine = connection.build(source, output, shapes=model.bound)
    feeds = finite_feeds(model, seed)
    expected = run_unoptimised(model.proto, feeds)
    if not connection.facts.runs:
        doubt = f"{engine.runtime} builds engines here and runs none: outputs and latency of this one were not seen"
        return Built(engine, None, feeds, expected, (doubt,))
    difference = outputs_agree(connection.run(engine, feeds), expected)
    quantised = any(node.op_type == "QuantizeLinear" for node in model.proto.graph.node)
    if not difference < (BROKEN_QUANTISED if quantised else BROKEN):
        raise TargetError(
            f"The engine built by {engine.runtime} gives other outputs than its graph (by {difference:.1%}). "
            "It cannot be trusted; try another runtime or version."
        )
    doubts = (
        (f"the engine's outputs differ from its graph's by {difference:.2%} (the runtime's optimiser)",)
        if difference > (NOTABLE_QUANTISED if quantised else NOTABLE)
        else ()
    )
    return Built(engine, difference, feeds, expected, doubts)
