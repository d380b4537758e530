"""Fourier transforms of audio front ends, and their windows."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes


def _cosine_window(weights: Sequence[float]) -> Rule:
    """A sum of cosines: weights[k] * cos(2 pi k n / N)."""

    def build(node: Node) -> Operation:
        periodic, number = node.attributes.get("periodic", 1), node.attributes.get("output_datatype", 1)
        if number not in TORCH_TYPES:
            raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")

        def apply(size: Sizes) -> Tensor:
            count = size.ints[0]
            angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / (count if periodic else count - 1))
            window = torch.stack([weight * torch.cos(k * angle) for k, weight in enumerate(weights)]).sum(0)
            return window.to(TORCH_TYPES[number])

        return apply

    return Rule(build, sizes=frozenset({0}), gradient="none")


def _complex(x: Tensor) -> Tensor:
    """The last axis holds the real part alone, or both."""
    return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj())


def _dft(node: Node) -> Operation:
    inverse, onesided = node.attributes.get("inverse", 0), node.attributes.get("onesided", 0)
    attribute = node.attributes.get("axis", 1) if node.opset < 20 else None

    def apply(x: Tensor, length: Sizes | None = None, axis: Sizes | None = None) -> Tensor:
        given = attribute if attribute is not None else (-2 if axis is None else axis.ints[0])
        along = given % x.dim()
        size = x.shape[along] if length is None else length.ints[0]
        if inverse and onesided:
            back: Tensor = torch.fft.irfft(_complex(x), size if length is not None else None, along)
            return back.unsqueeze(-1)
        signal = _complex(x)
        if onesided:
            return _real(torch.fft.rfft(signal, size, along))
        return _real((torch.fft.ifft if inverse else torch.fft.fft)(signal, size, along))

    return apply


def _stft(node: Node) -> Operation:
    onesided = node.attributes.get("onesided", 1)

    def apply(x: Tensor, step: Sizes, window: Tensor | None = None, length: Sizes | None = None) -> Tensor:
        assert window is not None or length is not None  # the schema asks for one of the two
        signal = _complex(x) if x.dim() == 3 else x
        size = length.ints[0] if length is not None else window.shape[0]  # type: ignore[union-attr]
        frames = signal.unfold(1, size, step.ints[0])
        frames = frames if window is None else frames * window
        return _real(torch.fft.rfft(frames) if onesided and not frames.is_complex() else torch.fft.fft(frames))

    return apply


RULES: dict[str, Rule] = {
    "BlackmanWindow": _cosine_window((0.42, -0.5, 0.08)),
    "DFT": Rule(_dft, sizes=frozenset({1, 2})),
    "HammingWindow": _cosine_window((25 / 46, -21 / 46)),
    "HannWindow": _cosine_window((0.5, -0.5)),
    "STFT": Rule(_stft, sizes=frozenset({1, 3})),
}
