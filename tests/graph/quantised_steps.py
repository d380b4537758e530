"""Steps of random graphs with quantised weights and activations, and weights that the graph computes."""

from collections.abc import Callable, Mapping

import numpy as np
from hypothesis import strategies as st

from tests.graph.sketch import Sketch, Tensor

OPSET_OF_SCALES_PER_CHANNEL = 13


def dequantised(s: Sketch, draw, axis: int, *shape: int) -> Tensor:
    """An int8 weight of about unit gain behind DequantizeLinear, with scales for all of it or along `axis`."""
    many = s.opset >= OPSET_OF_SCALES_PER_CHANNEL and draw(st.booleans())
    size = shape[axis] if many else 1
    gain = (2 / max(1, int(np.prod(shape)) // shape[axis])) ** 0.5 / 70
    scale = (gain * s.random.uniform(0.5, 1.5, size)).astype(np.float32)
    zero = s.random.integers(-9, 10, size).astype(np.int8)
    inputs = [s.constant(s.random.integers(-128, 128, shape).astype(np.int8))]
    inputs += [s.constant(value if many else value.reshape(())) for value in (scale, zero)]
    return s.op("DequantizeLinear", inputs, shape, **({"axis": axis} if many else {}))


def quantised_conv(s: Sketch, x: Tensor, draw) -> Tensor:
    _, source, h, w = x.shape
    groups = draw(st.sampled_from([1, *(d for d in range(2, source + 1) if source % d == 0)]))
    width, kernel = groups * draw(st.integers(1, 4)), draw(st.sampled_from([1, 3]))
    weight = dequantised(s, draw, draw(st.sampled_from([0, 1])), width, source // groups, kernel, kernel)
    pads = [kernel // 2] * 4
    return s.op("Conv", [x.name, weight.name], (1, width, h, w), group=groups, pads=pads)


def quantised_dense(s: Sketch, x: Tensor, draw) -> Tensor:
    """Transposed between DequantizeLinear and its reader."""
    last, width = s.transpose(x, 0, 2, 3, 1), draw(st.sampled_from([4, 6]))
    weight = s.transpose(dequantised(s, draw, draw(st.sampled_from([0, 1])), width, x.channels), 1, 0)
    return s.transpose(s.op("MatMul", [last.name, weight.name], (*last.shape[:3], width)), 0, 3, 1, 2)


def rounded(s: Sketch, x: Tensor, draw) -> Tensor:
    scale, zero = s.constant(np.asarray(0.05, np.float32)), s.constant(np.asarray(120, np.uint8))
    integers = s.op("QuantizeLinear", [x.name, scale, zero], x.shape)
    return s.op("DequantizeLinear", [integers.name, scale, zero], x.shape)


def on_integers(s: Sketch, x: Tensor, draw) -> Tensor:
    """The range of the activation is taken as it comes."""
    _, source, h, w = x.shape
    width = draw(st.sampled_from([4, 6]))
    integers, scale, zero = s.ops("DynamicQuantizeLinear", [x.name], [x.shape, (), ()])
    weight = s.constant(s.random.integers(0, 256, (width, source, 1, 1)).astype(np.uint8))
    point = s.constant(np.asarray(121, np.uint8))
    sums = s.op("ConvInteger", [integers.name, weight, zero.name, point], (1, width, h, w))
    sums = s.op("Cast", [sums.name], sums.shape, to=1)
    gain = s.op("Mul", [scale.name, s.constant(np.asarray(0.01, np.float32))], ())
    return s.op("Mul", [sums.name, gain.name], sums.shape)


def scaled_weight(s: Sketch, x: Tensor, draw) -> Tensor:
    """By a number that hangs on the activation."""
    _, source, h, w = x.shape
    width = draw(st.sampled_from([4, 6]))
    factor = s.act(s.reduced(x, "ReduceMax", [1, 2, 3]), "Sigmoid")
    shape = (width, source, 1, 1)
    weight = s.op("Mul", [s.weight(*shape, gain=(2 / source) ** 0.5), factor.name], shape)
    return s.op("Conv", [x.name, weight.name], (1, width, h, w))


QUANTISED: Mapping[str, Callable[[Sketch, Tensor, object], Tensor]] = {
    step.__name__: step for step in (quantised_conv, quantised_dense, rounded, on_integers, scaled_weight)
}
