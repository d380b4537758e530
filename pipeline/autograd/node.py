"""What an op rule is given and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from torch import Tensor

from pipeline.autograd.sizes import Sizes
from targets.errors import BadInput

Value = Tensor | Sizes | list[Tensor]  # a list is ONNX's sequence of tensors
Operation = Callable[..., Any]  # positional inputs (None where left out) -> one Value or a tuple of them

# "exact": that of the function wherever it has one; "straight-through": rounding counts as the identity;
# "none": the outputs, or the inputs they depend on, are not floats.
Gradient = Literal["exact", "straight-through", "none"]


class Mode(NamedTuple):
    """How the module runs now. `momentum`: the batch's share in running statistics; None: each norm's own."""

    training: bool
    momentum: float | None


class Attributes:
    """A node's attributes; remembers which ones a rule has looked at, so that none is passed over in silence."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._unread = set(values)

    def get(self, name: str, default: Any = None) -> Any:
        """Value of `name` as plain Python (lists for repeated ones, str for strings), or `default`."""
        self._unread.discard(name)
        return self._values.get(name, default)

    @property
    def unread(self) -> list[str]:
        return sorted(self._unread)


@dataclass(frozen=True, eq=False)
class Step:
    """One node, ready to run. `sizes`: inputs handed over as Sizes. `release`: values nobody reads afterwards."""

    node: "Node"
    apply: Operation
    rule: "Rule"
    release: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Body:
    """A graph inside a node. Its names are unique in the whole model, so it runs on the model's own values."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    captured: frozenset[str]  # values from outside that it reads


@dataclass(frozen=True)
class Node:
    """One ONNX node, as the rules see it.

    `opset` is that of the node's domain. `initialised`: indices of the inputs that are initialisers. `carried`: its
    output is dequantised and nothing else, so it may stay a float. `bodies`: inner graphs, by attribute.
    """

    name: str
    op: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = field(repr=False)
    initialised: frozenset[int] = frozenset()
    carried: bool = False
    bodies: Mapping[str, Body] = field(default_factory=dict, repr=False)

    def refusal(self, reason: str) -> BadInput:
        """The error for what has no rule: names node and op, and says what still works."""
        return BadInput(
            f"No gradient rule for node {self.name} ({self.op}, opset {self.opset}): {reason}. "
            f"Criteria without gradients still work: --criterion l2, l1, bn-gamma or random, without recovery."
        )

    def has(self, index: int) -> bool:
        """Whether input `index` is there (optional inputs may be left out or empty)."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def wants(self, index: int) -> bool:
        """Whether output `index` is there."""
        return index < len(self.outputs) and self.outputs[index] != ""


@dataclass(frozen=True)
class Rule:
    """How one op type becomes torch calls.

    `build(node)` checks the attributes (raising `node.refusal`) and returns the operation. `sizes` are the inputs that
    the operation takes as `Sizes`: shapes, axes, bounds. With `trains`, the operation's first argument is the
    module's `Mode`; with `runs`, it is a function that runs a `Body` on values. `since` is the first opset (from 7 on)
    that the rule reads; `remark` says in a few words what a reader of the operator table must know.
    """

    build: Callable[[Node], Operation]
    sizes: frozenset[int] = frozenset()
    trains: bool = False
    gradient: Gradient = "exact"
    runs: bool = False
    since: int = 7
    remark: str = ""


def read_node(
    proto: onnx.NodeProto,
    opset: int,
    initialisers: Mapping[str, Any],
    bodies: Mapping[str, Body] | None = None,
    *,
    carried: bool = False,
) -> Node:
    """The node as the rules see it."""
    values = {
        attribute.name: _plain(onnx.helper.get_attribute_value(attribute))
        for attribute in proto.attribute
        if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.TYPE_PROTO)
    }
    initialised = frozenset(index for index, name in enumerate(proto.input) if name in initialisers)
    return Node(
        proto.name or f"(unnamed, of output {next(filter(None, proto.output), 'none')})",
        proto.op_type,
        opset,
        tuple(proto.input),
        tuple(proto.output),
        Attributes(values),
        initialised,
        carried,
        bodies or {},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes):
        return [entry.decode() for entry in value]
    if isinstance(value, onnx.TensorProto):
        return np.asarray(onnx.numpy_helper.to_array(value))
    return value
