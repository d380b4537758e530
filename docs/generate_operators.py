"""Writes docs/operators.md: what becomes of channels at every operator, seen by running the rules themselves.

    python -m docs.generate_operators

Each rule runs on the operator's own node tests (`onnx.backend.test`), once for every axis that channels could lie on;
the table says what it did. So a rule and its line cannot disagree.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, parser
from onnx.backend.test.case.node import collect_testcases

from pipeline.autograd.supported import Supported, supported
from pipeline.graph.editing import opset
from pipeline.graph.labels import Labelling
from pipeline.graph.rules import RULES, follow
from pipeline.graph.rules.node import Node
from pipeline.graph.shapes import infer_shapes

PAGE = Path(__file__).with_name("operators.md")
OLDEST_OPSET = 7
MOST_REASONS = 3
# Where the node tests leave out what matters here: they have one channel, or none but the channels to work along.
PROBES: Mapping[tuple[str, str], str] = {
    ("", "Det"): "g (float[1,4,3,3] x) => (float[1,4] y) { y = Det(x) }",
    ("", "Expand"): "g (float[1,4,1,1] x) => (float[1,4,3,3] y) <int64[4] s = {1, 4, 3, 3}> { y = Expand(x, s) }",
    ("", "GlobalLpPool"): "g (float[1,4,4,4] x) => (float[1,4,1,1] y) { y = GlobalLpPool(x) }",
    ("", "GridSample"): (
        "g (float[1,4,4,4] x) => (float[1,4,1,1] y) <float[1,1,1,2] s = {0, 0}> { y = GridSample(x, s) }"
    ),
    ("", "MaxRoiPool"): (
        "g (float[1,4,4,4] x) => (float[1,4,2,2] y) <float[1,5] r = {0, 0, 0, 3, 3}> "
        "{ y = MaxRoiPool<pooled_shape = [2, 2]>(x, r) }"
    ),
    ("", "Resize"): ("g (float[1,4,2,2] x) => (float[1,4,4,4] y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }"),
    ("", "ReverseSequence"): (
        "g (float[3,1,4] x) => (float[3,1,4] y) <int64[1] n = {2}> { y = ReverseSequence(x, n) }"
    ),
    ("", "RoiAlign"): (
        "g (float[1,4,4,4] x) => (float[1,4,1,1] y) <float[1,4] r = {0, 0, 3, 3}, int64[1] i = {0}> "
        "{ y = RoiAlign(x, r, i) }"
    ),
    (
        "",
        "TopK",
    ): "g (float[1,4,4,4] x) => (float[1,4,4,2] y, int64[1,4,4,2] i) <int64[1] k = {2}> { y, i = TopK(x, k) }",
    ("", "Trilu"): "g (float[1,4,3,3] x) => (float[1,4,3,3] y) { y = Trilu(x) }",
    ("", "Upsample"): ("g (float[1,4,2,2] x) => (float[1,4,4,4] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }"),
    ("com.microsoft", "FusedConv"): (
        "g (float[1,4,4,4] x) => (float[1,2,4,4] y) <float[2,4,1,1] w = {1, 1, 1, 1, 1, 1, 1, 1}> "
        '{ y = com.microsoft.FusedConv<activation = "Relu">(x, w) }'
    ),
    ("com.microsoft", "QGemm"): (
        "g (uint8[1,4] x) => (uint8[1,2] y) <float s = {1}, uint8 z = {0}, uint8[4,2] w = {1, 1, 1, 1, 1, 1, 1, 1}> "
        "{ y = com.microsoft.QGemm(x, s, z, w, s, z, , s, z) }"
    ),
    ("com.microsoft", "QLinearConcat"): (
        "g (uint8[1,4,4,4] x) => (uint8[1,4,4,4] y) <float s = {1}, uint8 z = {0}> "
        "{ y = com.microsoft.QLinearConcat<axis = 1>(s, z, x, s, z) }"
    ),
}
ANY = "g (float[1,4,4,4] x) => (float[1,4,4,4] y) { y = %s(x) }"
HEAD = """# Operators

What a cut does at every operator, and whether training runs through it. Written by `python -m docs.generate_operators`
(ONNX {version}) from what the rules do with the operators' own node tests; not by hand.

*Versions* are the operator set versions in which the operator changed, from opset {oldest} on.

| *channels* | |
|---|---|
| cuts its weights | the operator reads channels, makes new ones, and its weights are cut on both sides |
| pass | channels go through; constants per channel are cut along |
| read | the operator uses channels up; what comes out has none |
| inexact | where it mixes channels: cut only when asked, and the report says so |
| locked | where the operator meets channels so, they stay: the reason that `cutback inspect` prints |

*trains*: whether the graph as a module passes a gradient.

| operator | versions | channels | trains |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    names = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    rows = [_row(*name) for name in sorted({*names, *RULES})]
    return HEAD.format(version=onnx.__version__, oldest=OLDEST_OPSET) + "".join(f"{row}\n" for row in rows)


def _row(domain: str, operator: str) -> str:
    title = f"{domain}.{operator}" if domain else operator
    return f"| {title} | {_versions(domain, operator)} | {_channels(domain, operator)} | {_trains(domain, operator)} |"


