"""Join ONNX Runtime's profile to the tensors of the graph it was given (host side).

The profile names nodes of the optimised graph. There, blocked tensors are called `reorder_token_7`, and a blocked
convolution is named after the tensor it ended in before an Add and an activation were fused into it. What such a
token stands for is told, in this order, by: the ReorderOutput that leads back to a plain tensor; the kernel that makes
it; the kernels that read it. Where none tells, the runtime's name stays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from targets.kernels import Kernel, Shape
from targets.runtimes.foreign_graph import read_graph
from targets.runtimes.onnx_graph import Graph, attributes_of, infer_shapes

BLOCKED_DOMAIN = "com.microsoft.nchwc"
BLOCKED_SUFFIX = "_nchwc"
CAST_PREFIX = "InsertedPrecisionFreeCast_"
LAYOUT_OPS = ("ReorderInput", "ReorderOutput")
FUSED_SUM = 3  # the input of a blocked convolution that is added to its result
FOLDED = ("BatchNormalization", "Identity", "Dropout")  # gone at run time: into weights, or nothing at all


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` kernels, the optimised `graph`, the `source` it was made from -> kernels in the same order."""
    ran = Graph(read_graph(graph))
    given = onnx.load(source, load_external_data=False)
    names = Names(Graph(given), ran)
    seen = seen_shapes(raw, ran)
    true_shapes = infer_shapes(given, shapes)
    unnamed = {node.op_type for node in ran.nodes if not node.name}
    kernels = []
    for entry in raw:
        node = ran.by_name.get(entry["name"])
        samples = tuple(int(sample) for sample in entry["samples_ns"])
        if node is not None:
            kernels.append(kernel_of(node, samples, names, seen, true_shapes))
        elif entry["op"] in unnamed:  # without a name it cannot be joined, but it did take its time
            kernels.append(Kernel(entry["name"], entry["op"], (), (), (), (), samples, (entry["op"],)))
        # else it ran inside a body: its time is in the kernel of the control flow node
    return tuple(kernels)


def kernel_of(
    node: onnx.NodeProto,
    samples: tuple[int, ...],
    names: "Names",
    seen: Mapping[str, Shape],
    true_shapes: Mapping[str, Shape],
) -> Kernel:
    def shape_of(token: str) -> Shape:
        return true_shapes.get(names.of(token)) or seen.get(token, ())

    reads = [token for token in node.input if token and token not in names.ran.constants]
    makes = [token for token in node.output if token]
    inputs, outputs = tuple(map(names.of, reads)), tuple(map(names.of, makes))
    nodes = () if node.op_type in LAYOUT_OPS else nodes_of(node, inputs, outputs, names)
    fused = tuple(item.op_type for index, item in enumerate(nodes) if index == 0 or item.op_type not in FOLDED)
    return Kernel(
        name=node.name,
        op=node.op_type,
        inputs=inputs,
        outputs=outputs,
        input_shapes=tuple(map(shape_of, reads)),
        output_shapes=tuple(map(shape_of, makes)),
        samples_ns=samples,
        fused=fused or (node.op_type,),
        nodes=tuple(item.name for item in nodes),
        attributes=attributes_of(node),
        weight_shapes=tuple(names.ran.constants[name] for name in node.input if name in names.ran.constants),
        layout="blocked" if node.domain == BLOCKED_DOMAIN or names.is_blocked(makes) else "plain",
    )


def nodes_of(
    node: onnx.NodeProto, inputs: tuple[str, ...], outputs: tuple[str, ...], names: "Names"
) -> tuple[onnx.NodeProto, ...]:
    """The original nodes that a kernel computes; empty when that cannot be told."""
    same = names.original.by_name.get(node.name)
    if same is not None and same.op_type == node.op_type and tuple(same.output) == outputs:
        return (same,)
    return names.original.between(set(inputs), set(outputs), names.materialised()) or ()


def seen_shapes(raw: Sequence[Mapping[str, Any]], ran: Graph) -> dict[str, Shape]:
    """Shapes as they were at run time, padded where blocked."""
    seen = {}
    for entry in raw:
        makes = [name for name in ran.by_name[entry["name"]].output if name] if entry["name"] in ran.by_name else []
        if len(makes) == len(entry["output_shapes"]):
            for name, shape in zip(makes, entry["output_shapes"], strict=True):
                seen[name] = tuple(int(dim) for dim in shape)
    return seen


class Names:
    """Tensor names of the optimised graph `ran` -> names of the `original` one."""

    def __init__(self, original: Graph, ran: Graph) -> None:
        self.original = original
        self.ran = ran
        self._known: dict[str, str] = {}
        for node in ran.nodes:  # in order, so that what a name hangs on is known and nothing recurses deep
            for output in node.output:
                self.of(output)

    def of(self, token: str) -> str:
        """The original's name for it, or the token itself where nothing tells."""
        if token not in self._known:
            self._known[token] = self._resolve(token) or token
        return self._known[token]

    def materialised(self) -> set[str]:
        """The original tensors that some kernel writes to memory."""
        return set(self._known.values())

    def is_blocked(self, tokens: Sequence[str]) -> bool:
        return any(token not in self.original.tensors and token.startswith("reorder_token") for token in tokens)

    def _resolve(self, token: str) -> str | None:
        plain = token.removeprefix(CAST_PREFIX)
        if plain in self.original.tensors:
            return plain
        for reader in self.ran.readers.get(token, ()):
            if reader.op_type == "ReorderOutput" and reader.output[0] in self.original.tensors:
                return str(reader.output[0])
        maker = self.ran.producer.get(token)
        return (maker and self._from_maker(token, maker)) or self._from_readers(token)

    def _from_maker(self, token: str, maker: onnx.NodeProto) -> str | None:
        if maker.op_type in LAYOUT_OPS:
            return self.of(maker.input[0])
        same = self.original.by_name.get(maker.name)
        if same is not None and len(same.output) == len(maker.output):
            return str(same.output[list(maker.output).index(token)])
        if not maker.name.endswith(BLOCKED_SUFFIX):
            return None
        base = maker.name.removesuffix(BLOCKED_SUFFIX)
        activation = attributes_of(maker).get("activation")
        if base not in self.original.producer:
            return None
        name: str | None = base
        activated = self.original.producer[base].op_type == activation
        if len(maker.input) > FUSED_SUM and maker.input[FUSED_SUM]:
            name, activated = self._follow(base, "Add", self.of(maker.input[FUSED_SUM])), False
        if name and activation and not activated:
            name = self._follow(name, activation)
        return name

    def _follow(self, name: str, op: str, beside: str | None = None) -> str | None:
        """The output of the `op` that reads `name` (and `beside`)."""
        for reader in self.original.readers.get(name, ()):
            if reader.op_type == op and (beside is None or beside in reader.input):
                return str(reader.output[0])
        return None

    def _from_readers(self, token: str) -> str | None:
        for reader in self.ran.readers.get(token, ()):
            position = list(reader.input).index(token)
            same = self.original.by_name.get(reader.name)
            if same is not None and same.op_type == reader.op_type and len(same.input) == len(reader.input):
                return str(same.input[position])
            ended = self.original.producer.get(reader.name.removesuffix(BLOCKED_SUFFIX))
            while ended is not None and ended.op_type != reader.op_type:  # back over what was fused after it
                ended = self.original.producer.get(ended.input[0])
            if ended is not None and position == 0:
                return str(ended.input[0])
        return None
