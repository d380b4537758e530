"""Draws small graphs from the supported operators: every method adds nodes and gives back the tensor they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: Shape

    @property
    def channels(self) -> int:
        return self.shape[1]


@dataclass
class Sketch:
    """A graph under construction, with one image as input. Weights are random and of about unit gain."""

    opset: int
    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def input(self, *shape: int) -> Tensor:
        self.shape = shape
        return Tensor("x", shape)

    def finish(self, *outputs: Tensor) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, o.shape) for o in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def op(self, kind: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> Tensor:
        (made,) = self.ops(kind, inputs, [shape], **attributes)
        return made

    def ops(self, kind: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any) -> list[Tensor]:
        names = [f"t{len(self.nodes)}_{number}" for number in range(len(shapes))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return [Tensor(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True)]

    def weight(self, *shape: int, gain: float = 1.0, about: float = 0.0) -> str:
        return self.constant((about + gain * self.random.standard_normal(shape)).astype(np.float32))

    def constant(self, value) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def sizes(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64))

    # Layers. All take and give (1, C, H, W) unless they say otherwise.

    def conv(self, x: Tensor, channels: int, kernel: int = 1, groups: int = 1, bias: bool = True) -> Tensor:
        _, source, h, w = x.shape
        fan_in = source // groups * kernel**2
        inputs = [x.name, self.weight(channels, source // groups, kernel, kernel, gain=(2 / fan_in) ** 0.5)]
        inputs += [self.weight(channels, gain=0.2)] if bias else []
        pads = [kernel // 2] * 4
        return self.op("Conv", inputs, (1, channels, h, w), group=groups, pads=pads, kernel_shape=[kernel, kernel])

    def conv_transpose(self, x: Tensor, channels: int, groups: int = 1) -> Tensor:
        _, source, h, w = x.shape
        inputs = [x.name, self.weight(source, channels // groups, 2, 2, gain=(groups / source) ** 0.5)]
        inputs += [self.weight(channels, gain=0.2)]
        return self.op("ConvTranspose", inputs, (1, channels, 2 * h, 2 * w), group=groups, strides=[2, 2])

    def batch_norm(self, x: Tensor) -> Tensor:
        c = x.channels
        variance = self.constant(self.random.uniform(0.5, 1.5, c).astype(np.float32))
        inputs = [x.name, self.weight(c, gain=0.3, about=1), self.weight(c), self.weight(c, gain=0.3), variance]
        return self.op("BatchNormalization", inputs, x.shape)

    def act(self, x: Tensor, kind: str) -> Tensor:
        return self.op(kind, [x.name], x.shape)

    def slope(self, x: Tensor) -> Tensor:
        return self.op("PRelu", [x.name, self.weight(x.channels, 1, 1)], x.shape)

    def scaled(self, x: Tensor, kind: str) -> Tensor:
        """By a constant per channel."""
        return self.op(kind, [x.name, self.weight(x.channels, 1, 1, gain=0.3, about=1)], x.shape)

    def pair(self, a: Tensor, b: Tensor, kind: str) -> Tensor:
        return self.op(kind, [a.name, b.name], np.broadcast_shapes(a.shape, b.shape))

    def concat(self, *parts: Tensor, axis: int = 1) -> Tensor:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.op("Concat", [part.name for part in parts], shape, axis=axis)

    def split(self, x: Tensor, *sizes: int) -> list[Tensor]:
        shapes = [(1, size, *x.shape[2:]) for size in sizes]
        if self.opset >= 13:
            return self.ops("Split", [x.name, self.sizes(*sizes)], shapes, axis=1)
        return self.ops("Split", [x.name], shapes, axis=1, split=list(sizes))

    def slice(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        shape = list(x.shape)
        shape[axis] = stop - start
        bounds = [self.sizes(start), self.sizes(stop if stop < x.shape[axis] else 2**31 - 1), self.sizes(axis)]
        return self.op("Slice", [x.name, *bounds], shape)

    def pad(self, x: Tensor, before: int, after: int) -> Tensor:
        shape = (1, x.channels + before + after, *x.shape[2:])
        return self.op("Pad", [x.name, self.sizes(0, before, 0, 0, 0, after, 0, 0)], shape)

    def take(self, x: Tensor, channels: Sequence[int]) -> Tensor:
        return self.op("Gather", [x.name, self.sizes(*channels)], (1, len(channels), *x.shape[2:]), axis=1)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        free = int(self.random.integers(0, len(shape))) if self.random.random() < 0.3 else -1
        target = [-1 if axis == free else size for axis, size in enumerate(shape)]
        return self.op("Reshape", [x.name, self.sizes(*target)], shape)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        return self.op("Transpose", [x.name], [x.shape[axis] for axis in order], perm=list(order))

    def shuffle(self, x: Tensor, blocks: int) -> Tensor:
        _, c, h, w = x.shape
        split = self.transpose(self.reshape(x, 1, blocks, c // blocks, h, w), 0, 2, 1, 3, 4)
        return self.reshape(split, *x.shape)

    def block(self, x: Tensor, blocks: int, number: int) -> Tensor:
        """One block of channels, picked by a single index."""
        _, c, h, w = x.shape
        split = self.reshape(x, 1, blocks, c // blocks, h, w)
        picked = self.constant(np.asarray(number, np.int64))
        return self.op("Gather", [split.name, picked], (1, c // blocks, h, w), axis=1)

    def dense(self, x: Tensor, channels: int) -> Tensor:
        """A matrix product over the channels, brought last and back."""
        last = self.transpose(x, 0, 2, 3, 1)
        weight = self.weight(x.channels, channels, gain=x.channels**-0.5)
        product = self.op("MatMul", [last.name, weight], (*last.shape[:3], channels))
        return self.transpose(product, 0, 3, 1, 2)

    def depth_to_space(self, x: Tensor, mode: str) -> Tensor:
        _, c, h, w = x.shape
        return self.op("DepthToSpace", [x.name], (1, c // 4, 2 * h, 2 * w), blocksize=2, mode=mode)

    def space_to_depth(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        return self.op("SpaceToDepth", [x.name], (1, c * 4, h // 2, w // 2), blocksize=2)

    def pool(self, x: Tensor, kind: str) -> Tensor:
        _, c, h, w = x.shape
        return self.op(kind, [x.name], (1, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])

    def pooled(self, x: Tensor) -> Tensor:
        return self.op("GlobalAveragePool", [x.name], (1, x.channels, 1, 1))

    def reduced(self, x: Tensor, kind: str, axes: Sequence[int]) -> Tensor:
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, [x.name, self.sizes(*axes)], shape)
        return self.op(kind, [x.name], shape, axes=list(axes))

    def expand(self, x: Tensor, *shape: int) -> Tensor:
        return self.op("Expand", [x.name, self.sizes(*shape)], shape)

    def upsample(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        scales = self.constant(np.asarray([1, 1, 2, 2], np.float32))
        regions = self.constant(np.zeros(0, np.float32))  # before opset 13 no optional input
        return self.op("Resize", [x.name, regions, scales], (1, c, 2 * h, 2 * w), mode="nearest")

    # Tokens: (1, H * W, C) in place of (1, C, H, W).

    def tokens(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        return self.transpose(self.reshape(x, 1, c, h * w), 0, 2, 1)

    def image(self, tokens: Tensor, *shape: int) -> Tensor:
        return self.reshape(self.transpose(tokens, 0, 2, 1), *shape)

    def linear(self, tokens: Tensor, channels: int) -> Tensor:
        weight = self.weight(tokens.shape[-1], channels, gain=tokens.shape[-1] ** -0.5)
        product = self.op("MatMul", [tokens.name, weight], (*tokens.shape[:-1], channels))
        return self.op("Add", [product.name, self.weight(channels, gain=0.2)], product.shape)

    def attention(self, x: Tensor, heads: int, inner: int, together: bool) -> Tensor:
        """Queries, keys and values from one matrix or from three; a bias table for every head."""
        flat = self.tokens(x)
        length = flat.shape[1]
        if together:
            blocks = self.reshape(self.linear(flat, 3 * heads * inner), 1, length, 3, heads, inner)
            moved = self.transpose(blocks, 2, 0, 3, 1, 4)
            shape = moved.shape[1:]
            numbers = [self.constant(np.asarray(number, np.int64)) for number in range(3)]
            query, key, value = (self.op("Gather", [moved.name, number], shape, axis=0) for number in numbers)
        else:
            made = [self.reshape(self.linear(flat, heads * inner), 1, length, heads, inner) for _ in range(3)]
            query, key, value = (self.transpose(part, 0, 2, 1, 3) for part in made)
        score = self.op("MatMul", [query.name, self.transpose(key, 0, 1, 3, 2).name], (1, heads, length, length))
        biased = self.op("Add", [score.name, self.weight(1, heads, length, length)], score.shape)
        attended = self.op("MatMul", [self.softmax(biased).name, value.name], (1, heads, length, inner))
        joined = self.reshape(self.transpose(attended, 0, 2, 1, 3), 1, length, heads * inner)
        return self.image(self.linear(joined, x.channels), *x.shape)

    def softmax(self, x: Tensor) -> Tensor:
        return self.op("Softmax", [x.name], x.shape, axis=len(x.shape) - 1)

    def layer_norm(self, x: Tensor) -> Tensor:
        """One operator where there is one, else in pieces."""
        flat, c = self.tokens(x), x.channels
        scale, bias = self.weight(c, gain=0.3, about=1), self.weight(c)
        if self.opset >= 17:
            return self.image(self.op("LayerNormalization", [flat.name, scale, bias], flat.shape), *x.shape)
        centred = self.pair(flat, self.reduced(flat, "ReduceMean", [2]), "Sub")
        square = self.op("Mul", [centred.name, centred.name], centred.shape)
        variance = self.reduced(square, "ReduceMean", [2])
        small = self.op("Add", [variance.name, self.constant(np.float32(1e-5))], variance.shape)
        divided = self.pair(centred, self.op("Sqrt", [small.name], small.shape), "Div")
        scaled = self.op("Mul", [divided.name, scale], flat.shape)
        return self.image(self.op("Add", [scaled.name, bias], flat.shape), *x.shape)

    def group_norm(self, x: Tensor, groups: int) -> Tensor:
        """The operator, or an instance norm over flattened groups as exporters write it."""
        if self.opset >= 18 and self.random.random() < 0.5:
            size = x.channels if self.opset >= 21 else groups
            inputs = [x.name, self.weight(size, gain=0.3, about=1), self.weight(size)]
            return self.op("GroupNormalization", inputs, x.shape, num_groups=groups)
        flat = self.reshape(x, 1, groups, x.channels // groups * x.shape[2] * x.shape[3])
        inputs = [flat.name, self.weight(groups, gain=0.3, about=1), self.weight(groups)]
        return self.scaled(self.reshape(self.op("InstanceNormalization", inputs, flat.shape), *x.shape), "Mul")

    def beside_a_token(self, x: Tensor) -> Tensor:
        """A class token joins the tokens, goes through a layer with them, and leaves."""
        flat = self.tokens(x)
        joined = self.concat(Tensor(self.weight(1, 1, x.channels), (1, 1, x.channels)), flat, axis=1)
        mixed = self.linear(joined, x.channels)
        return self.image(self.slice(mixed, 1, 1, mixed.shape[1]), *x.shape)

    def conv_of_rank(self, x: Tensor, channels: int, rank: int) -> Tensor:
        """A convolution over one or three axes of space."""
        _, c, h, w = x.shape
        flat = self.reshape(x, 1, c, *((h * w,) if rank == 1 else (1, h, w)))
        weight = self.weight(channels, c, *(1,) * (rank - 1), 3, gain=(2 / (3 * c)) ** 0.5)
        pads = ([0] * (rank - 1) + [1]) * 2
        made = self.op("Conv", [flat.name, weight], (1, channels, *flat.shape[2:]), pads=pads)
        return self.reshape(made, 1, channels, h, w)

    def head(self, leaves: Sequence[Tensor], classes: int) -> Tensor:
        """Everything that nobody has read yet, pooled, flattened, joined, and read by one dense layer."""
        flat = [self.op("Flatten", [self.pooled(leaf).name], (1, leaf.channels)) for leaf in leaves]
        joined = self.concat(*flat) if len(flat) > 1 else flat[0]
        weight = self.weight(classes, joined.channels, gain=joined.channels**-0.5)
        return self.op("Gemm", [joined.name, weight, self.weight(classes)], (1, classes), transB=1)
