"""The proof that runs on every cut: cut network and masked original give the same outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.execute import Runner
from pipeline.graph.model import Model, input_specs
from targets.errors import ProofFailed

Feeds = dict[str, NDArray[np.generic]]

RANDOM_INPUTS = 2
# Networks are trained on inputs of very different size. On too large ones some overflow, or amplify rounding until
# nothing can be told apart; the first scale on which the network is quiet is used.
SCALES = (1.0, 0.1, 0.01)
QUIET = 1e-6
# Cut and masked original add the same numbers in another order, which costs about as much as one more rounding of
# every weight: in trials on twenty networks the difference was at most 2.5 times that.
NOISE_FACTOR = 8
FLOOR = 1e-5  # a few roundings of float32, whatever the noise drawn; a wrong cut differs by more than 1e-2
CEILING = 1e-2
# Operators whose other inputs are weights.
WEIGHTED = {"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "BatchNormalization"}


@dataclass(frozen=True)
class Proof:
    """`relative_error`: largest difference between the outputs, as a share of the masked original's largest output.

    `noise` is the same for the masked original and itself with every weight and input off by one rounding; what is
    allowed follows from it. `scale` is that of the random inputs.
    """

    relative_error: float
    tolerance: float
    inputs: int
    noise: float
    scale: float


def prove(cut: Model, masked: Model, *, seed: int = 0, exact: bool = True) -> Proof:
    """Run both on random inputs, unoptimised. Raises ProofFailed where exact groups alone were cut and they differ."""
    original, ours = Runner(masked.proto), Runner(cut.proto)
    noisy = Runner(_one_rounding_off(masked.proto, seed))
    scale, noise = _quiet_scale(masked, original, noisy, seed)
    error = 0.0
    for number in range(RANDOM_INPUTS):
        feeds = random_feeds(masked, seed + number, scale=scale)
        theirs = original(feeds)
        error = max(error, outputs_agree(ours(feeds), theirs))
        noise = max(noise, outputs_agree(noisy(_jittered(feeds, seed)), theirs))
    tolerance = min(max(FLOOR, NOISE_FACTOR * noise), CEILING)
    if exact and not error <= tolerance:
        raise ProofFailed(
            f"The cut network differs from the masked original by {error:.1e} (allowed: {tolerance:.1e}). "
            "Nothing was written. This is a defect of cutback: please report it with the model and the plan."
        )
    return Proof(error, tolerance, RANDOM_INPUTS, noise, scale)


def random_feeds(model: Model, seed: int, *, scale: float = 1.0) -> Feeds:
    """Normal floats of the given scale, bytes over their whole range, small integers, coin tosses; shapes as bound."""
    generator = np.random.default_rng(seed)
    feeds: Feeds = {}
    for spec in input_specs(model.proto):
        shape, dtype = model.bound[spec.name], onnx.helper.tensor_dtype_to_np_dtype(spec.elem_type)
        if np.issubdtype(dtype, np.floating):
            feeds[spec.name] = np.asarray(scale * generator.standard_normal(shape)).astype(dtype)
        elif dtype in (np.uint8, np.int8):
            feeds[spec.name] = np.asarray(generator.integers(0, 256, shape)).astype(np.uint8).view(dtype)
        else:
            feeds[spec.name] = np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    return feeds


def finite_feeds(model: Model, seed: int) -> Feeds:
    """Random inputs at the largest scale on which the network's outputs stay finite."""
    run = Runner(model.proto)
    for scale in SCALES:
        feeds = random_feeds(model, seed, scale=scale)
        if _finite(run(feeds)):
            break
    return feeds


def outputs_agree(outputs: Mapping[str, NDArray[np.generic]], others: Mapping[str, NDArray[np.generic]]) -> float:
    """The largest relative difference over all outputs."""
    return max(_difference(outputs[name], others[name]) for name in others)


def _quiet_scale(model: Model, original: Runner, noisy: Runner, seed: int) -> tuple[float, float]:
    """The scale of inputs to compare at, and the noise there: the first quiet one, else the quietest."""
    noises = []
    for scale in SCALES:
        feeds = random_feeds(model, seed, scale=scale)
        outputs = original(feeds)
        noise = outputs_agree(noisy(_jittered(feeds, seed)), outputs) if _finite(outputs) else float("inf")
        noises.append(noise)
        if noise <= QUIET:
            break
    if min(noises) == float("inf"):
        return SCALES[0], 0.0  # outputs overflow whatever comes in: what is finite is compared
    best = int(np.argmin(noises))
    return SCALES[best], noises[best]


def _one_rounding_off(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Every weight moved up or down by one unit of its precision."""
    off = onnx.ModelProto()
    off.CopyFrom(proto)
    weights = {name for node in proto.graph.node if node.op_type in WEIGHTED for name in node.input[1:]}
    generator = np.random.default_rng(seed)
    for tensor in off.graph.initializer:
        if tensor.name in weights:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(_jitter(values, generator), tensor.name))
    return off


def _jittered(feeds: Feeds, seed: int) -> Feeds:
    generator = np.random.default_rng(seed)
    return {name: _jitter(values, generator) for name, values in feeds.items()}


def _jitter(values: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.generic]:
    if not np.issubdtype(values.dtype, np.floating):
        return values
    unit = float(np.finfo(values.dtype.name).eps)
    factor = 1 + unit * generator.choice([-1.0, 1.0], values.shape)
    return np.asarray(values.astype(np.float64) * factor).astype(values.dtype)


def _finite(outputs: Mapping[str, NDArray[np.generic]]) -> bool:
    return all(bool(np.isfinite(v).all()) for v in outputs.values() if np.issubdtype(v.dtype, np.floating))


def _difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not np.issubdtype(theirs.dtype, np.floating):
        return float(np.mean(ours != theirs)) if theirs.size else 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.max(np.abs(a - b)[finite]) / max(float(np.max(np.abs(b[finite]))), 1e-12))
