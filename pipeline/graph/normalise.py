"""One plain form for every graph, so that the stages after it meet no special case.

What it promises: functions inlined; no Constant nodes, constants folded; initialisers are neither graph inputs nor
shared between two readers; every node has a unique name; sizes that do not depend on a free dimension are constants;
Reshape carries the batch along (0) instead of a baked 1; no dead nodes. Weights keep their names.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from targets.errors import BadInput

Bound = Mapping[str, tuple[int, ...]]

# Quantised weights stay visible as such: folding them away would lose the scales.
NEVER_FOLDED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal", "RandomUniform"}
# Inputs that speak of sizes, by operator: resolved to constants where they turn out constant.
SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Pad": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,),
    "Squeeze": (1,), "Unsqueeze": (1,), "Resize": (2, 3), "Upsample": (1,), "ConstantOfShape": (0,), "Gather": (1,),
    "TopK": (1,), "Range": (0, 1, 2), "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,),
}  # fmt: skip
# A constant larger than this would bloat the file more than folding it gains.
FOLD_LIMIT_ELEMENTS = 4_000_000


def normalise(proto: onnx.ModelProto, bound: Bound) -> onnx.ModelProto:
    """The plain form of `proto`; `bound` gives the inputs' shapes, where the source leaves them free."""
    plain = onnx.inliner.inline_local_functions(proto) if proto.functions else _copy(proto)
    for step in PASSES:
        step(plain, bound)
    return plain


IR_WITHOUT_INITIALISER_INPUTS = 4  # older files must list their initialisers as inputs


def initialisers_are_not_inputs(proto: onnx.ModelProto, bound: Bound) -> None:
    constant = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in constant]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, IR_WITHOUT_INITIALISER_INPUTS)


def constants_are_initialisers(proto: onnx.ModelProto, bound: Bound) -> None:
    kept = []
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            value = ReferenceEvaluator(_single(proto, node, {})).run(None, {})[0]
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), node.output[0]))
        else:
            kept.append(node)
    _set_nodes(proto, kept)


def nodes_have_names(proto: onnx.ModelProto, bound: Bound) -> None:
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        name = node.name or f"{node.op_type}_{node.output[0] if node.output else ''}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}#{seen[name]}"


def constants_are_folded(proto: onnx.ModelProto, bound: Bound) -> None:
    """Nodes that read nothing but constants become constants; the older exporter's shared zeros hide behind some."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    outputs = {value.name for value in proto.graph.output}
    kept, folded = [], []
    for node in proto.graph.node:
        inputs = {name: numpy_helper.to_array(values[name]) for name in node.input if name in values}
        if _foldable(proto, node, values) and not outputs.intersection(node.output):
            results = _evaluate(proto, node, inputs)
            if results is not None and sum(result.size for result in results) <= FOLD_LIMIT_ELEMENTS:
                tensors = [numpy_helper.from_array(r, n) for r, n in zip(results, node.output, strict=True) if n]
                values.update((tensor.name, tensor) for tensor in tensors)
                folded.extend(tensors)
                continue
        kept.append(node)
    _set_nodes(proto, kept)
    proto.graph.initializer.extend(folded)


def sizes_are_constants(proto: onnx.ModelProto, bound: Bound) -> None:
    """Follow shape arithmetic at two bindings of the free dimensions; what comes out equal twice is a constant.

    A Reshape target that differs in one place only becomes a constant with 0 (copied) or -1 (inferred) there.
    """
    from pipeline.graph.model import infer_shapes

    other = _other_binding(proto, bound)
    runs = [(shapes, _size_values(proto, shapes)) for shapes in (infer_shapes(proto, b) for b in (bound, other))]
    constant = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        for position in SIZE_INPUTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if not name or name in constant:
                continue
            first, second = (values.get(name) for _, values in runs)
            settled = None
            if first is not None and second is not None and np.array_equal(first, second):
                settled = first
            elif node.op_type == "Reshape":
                settled = _reshape_target(node, [shapes for shapes, _ in runs])
            if settled is not None:
                node.input[position] = _add_initialiser(proto, f"{node.name}:{position}", settled)


def reshapes_carry_the_batch(proto: onnx.ModelProto, bound: Bound) -> None:
    """A leading 1 in a Reshape target whose input also leads with 1 means "as many": written as 0, any batch fits."""
    from pipeline.graph.model import infer_shapes

    shapes = infer_shapes(proto, bound)
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        target = values.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or any(a.name == "allowzero" and a.i for a in node.attribute):
            continue
        sizes = numpy_helper.to_array(target).copy()
        if len(sizes) > 1 and sizes[0] == 1 and shapes.get(node.input[0], (0,))[:1] == (1,):
            sizes[0] = 0
            node.input[1] = _add_initialiser(proto, f"{node.name}:batch", sizes)


def identities_are_gone(proto: onnx.ModelProto, bound: Bound) -> None:
    """Identity passes its input on; names of graph outputs are kept."""
    outputs = {value.name for value in proto.graph.output}
    alias: dict[str, str] = {}
    kept = []
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = alias.get(name, name)
        passes = node.op_type == "Identity" and node.domain in ("", "ai.onnx")
        if passes and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _set_nodes(proto, kept)


def dead_nodes_are_gone(proto: onnx.ModelProto, bound: Bound) -> None:
    needed = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            for attribute in node.attribute:
                needed.update(captured_names(attribute))
            kept.append(node)
    _set_nodes(proto, kept[::-1])
    initialisers = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(initialisers)
    del proto.graph.value_info[:]


def initialisers_are_unshared(proto: onnx.ModelProto, bound: Bound) -> None:
    """Two readers of one tensor would have to be cut alike; exporters share equal tensors that have nothing in common."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            if name not in values:
                continue
            seen[name] += 1
            if seen[name] > 1:
                own = onnx.TensorProto()
                own.CopyFrom(values[name])
                own.name = _fresh_name(values, f"{name}#{seen[name]}")
                values[own.name] = own
                proto.graph.initializer.append(own)
                node.input[position] = own.name


