"""Cut, prove, settle: the cut network, and the evidence that it is what the masked original is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.graph.channels import Kept
from pipeline.graph.cut import cut, masked, whole
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model
from pipeline.graph.proof import finite_feeds, outputs_agree, prove
from pipeline.graph.rewrite import rewritten
from pipeline.graph.settle import drop_constants, fold_constants, left_adds
from pipeline.stages.opening import Opened


@dataclass(frozen=True, eq=False)
class CutNetwork:
    """`exact` is the cut as proven; `model` is what goes on: constants dropped, rewrites made, where asked for."""

    exact: Model
    masked: Model
    model: Model
    proof: Mapping[str, Any]


def cut_and_prove(opened: Opened, kept: Kept, *, constants: str, rewrite: bool = False, seed: int = 0) -> CutNetwork:
    """Raises ProofFailed when the cut differs from the masked original."""
    channels = opened.channels
    full = whole(channels, kept)
    touched = [group for group in channels.groups if len(full[group.id]) < group.channels]
    adds = left_adds(opened.model, channels, kept)
    exact = fold_constants(cut(opened.model, channels, kept), adds)
    original = masked(opened.model, channels, kept)
    proof = prove(exact, original, seed=seed)
    record: dict[str, Any] = {
        **asdict(proof),
        "exact_groups": sum(group.exact for group in touched),
        "inexact_groups": sum(not group.exact for group in touched),
        "constants": constants,
    }
    model = exact
    if constants == "dropped" and adds:
        model = drop_constants(exact, adds)
        feeds = finite_feeds(exact, seed)
        record["dropped_constants_difference"] = outputs_agree(
            run_unoptimised(model.proto, feeds), run_unoptimised(exact.proto, feeds)
        )
    if rewrite:
        feeds = finite_feeds(model, seed)
        before, model = model, rewritten(model)
        record["rewrites_difference"] = outputs_agree(
            run_unoptimised(model.proto, feeds), run_unoptimised(before.proto, feeds)
        )
    return CutNetwork(exact, original, model, record)
