"""The uncut network's outputs: computed with each batch, or once where every batch repeats the same inputs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.batches import Samples, split

CACHE_BYTES = 512 << 20  # outputs kept in memory at most; dense outputs of many images are computed each time


def tensors(inputs: dict[str, NDArray[Any]], channels_last: bool) -> list[Tensor]:
    """A batch as the network's arguments, in the order of its inputs; images in channels_last where asked."""
    return [
        tensor.contiguous(memory_format=torch.channels_last) if channels_last and tensor.ndim == 4 else tensor
        for tensor in (torch.from_numpy(np.require(values, requirements=("C", "W"))) for values in inputs.values())
    ]


def in_format(module: nn.Module, channels_last: bool) -> None:
    """Weights of convolutions laid out as asked, in place; no value changes."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def autocast(enabled: bool) -> AbstractContextManager[Any]:
    """bfloat16 where torch knows it to be safe, or nothing."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


def outputs_of(result: Any) -> list[Tensor]:
    """A module's outputs as a list."""
    return list(result) if isinstance(result, Sequence) else [result]


@final
class Teacher:
    """A network in eval mode that is never trained. One thread at a time."""

    def __init__(self, module: nn.Module, bf16: bool, channels_last: bool) -> None:
        self._module = module
        self._bf16 = bf16
        self._channels_last = channels_last
        self._kept: list[Tensor] | None = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs in float32 (integers as they are), ordinary tensors that a loss may keep."""
        with torch.inference_mode(), autocast(self._bf16):
            outputs = outputs_of(self._module(*inputs))
        return [output.float().clone() if output.is_floating_point() else output.clone() for output in outputs]

    def remember(self, samples: Samples, batch_size: int) -> None:
        """Outputs of all samples, once, where they fit into memory."""
        kept: list[Tensor] = []
        for indices in split(np.arange(len(samples), dtype=np.int64), batch_size):
            outputs = self.run(tensors(samples.read(indices).inputs, self._channels_last))
            if not kept:
                example_bytes = sum(output[:1].numel() * output.element_size() for output in outputs)
                if example_bytes * len(samples) > CACHE_BYTES or any(len(output) != len(indices) for output in outputs):
                    return
                kept = [output.new_empty((len(samples), *output.shape[1:])) for output in outputs]
            rows = torch.from_numpy(indices)
            for whole, part in zip(kept, outputs, strict=True):
                whole[rows] = part
        self._kept = kept

    def outputs(self, inputs: Sequence[Tensor], indices: NDArray[np.int64]) -> list[Tensor]:
        """For the samples at `indices`, which `inputs` hold; from memory where they are remembered."""
        if self._kept is None:
            return self.run(inputs)
        rows = torch.from_numpy(indices)
        return [whole[rows] for whole in self._kept]
