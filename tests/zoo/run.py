"""One architecture in one form: exported, opened, cut to half, proven, run."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.grouping import UNWEIGHTED
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import random_feeds
from tests.graph.random_cuts import proven, random_half
from tests.zoo.catalogue import ARCHITECTURES
from tests.zoo.networks.seeded import seeded
from tests.zoo.variants import Variant, export

# Groups of an output's own channels are locked in every network; they say nothing about the rules.
OUTPUT = "they are the graph's output"


@dataclass(frozen=True)
class Result:
    """What became of one variant. `stage` is where it failed ("export", "open", "cut", "proof", "run") or empty.

    `flops` is the share of multiply-adds left with half of every free group; `flops_exact` with half of the exact ones
    only, which are what `relative_error` compares. `locked` counts groups per reason. `seconds` are for opening,
    coupling and cutting.
    """

    architecture: str
    variant: str
    nodes: int = 0
    groups: int = 0
    free: int = 0
    inexact: int = 0
    locked: Mapping[str, int] = field(default_factory=dict)
    flops: float = 1.0
    flops_exact: float = 1.0
    relative_error: float | None = None
    tolerance: float | None = None
    seconds: float = 0.0
    stage: str = ""
    failure: str = ""


def exported(name: str, variant: Variant) -> onnx.ModelProto:
    row = ARCHITECTURES[name]
    return export(seeded(row.make(), row.shapes), row.shapes, variant)


def cut_and_compare(name: str, variant: Variant, proto: onnx.ModelProto) -> Result:
    """The result; whatever opening, cutting, the proof or the run raise passes through."""
    started = time.perf_counter()
    model = from_proto(proto)
    channels = couple(model)
    kept = random_half(channels)
    small = cut(model, channels, kept)
    seconds = time.perf_counter() - started
    exact = {group.id: kept[group.id] for group in channels.free if group.exact}
    proof = proven(model, channels, exact)
    _runs(small)
    whole = paper_cost(model).flops
    return Result(
        name, variant.name, len(model.proto.graph.node), len(channels.groups), len(channels.free),
        sum(not group.exact for group in channels.free), reasons(channels), paper_cost(small).flops / whole,
        paper_cost(cut(model, channels, exact)).flops / whole, proof.relative_error, proof.tolerance, seconds,
    )  # fmt: skip


def reasons(channels: Channels) -> Mapping[str, int]:
    """How many groups are locked for each reason, but for what is an output's own or belongs to no weight."""
    told = Counter(group.locked_because for group in channels.groups if group.locked_because)
    return {reason: count for reason, count in told.items() if not reason.startswith(OUTPUT) and reason != UNWEIGHTED}


def _runs(small: Model) -> None:
    outputs = run_unoptimised(small.proto, random_feeds(small, 0, scale=0.1))
    assert all(np.isfinite(values).all() for values in outputs.values()), "the cut network's outputs are not finite"
