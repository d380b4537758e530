"""OnnxModule: an ONNX graph as an nn.Module, and back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from pipeline.autograd.bodies import stored, without_functions
from pipeline.autograd.dtypes import to_numpy, to_torch
from pipeline.autograd.names import escape
from pipeline.autograd.node import Body, Mode, Step, Value
from pipeline.autograd.plan import all_steps, as_tuple, constant_array, make_plan
from pipeline.autograd.sizes import Sizes
from targets.errors import BadInput

OWN_MOMENTUM = -1.0  # a value no momentum has: each norm keeps what the graph gives it
Tap = Callable[[Tensor], Tensor]


class OnnxModule(nn.Module):
    """The graph of `model`, evaluated node by node with torch functions.

    Parameters are weights, biases, norm affines and slopes; buffers are running statistics and further float constants;
    integers that speak of sizes stay on the host. Torch names are ONNX names with "." and "%" percent-encoded
    (`tensor_names` maps ONNX to torch). train() and eval() decide for BatchNormalization and Dropout, whatever the
    graph says. Starts in eval(). Final: wrap it, do not override it.

    `momentum` is the batch's share in running statistics (torch's convention, where ONNX writes the complement), for
    every norm alike; negative: each norm's own, as the graph gives it.

    Functions of the model's own are inlined, If, Loop and Scan run as Python does (a condition or count that is a
    tensor is read from it, which torch.compile and torch.export cannot trace). Tensors of inner graphs go by the names
    of the outputs they serve, e.g. "y/then_branch/w".

    `one_by_one`: the graph takes one example at a time; batches (axis 0 of every input) are split and joined again.

    BadInput at construction where a node has no gradient rule; the model itself is copied, never changed.
    """

    def __init__(self, model: onnx.ModelProto, *, one_by_one: bool = False) -> None:
        super().__init__()
        self._one_by_one = one_by_one
        self._proto = without_functions(model)
        plan = make_plan(self._proto)
        self._steps = plan.steps
        self._known = dict(plan.known)
        self._taps: dict[str, dict[int, Tap]] = {}
        self.momentum = OWN_MOMENTUM
        self.input_names = plan.inputs
        self.output_names = plan.outputs
        self.tensor_names: dict[str, str] = {}
        taken = set(dir(self))
        for name, array in plan.tensors.items():
            attribute = self.tensor_names[name] = escape(name, taken)
            tensor = to_torch(array, f"Tensor {name}")
            if name in plan.parameters:
                self.register_parameter(attribute, nn.Parameter(tensor))
            else:
                stored = name not in plan.known  # folded sizes come back with the graph
                self.register_buffer(attribute, tensor, persistent=stored)
        self.eval()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Graph inputs in order, or by name, -> the graph's one output, or a tuple of them in order."""
        values: dict[str, Value] = self._bind(inputs, named)
        if not self._one_by_one:
            return self._outputs(values)
        examples = zip(*(self._tensor(name, values, {}).split(1) for name in self.input_names), strict=True)
        made = [self._outputs(dict(zip(self.input_names, example, strict=True))) for example in examples]
        return torch.cat(made) if len(self.output_names) == 1 else tuple(map(torch.cat, zip(*made, strict=True)))

    def _outputs(self, values: dict[str, Value]) -> Any:
        tensors = {name: self.get_tensor(name) for name in self.tensor_names}
        self._run(self._steps, values, tensors)
        outputs = tuple(self._tensor(name, values, tensors) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, steps: Sequence[Step], values: dict[str, Value], tensors: Mapping[str, Tensor]) -> None:
        """Runs the steps in order; `values` gains what they make and loses what nobody reads any more."""
        mode = Mode(self.training, None if self.momentum < 0 else self.momentum)

        def run_body(body: Body, given: Sequence[Value]) -> tuple[Value, ...]:
            values.update(zip(body.inputs, given, strict=True))
            self._run(body.steps, values, tensors)
            return tuple(values[name] if name in values else tensors[name] for name in body.outputs)

        for step in steps:
            arguments = [self._argument(step, index, values, tensors) for index in range(len(step.node.inputs))]
            for index, tap in self._taps.get(step.node.name, {}).items():
                activation = arguments[index]
                assert isinstance(activation, Tensor)  # `tap` refuses sizes
                arguments[index] = tap(activation)
            if step.rule.runs:
                results = step.apply(run_body, *arguments)
            else:
                results = step.apply(mode, *arguments) if step.rule.trains else step.apply(*arguments)
            if not any(isinstance(argument, Tensor) for argument in arguments):
                results = self._placed(results)
            values.update(zip(step.node.outputs, as_tuple(results), strict=False))  # unused outputs may be left out
            for name in step.release:
                values.pop(name, None)

    @contextmanager
    def tap(self, taps: Mapping[tuple[str, int], Tap]) -> Iterator[None]:
        """While open, (node name, input index) -> function is applied to that input before the node runs.

        Only that reader sees the result. BadInput where there is no such activation, or it is tapped already.
        """
        steps = {step.node.name: step for step in self._steps}
        before = {name: dict(functions) for name, functions in self._taps.items()}
        merged = {name: dict(functions) for name, functions in self._taps.items()}
        for (name, index), function in taps.items():
            step = steps.get(name)
            if step is None or not step.node.has(index) or index in step.rule.sizes:
                raise BadInput(f"Node {name} has no activation at input {index} to tap.")
            if index in merged.get(name, {}):
                raise BadInput(f"Input {index} of node {name} is tapped already.")
            merged.setdefault(name, {})[index] = function
        self._taps = merged
        try:
            yield
        finally:
            self._taps = before

    def get_tensor(self, name: str) -> Tensor:
        """The parameter or buffer of the ONNX tensor `name`."""
        tensor: Tensor = getattr(self, self.tensor_names[name])
        return tensor

    def statistics(self) -> list[tuple[Tensor, Tensor]]:
        """The buffers (running mean, running variance) of each norm that train() updates, in graph order."""
        norms = [step.node for step in all_steps(self._steps) if step.node.op == "BatchNormalization"]
        owning = [node for node in norms if {3, 4} <= node.initialised]
        return [(self.get_tensor(node.inputs[3]), self.get_tensor(node.inputs[4])) for node in owning]

    def to_onnx(self) -> onnx.ModelProto:
        """A copy of the model with parameters and running statistics as they are now; others keep every byte."""
        model = onnx.ModelProto()
        model.CopyFrom(self._proto)
        for name, holder in stored(model.graph):
            if name not in self.tensor_names:
                continue
            if isinstance(holder, onnx.TensorProto):
                self._write(holder, name)
            else:
                self._write_constant(holder, name)
        return model

    def _write_constant(self, node: onnx.NodeProto, name: str) -> None:
        """Numbers listed in attributes of their own become a tensor, where they changed."""
        (attribute,) = node.attribute
        if attribute.name == "value":
            self._write(attribute.t, name)
            return
        listed, now = constant_array(node), to_numpy(self.get_tensor(name))
        if now.tobytes() != listed.tobytes():
            node.ClearField("attribute")
            node.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(now, name)))

    def _write(self, target: onnx.TensorProto, name: str) -> None:
        old = np.asarray(onnx.numpy_helper.to_array(target))
        new = to_numpy(self.get_tensor(name), old.dtype)
        if new.shape != old.shape:
            raise BadInput(f"Tensor {name} has shape {new.shape} now, and {old.shape} in the graph. Load it again.")
        if new.tobytes() != old.tobytes():
            target.CopyFrom(onnx.numpy_helper.from_array(new, target.name))

    def _bind(self, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> dict[str, Value]:
        bound: dict[str, Value] = dict(zip(self.input_names, inputs, strict=False))
        doubled_or_unknown = [name for name in named if name in bound or name not in self.input_names]
        bound.update(named)
        missing = [name for name in self.input_names if name not in bound]
        if missing or doubled_or_unknown or len(inputs) > len(self.input_names):
            raise BadInput(f"The graph's inputs are {', '.join(self.input_names)}: give each of them exactly once.")
        return bound

    def _argument(
        self, step: Step, index: int, values: Mapping[str, Value], tensors: Mapping[str, Tensor]
    ) -> Value | None:
        name = step.node.inputs[index]
        if not name:
            return None
        if index not in step.rule.sizes:
            return self._tensor(name, values, tensors)
        known = self._known.get(name)
        if known is not None:
            return known
        value = values[name] if name in values else tensors[name]
        assert not isinstance(value, list)  # no rule takes a sequence for sizes
        return value if isinstance(value, Sizes) else Sizes.of_tensor(value)

    def _tensor(self, name: str, values: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> Tensor:
        value = tensors[name] if name in tensors else values[name]
        return value.tensor(self._device()) if isinstance(value, Sizes) else value  # type: ignore[return-value]

    def _placed(self, results: Any) -> Any:
        """What came from sizes alone was made on the host: moved to where the module is."""
        if isinstance(results, Tensor):
            return results.to(self._device())
        return results

    def _device(self) -> torch.device:
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")