def _trains(domain: str, operator: str) -> str:
    rule = _trained().get((domain, operator))
    if rule is None:
        return "no"
    words = {"exact": "yes", "straight-through": "straight through", "none": "runs, no gradient"}[rule.gradient]
    return f"{words} ({rule.remark})" if rule.remark else words


@cache
def _since() -> Mapping[tuple[str, str], list[int]]:
    found = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name].append(schema.since_version)
    return found


@cache
def _trained() -> Mapping[tuple[str, str], Supported]:
    return {(rule.domain, rule.op): rule for rule in supported()}


def _versions(domain: str, operator: str) -> str:
    """From the one on that opset 7 means."""
    all_of_them = sorted(_since().get((domain, operator), ()))
    oldest = max((version for version in all_of_them if version <= OLDEST_OPSET), default=0)
    return ", ".join(str(version) for version in all_of_them if version >= oldest) or "1"


def _channels(domain: str, operator: str) -> str:
    seen: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for node, shapes in _nodes(domain, operator):
        for run in _runs(node, shapes):
            _observe(node, run, seen, reasons)
    found = [word for word in ("cuts its weights", "pass", "read", "inexact") if seen[word]]
    if reasons:
        found.append("locked: " + "; ".join(reason for reason, _ in reasons.most_common(MOST_REASONS)))
    return ", ".join(found) or "makes none"


def _observe(node: Node, run: Labelling, seen: Counter[str], reasons: Counter[str]) -> None:
    made = follow(node, run)
    for reason in {reason for _, reason in run.locks}:
        reasons[_plain(reason, node)] += 1
    if run.locks:
        return
    if any(use.role == "makes" for use in run.uses):
        seen["cuts its weights"] += 1
    elif run.inexact:
        seen["inexact"] += 1
    else:
        seen["pass" if any(labels is not None for labels in made) else "read"] += 1


def _plain(reason: str, node: Node) -> str:
    """The reason without the names of this node and its tensors."""
    itself = f"{node.domain + '.' if node.domain else ''}{node.op} ({node.name})"
    plain = reason.removeprefix(f"{itself} ").replace(itself, "it").replace(f"{node.op} ({node.name})", "it")
    for name in node.inputs:
        plain = plain.replace(f"'{name}'", "another input")
    return re.sub(r"\d+", "n", plain.replace(node.name, "it"))


def _runs(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Labelling]:
    """The first input that is no constant, with channels on one axis after the other; then every one alike."""
    inputs = [name for name in dict.fromkeys(node.inputs) if name and name not in node.constants]
    for everywhere in (False, True):
        for axis in range(1, len(shapes.get(inputs[0], ())) if inputs else 0):
            run = Labelling()
            for name in inputs if everywhere else inputs[:1]:
                shape = shapes.get(name, ())
                if axis < len(shape) and shape[axis] > 1:
                    run.tensors[name] = run.fresh_axis(shape, axis)
            if run.tensors:
                yield run


def _nodes(domain: str, operator: str) -> Iterator[tuple[Node, Mapping[str, tuple[int, ...]]]]:
    """The operator alone, in as many forms as there are; no tensor is without elements."""
    tested = _cases().get((domain, operator), [])
    probes = [PROBES[domain, operator]] if (domain, operator) in PROBES else []
    if not probes and not any(
        len(_declared(model.graph.input).get(model.graph.node[0].input[0], ())) > 1 for model in tested
    ):
        probes = [ANY % (f"{domain}.{operator}" if domain else operator)] if _reads(domain, operator) else []
    imports = f'"" : {onnx.defs.onnx_opset_version()}, "com.microsoft" : 1'
    probed = [parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> {text}") for text in probes]
    for model in (*tested, *probed):
        probe = any(model is other for other in probed)
        shapes = dict(_declared(model.graph.input))
        shapes = {**shapes, **(_declared(model.graph.output) if probe else infer_shapes(model, shapes))}
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        shapes.update((name, tuple(tensor.dims)) for name, tensor in constants.items())
        (proto,) = model.graph.node
        proto.name = "node"
        if not any(0 in shapes.get(name, ()) for name in (*proto.input[:1], *proto.output)):
            yield Node(proto, opset(model), constants, shapes), shapes


def _declared(values: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int, ...]]:
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}


def _reads(domain: str, operator: str) -> bool:
    return bool(domain) or bool(onnx.defs.get_schema(operator, domain=domain).max_input)


@cache
def _cases() -> Mapping[tuple[str, str], list[onnx.ModelProto]]:
    """The node tests of one operator alone, by operator; what is not an activation is a constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        collected = collect_testcases(None)
    found = defaultdict(list)
    for case in collected:
        if case.model is not None and len(case.model.graph.node) == 1 and case.data_sets:
            (node,) = case.model.graph.node
            plain = node.input and all(value.type.HasField("tensor_type") for value in case.model.graph.input)
            if plain and not node.domain and opset(case.model) >= OLDEST_OPSET:
                found["", node.op_type].append(_with_constants(case.model, case.data_sets[0][0]))
    return found


def _with_constants(source: onnx.ModelProto, values: Sequence[object]) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(source)
    for value, data in zip(list(model.graph.input)[1:], values[1:], strict=False):
        array = numpy_helper.to_array(data) if isinstance(data, TensorProto) else data
        if isinstance(array, (np.ndarray, np.generic)) and value.type.tensor_type.elem_type != TensorProto.STRING:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    return model


if __name__ == "__main__":
    PAGE.write_text(page())
