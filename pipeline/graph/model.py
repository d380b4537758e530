"""An ONNX model, checked, put into one plain form, with every tensor's shape known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from pipeline.graph.editing import copied
from pipeline.graph.normalise import normalise
from pipeline.graph.old_opsets import at_least_lowest
from pipeline.graph.opaque import declare_opaque
from pipeline.graph.reading import one_line, read
from pipeline.graph.shapes import Contradiction
from pipeline.graph.shapes import Shapes as Shapes
from pipeline.graph.shapes import infer_shapes as infer_shapes
from pipeline.graph.writing import write_proto as write_proto
from targets.errors import BadInput

# Nobody runs larger ones on a device; files that claim them are broken.
MAX_TENSOR_ELEMENTS = 2**33
MAX_LINE = 1000  # characters of an error: names in a file may be of any length


@dataclass(frozen=True, eq=False)
class Model:
    """A graph in the form `normalise` promises. Nobody changes `proto` in place: every stage makes a new one.

    `bound` holds the shape of every graph input with its free dimensions bound, `shapes` the same for every tensor
    whose shape is known under that binding.
    """

    proto: onnx.ModelProto
    bound: Shapes
    shapes: Shapes


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output: `shape` has a name in place of every free dimension."""

    name: str
    shape: tuple[int | str, ...]
    elem_type: int

    @property
    def dtype(self) -> str:
        return str(onnx.helper.tensor_dtype_to_np_dtype(self.elem_type))


def input_specs(proto: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The inputs a caller feeds: graph inputs that are not initialisers."""
    constant = {tensor.name for tensor in proto.graph.initializer}
    return tuple(_spec(value) for value in proto.graph.input if value.name not in constant)


def load(source: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """Read an ONNX file. `shapes` binds the inputs' free dimensions; an unset batch (first axis) becomes 1.

    Raises BadInput, in one line, for anything that is not a sound model.
    """
    try:
        return _from_own(read(Path(source)), shapes)
    except BadInput as error:
        raise BadInput(one_line(error, MAX_LINE)) from error


def from_proto(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """The same from a model in memory, which stays as it is."""
    return _from_own(copied(proto), shapes)


def _from_own(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None) -> Model:
    """The same from a model that nobody else holds, so that its weights need not be copied."""
    proto = at_least_lowest(proto)
    for value in proto.graph.input:
        if value.type.WhichOneof("value") not in (None, "tensor_type"):
            raise BadInput(f"Input {value.name!r} is no plain tensor (sequence, map or optional): not supported.")
    if not proto.graph.output:
        raise BadInput("The model has no outputs: there is nothing it computes.")
    for value in proto.graph.output:
        if not value.type.tensor_type.elem_type:
            raise BadInput(f"Output {value.name!r} is no tensor of a known type: not supported.")
    bound = bind(input_specs(proto), shapes or {})
    said = onnx.GraphProto(input=proto.graph.input, value_info=proto.graph.value_info)
    plain = normalise(proto, bound)
    declare_opaque(plain, said, bound)
    try:
        shapes_found = infer_shapes(plain, bound, strict=True)
    except Contradiction as error:
        inputs = ", ".join(f"{name}={','.join(map(str, shape))}" for name, shape in bound.items())
        raise BadInput(f"The model's shapes contradict each other at {inputs}: {error}") from error
    for name, shape in shapes_found.items():
        if math.prod(shape) > MAX_TENSOR_ELEMENTS or min(shape, default=0) < 0:
            raise BadInput(f"Tensor {name!r} would have the shape {','.join(map(str, shape))}: the model is broken.")
    return Model(plain, bound, shapes_found)


def save(model: Model, path: Path) -> None:
    """As `write_proto` does: a reader never sees half a model."""
    write_proto(model.proto, path)


def bind(specs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """A whole shape for every input; a free first axis is the batch and becomes 1 when nobody says otherwise."""
    unknown = sorted(set(shapes) - {spec.name for spec in specs})
    if unknown:
        names = ", ".join(spec.name for spec in specs)
        raise BadInput(f"No input is called {unknown[0]!r}. The model's inputs are: {names}.")
    return {spec.name: _bind_one(spec, shapes.get(spec.name)) for spec in specs}


def free_batch(model: Model) -> onnx.ModelProto:
    """The same graph, taking any batch size: training and scoring run on batches, deployment often on one."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]
    return proto


def _bind_one(spec: TensorSpec, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None:
        sizes = tuple(1 if axis == 0 and isinstance(size, str) else size for axis, size in enumerate(spec.shape))
        free = [f"{size or '?'} (axis {axis})" for axis, size in enumerate(sizes) if isinstance(size, str)]
        if free:
            example = ",".join(str(224 if isinstance(size, str) else size) for size in sizes)
            raise BadInput(f"Input {spec.name!r} leaves {', '.join(free)} open. Bind it: --shape {spec.name}={example}")
        return tuple(size for size in sizes if isinstance(size, int))
    fits = len(given) == len(spec.shape) and all(
        size > 0 and (isinstance(declared, str) or declared == size)
        for size, declared in zip(given, spec.shape, strict=True)
    )
    if not fits:
        raise BadInput(
            f"Shape {','.join(map(str, given))} does not fit input {spec.name!r}, which is declared as "
            f"{','.join(str(size or '?') for size in spec.shape)}."
        )
    return tuple(given)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param for dim in dims)
    return TensorSpec(value.name, shape, value.type.tensor_type.elem_type or TensorProto.FLOAT)