# Names first, since later passes derive names from them; folding lays bare what is shared, so unshare last.
PASSES: tuple[Callable[[onnx.ModelProto, Bound], None], ...] = (
    initialisers_are_not_inputs,
    nodes_have_names,
    constants_are_initialisers,
    identities_are_gone,
    constants_are_folded,
    sizes_are_constants,
    constants_are_folded,
    reshapes_carry_the_batch,
    dead_nodes_are_gone,
    initialisers_are_unshared,
)


def _foldable(proto: onnx.ModelProto, node: onnx.NodeProto, values: Mapping[str, onnx.TensorProto]) -> bool:
    return (
        bool(node.input)
        and node.domain in ("", "ai.onnx")
        and node.op_type not in NEVER_FOLDED
        and all(name in values for name in node.input if name)
        and not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    )


def _evaluate(
    proto: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.generic]] | None:
    """The node's outputs, or None where the reference evaluator has no implementation: the node then stays."""
    try:
        results = ReferenceEvaluator(_single(proto, node, inputs)).run(None, dict(inputs))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None
    return [np.asarray(result) for result in results]


def _single(
    proto: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, NDArray[np.generic]]
) -> onnx.ModelProto:
    specs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "single", specs, outputs)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def _size_values(proto: onnx.ModelProto, shapes: Bound) -> dict[str, NDArray[np.generic]]:
    """Every small tensor that follows from constants and shapes alone."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    known: dict[str, NDArray[np.generic]] = {}
    for node in proto.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            sizes = np.asarray(shapes[node.input[0]], np.int64)
            span = {attribute.name: attribute.i for attribute in node.attribute}
            known[node.output[0]] = sizes[span.get("start", 0) : span.get("end", len(sizes))]
        elif node.op_type == "Size" and node.input[0] in shapes:
            known[node.output[0]] = np.asarray(np.prod(shapes[node.input[0]]), np.int64)
        elif node.input and any(name in known for name in node.input):
            if all(name in known or name in values for name in node.input if name):
                inputs = {
                    name: known[name] if name in known else numpy_helper.to_array(values[name])
                    for name in node.input
                    if name
                }
                results = _evaluate(proto, node, inputs) if node.op_type not in NEVER_FOLDED else None
                if results is not None:
                    known.update((n, r) for n, r in zip(node.output, results, strict=True) if r.size <= 4096)
    return known


def _reshape_target(node: onnx.NodeProto, runs: list[dict[str, tuple[int, ...]]]) -> NDArray[np.int64] | None:
    if any(node.output[0] not in shapes or node.input[0] not in shapes for shapes in runs):
        return None
    (first, second), (source, other) = ([shapes[name] for shapes in runs] for name in (node.output[0], node.input[0]))
    if any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
        return None
    target = []
    for axis, (a, b) in enumerate(zip(first, second, strict=True)):
        copied = axis < min(len(source), len(other)) and (source[axis], other[axis]) == (a, b)
        target.append(a if a == b else 0 if copied else -1)
    return np.asarray(target, np.int64) if target.count(-1) <= 1 else None


def _other_binding(proto: onnx.ModelProto, bound: Bound) -> dict[str, tuple[int, ...]]:
    """Every free dimension at another size than `bound` has; equal names stay equal."""
    other = {}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = bound.get(value.name, ())
        other[value.name] = tuple(
            size if dim.dim_value > 0 else size + 1 if axis == 0 else size * 2
            for axis, (dim, size) in enumerate(zip(dims, sizes, strict=True))
        )
    return other


def _add_initialiser(proto: onnx.ModelProto, name: str, value: NDArray[np.generic]) -> str:
    taken = {tensor.name for tensor in proto.graph.initializer}
    fresh = _fresh_name(taken, name)
    proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), fresh))
    return fresh


def _fresh_name(taken: Mapping[str, object] | set[str], name: str) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}~{count}"
    return candidate


def captured_names(attribute: onnx.AttributeProto) -> set[str]:
    """Names that a body graph (If, Loop, Scan) takes from outside."""
    names: set[str] = set()
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        for node in graph.node:
            names.update(node.input)
            for inner in node.attribute:
                names.update(captured_names(inner))
        names.update(value.name for value in graph.output)
    return names


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _set_nodes(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)


def opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operator set the model speaks."""
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise BadInput("The model imports no standard ONNX operator set. Export it again.")
