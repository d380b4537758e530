"""The proof that runs on every cut: cut network and masked original give the same outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, input_specs
from targets.errors import ProofFailed

# float32 sums taken in another order differ by about 1e-6 a layer; a wrong cut differs by more than 1e-2.
TOLERANCE = 1e-4
RANDOM_INPUTS = 2


@dataclass(frozen=True)
class Proof:
    """`relative_error`: largest difference between the outputs, as a share of the masked original's largest output."""

    relative_error: float
    tolerance: float
    inputs: int


def prove(cut: Model, masked: Model, *, seed: int = 0, exact: bool = True) -> Proof:
    """Run both on random inputs, unoptimised. Raises ProofFailed where exact groups alone were cut and they differ."""
    worst = 0.0
    for number in range(RANDOM_INPUTS):
        feeds = random_feeds(masked, seed + number)
        ours, theirs = run_unoptimised(cut.proto, feeds), run_unoptimised(masked.proto, feeds)
        worst = max(worst, *(_difference(ours[name], theirs[name]) for name in theirs))
    if exact and not worst <= TOLERANCE:
        raise ProofFailed(
            f"The cut network differs from the masked original by {worst:.1e} (allowed: {TOLERANCE:.0e}). "
            "Nothing was written. This is a defect of cutback: please report it with the model and the plan."
        )
    return Proof(worst, TOLERANCE, RANDOM_INPUTS)


def random_feeds(model: Model, seed: int) -> dict[str, NDArray[np.generic]]:
    """Standard normal floats, small integers, coin tosses; shapes as bound."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, NDArray[np.generic]] = {}
    for spec in input_specs(model.proto):
        shape, dtype = model.bound[spec.name], onnx.helper.tensor_dtype_to_np_dtype(spec.elem_type)
        if np.issubdtype(dtype, np.floating):
            feeds[spec.name] = generator.standard_normal(shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[spec.name] = generator.integers(0, 2, shape).astype(dtype)
        else:
            feeds[spec.name] = generator.integers(0, 2, shape).astype(dtype)
    return feeds


def _difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not np.issubdtype(theirs.dtype, np.floating):
        return float(np.mean(ours != theirs))
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    finite = np.isfinite(b)
    if not finite.any():
        return 0.0
    return float(np.max(np.abs(a - b)[finite]) / max(float(np.max(np.abs(b[finite]))), 1e-12))


def outputs_agree(outputs: Mapping[str, NDArray[np.generic]], others: Mapping[str, NDArray[np.generic]]) -> float:
    """The largest relative difference over all outputs."""
    return max(_difference(outputs[name], others[name]) for name in others)
