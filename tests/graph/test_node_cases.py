"""Every standard operator, as its own node tests use it, between layers: followed or locked, never in the way.

Run over all of the node tests when slow tests are; else over one for every operator.
"""

import fnmatch
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, masked, whole
from pipeline.graph.execute import Runner
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import outputs_agree, random_feeds
from targets.errors import BadInput
from tests.graph.node_cases import cases, embedded
from tests.graph.random_cuts import proven, random_half, random_vanishing

OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""})
# Node tests of other domains name no standard operator set, and nothing standard stands around them.
OTHER_DOMAINS = ("test_ai_onnx_ml_*", "test_adagrad*", "test_adam*", "test_momentum*", "test_nesterov_*")
# Their Range reads lists of one number; before opset 11 no index of OneHot may be negative: shape inference says no.
REFUSED = ("test_affine_grid_*_expanded", "OneHot 9 *")
# Not compared: where a removed channel is infinite or no number, a weight of zero does not hide it; draws differ; boxes
# drawn at random are more than the runtime can count.
MASKED_SCORES = "test_attention_*_qk_matmul_bias_*_causal_expanded"
NOT_COMPARED = ("test_acosh*", MASKED_SCORES, "test_training_dropout*", "test_bernoulli*", "RoiAlign *")
TOLERANCE = 1e-4


@cache
def by_operator() -> dict[str, list[Any]]:
    found = defaultdict(list)
    for name, case in sorted(cases().items()):
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in OTHER_DOMAINS):
            for operator in {node.op_type for node in case.model.graph.node}:
                found[operator].append(case)
    for operator, listed in found.items():
        listed.sort(key=lambda case: (len(case.model.graph.node), operator not in case.name, case.name))
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_is_followed_or_locked_and_the_rest_is_cut(operator) -> None:
    for case in by_operator()[operator][:1]:
        check(case)


def test_space_to_depth_may_keep_the_block_innermost() -> None:
    """From opset 28 on, as DepthToSpace may."""
    for name in ("test_spacetodepth_crd_mode_example", "test_spacetodepth_dcr_mode_example"):
        check(cases()[name])


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_is_followed_or_locked_in_each_of_its_forms(operator) -> None:
    for case in by_operator()[operator]:
        if case.model.graph.node[0].op_type == operator:
            check(case)


def check(case: Any) -> None:
    for computed in (1, None):
        proto = embedded(case, computed=computed)
        ends = (*proto.graph.input, *proto.graph.output)
        if any(end.type.WhichOneof("value") not in (None, "tensor_type") for end in ends):
            with pytest.raises(BadInput, match="not supported"):
                from_proto(proto)
            continue
        if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in REFUSED):
            with pytest.raises(BadInput, match="contradict each other"):
                from_proto(proto)
            continue
        model = from_proto(proto)
        channels = couple(model)
        layers = [node for node in model.proto.graph.node if node.output[0].startswith("inner_")]
        assert len(channels.free) >= len(layers), case.name
        for kept in (random_half(channels), random_vanishing(channels, 1)) if channels.free else ():
            compare(case.name, model, channels, kept)


def compare(name: str, model: Model, channels: Channels, kept: Kept) -> None:
    """By the proof; where ONNX Runtime does not know the operator, by the reference implementation if that does."""
    feeds = random_feeds(model, 0)
    small, full = cut(model, channels, kept), masked(model, channels, kept)
    try:
        Runner(model.proto)(feeds)
    except BadInput:
        values = [_by_reference(proto, feeds) for proto in (model.proto, small.proto, full.proto)]
        if values[0] is not None and _exact(channels, kept):
            ours, theirs = values[1:]
            assert ours is not None, name
            assert theirs is not None, name
            assert outputs_agree(ours, theirs) < TOLERANCE, name
    else:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_COMPARED):
            proven(model, channels, kept)


def _exact(channels: Channels, kept: Kept) -> bool:
    full = whole(channels, kept)
    return all(group.exact for group in channels.groups if len(full[group.id]) < group.channels)


def _by_reference(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    names = [value.name for value in proto.graph.output]
    values: Any
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(proto).run(None, feeds)
    except Exception:  # noqa: BLE001  it raises whatever numpy does
        return None
    return dict(zip(names, values, strict=True)) if all(isinstance(v, np.ndarray) for v in values) else None
