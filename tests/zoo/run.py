"""One architecture in one form: exported, opened, cut to half, proven, run."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.grouping import UNWEIGHTED
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import outputs_agree, prove, random_feeds
from tests.graph.random_cuts import random_half
from tests.zoo.catalogue import ARCHITECTURES
from tests.zoo.networks.seeded import seeded
from tests.zoo.variants import Variant, export

# An output's own channels are locked in every network; they say nothing about the rules.
OUTPUT = "they are the graph's output"


@dataclass(frozen=True)
class Result:
    """What became of one variant.

    `free` groups may be cut; `inexact` ones of them lie under a norm or softmax. `locked` counts the others per reason,
    but for outputs and what has no weight. `flops` is the share of multiply-adds left with half of
    every free group, `flops_exact` with half of the exact ones only. `relative_error` is the proof's, over all that
    was cut; `contrast` the difference that the cut made to the uncut outputs, without which the proof would say
    nothing. `seconds` are for opening, coupling and cutting. `failed_at` is "export", "cut" or empty.
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
    relative_error: float = 0.0
    tolerance: float = 0.0
    contrast: float = 0.0
    seconds: float = 0.0
    failed_at: str = ""
    failure: str = ""


def exported(name: str, variant: Variant) -> onnx.ModelProto:
    row = ARCHITECTURES[name]
    return export(seeded(row.make(), row.shapes), row.shapes, variant)


def cut_in_half(name: str, variant: Variant, proto: onnx.ModelProto) -> Result:
    """Half of every free group goes, drawn at random; a free batch stays free.

    Whatever opening, cutting, proving or running raise passes.
    """
    started = time.perf_counter()
    model = from_proto(proto)
    channels = couple(model)
    kept = random_half(channels)
    small = cut(model, channels, kept)
    seconds = time.perf_counter() - started
    original = masked(model, channels, kept)
    proof = prove(small, original)
    if variant.free:
        _takes_any_batch(small)
    feeds = random_feeds(model, 0, scale=proof.scale)
    contrast = outputs_agree(run_unoptimised(small.proto, feeds), run_unoptimised(model.proto, feeds))
    exact = {group.id: kept[group.id] for group in channels.free if group.exact}
    whole = paper_cost(model).flops
    return Result(
        name, variant.name, len(model.proto.graph.node), len(channels.groups), len(channels.free),
        sum(not group.exact for group in channels.free), _reasons(channels), paper_cost(small).flops / whole,
        paper_cost(cut(model, channels, exact)).flops / whole, proof.relative_error, proof.tolerance, contrast, seconds,
    )  # fmt: skip


def _takes_any_batch(small: Model) -> None:
    """Three samples at once give what the first one gives alone."""
    alone, *others = (random_feeds(small, seed, scale=0.1) for seed in range(3))
    together = {name: np.concatenate([values, *(other[name] for other in others)]) for name, values in alone.items()}
    outputs = run_unoptimised(small.proto, together)
    assert all(len(values) == 3 for values in outputs.values()), "an output of the cut network does not carry the batch"
    error = outputs_agree({name: values[:1] for name, values in outputs.items()}, run_unoptimised(small.proto, alone))
    assert error < 1e-3, f"the cut network treats samples of a batch differently: {error:.1e}"


def _reasons(channels: Channels) -> Mapping[str, int]:
    told = Counter(group.locked_because for group in channels.groups if group.locked_because)
    return {reason: n for reason, n in told.items() if not reason.startswith(OUTPUT) and reason != UNWEIGHTED}
