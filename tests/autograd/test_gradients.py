"""Gradients of every rule that has one, by finite differences in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.autograd import OnnxModule, supported
from pipeline.autograd.dtypes import to_torch
from tests.autograd.graphs import Array, floats, model, node
from tests.autograd.operator_cases import TABLES, Call, feeds, graph_of
from tests.autograd.test_versions import IN_GRAPHS, opset_of

EXACT = [entry for entry in supported() if entry.gradient == "exact" and entry.op not in IN_GRAPHS]

SLOW = {"DeformConv", "GRU", "LSTM", "LinearAttention", "RNN", "RoiAlign"}


def is_checked(module: OnnxModule, given: dict[str, Tensor]) -> bool:
    """Finite differences of all float outputs with respect to all float inputs agree; False where there are none."""
    names = list(given)

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = module(**dict(zip(names, inputs, strict=True)))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output for output in outputs if output.requires_grad)

    if not function(*given.values()):
        return False
    return torch.autograd.gradcheck(function, tuple(given.values()))


def variables(made: Call, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    given = {}
    for name, array in arrays.items():
        tensor = to_torch(array)
        wide = tensor.double() if tensor.is_floating_point() else tensor
        given[name] = wide.requires_grad_(tensor.is_floating_point() and int(name[1:]) not in made.fixed)
    return given


@pytest.mark.parametrize(
    "entry",
    [pytest.param(entry, marks=pytest.mark.slow if entry.op in SLOW else ()) for entry in EXACT],
    ids=lambda entry: f"{entry.domain}{entry.op}",
)
def test_gradients_are_those_of_the_function(entry):
    newest = entry.versions[-1]
    made = [made for made in TABLES[entry.domain][entry.op] if made.since <= newest <= made.until]
    checked = []
    for case in made:
        graph = graph_of(entry.domain, entry.op, case, opset_of(entry.domain, newest))
        given = variables(case, feeds(entry.domain, entry.op, case))
        checked.append(is_checked(OnnxModule(graph).double(), given))
    assert any(checked)


def test_batch_norm_in_training_has_the_gradient_of_the_batchs_own_statistics():
    affine = {"g": floats(3) + 2, "b": floats(3, seed=1), "m": floats(3), "v": np.ones(3, np.float32)}
    made = model([node("BatchNormalization", "x g b m v")], {"x": (4, 3, 2)}, affine)
    module = OnnxModule(made).double().train()
    assert is_checked(module, {"x": torch.from_numpy(floats(4, 3, 2)).double().requires_grad_()})


def quantised(*between: str) -> OnnxModule:
    """x, quantised to uint8 and back, with operators between that move it."""
    nodes = [node("QuantizeLinear", "x s z", "q")]
    for at, op in enumerate(between):
        nodes.append(node(op, nodes[-1].output[0], f"m{at}"))
    nodes.append(node("DequantizeLinear", f"{nodes[-1].output[0]} s z"))
    constants: dict[str, Array] = {"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)}
    return OnnxModule(model(nodes, {"x": (2, 3)}, constants))


@pytest.mark.parametrize("between", [(), ("Transpose",), ("Transpose", "Flatten")])
def test_gradients_pass_straight_through_rounding_inside_the_range(between):
    x = torch.tensor([[0.04, 0.57, -3.0], [100.0, 12.7, -13.0]], requires_grad=True)
    y = quantised(*between)(x)
    stepped = torch.tensor([[0.0, 0.6, -3.0], [12.7, 12.7, -12.8]])
    torch.testing.assert_close(y, stepped.t() if between else stepped)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[1.0, 1, 1], [0, 1, 0]]))


def test_no_gradient_passes_where_something_else_reads_the_integers():
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Cast", "q", to=1)]
    constants: dict[str, Array] = {"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)}
    module = OnnxModule(model(nodes, {"x": (2, 3)}, constants))
    y = module(torch.zeros(2, 3, requires_grad=True))
    torch.testing.assert_close(y, torch.full((2, 3), 128.0))
    assert not y.requires_grad
