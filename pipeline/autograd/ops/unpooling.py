"""The ways back from windows: maxima to where they were, columns of blocks to an image."""

import math

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.pooling import read_kernel
from pipeline.autograd.ops.windows import extent, pad, read_window
from pipeline.autograd.sizes import Sizes


def _max_unpool(node: Node) -> Operation:
    window, kernel = read_window(node), read_kernel(node)

    def apply(x: Tensor, places: Tensor, output_shape: Sizes | None = None) -> Tensor:
        padding = window.padding(x.shape[2:], kernel)
        inner = [
            (size - 1) * stride - begin - end + reach
            for size, stride, (begin, end), reach in zip(
                x.shape[2:], window.stride(len(kernel)), padding, kernel, strict=True
            )
        ]
        shape = [*x.shape[:2], *inner]
        y = x.new_zeros(math.prod(shape)).scatter(0, places.reshape(-1), x.reshape(-1)).reshape(shape)
        if output_shape is None:
            return y
        return pad(y, [(0, want - have) for want, have in zip(output_shape.ints, shape, strict=True)])

    return apply


def _col2im(node: Node) -> Operation:
    window = read_window(node)

    def apply(x: Tensor, image: Sizes, block: Sizes) -> Tensor:
        """Each column of blocks is added back where it came from: the transpose of unfolding."""
        kernel, rank = block.ints, len(block.ints)
        strides, dilations = window.stride(rank), window.dilation(rank)
        padding = window.padding(image.ints, kernel)
        padded = [size + begin + end for size, (begin, end) in zip(image.ints, padding, strict=True)]
        reach = extent(kernel, dilations)
        counts = [(size - r) // stride + 1 for size, r, stride in zip(padded, reach, strides, strict=True)]
        batch, channels = x.shape[0], x.shape[1] // math.prod(kernel)
        flat = torch.zeros((), dtype=torch.int64, device=x.device)
        for axis in range(rank):
            taps = (torch.arange(kernel[axis], device=x.device) * dilations[axis]).reshape(
                [-1 if at == axis else 1 for at in range(2 * rank)]
            )
            steps = (torch.arange(counts[axis], device=x.device) * strides[axis]).reshape(
                [-1 if at == rank + axis else 1 for at in range(2 * rank)]
            )
            flat = flat * padded[axis] + taps + steps
        columns = x.reshape(batch, channels, -1)
        whole = x.new_zeros((batch, channels, math.prod(padded)))
        whole = whole.scatter_add(2, flat.reshape(1, 1, -1).expand_as(columns), columns)
        return pad(whole.reshape(batch, channels, *padded), [(-begin, -end) for begin, end in padding])

    return apply


RULES: dict[str, Rule] = {
    "Col2Im": Rule(_col2im, sizes=frozenset({1, 2})),
    "MaxUnpool": Rule(_max_unpool, sizes=frozenset({2})),
}
