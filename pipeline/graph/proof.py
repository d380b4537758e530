"""The proof that runs on every cut: cut network and masked original give the same outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.apart import without_foreign
from pipeline.graph.chance import drawn
from pipeline.graph.execute import Runner
from pipeline.graph.feeds import Feeds, draw
from pipeline.graph.hidden import hides_numbers, hiding_tensor
from pipeline.graph.model import Model
from pipeline.graph.precision import in_float32
from pipeline.graph.rounding import without_rounding
from targets.comparison import difference
from targets.errors import BadInput, ProofFailed

RANDOM_INPUTS = 2
# Networks are trained on inputs of very different size. On too large ones some overflow, or amplify rounding until
# nothing can be told apart; the first scale on which the network is quiet is used.
SCALES = (1.0, 0.1, 0.01)
# A cut deep enough to leave a detector without detections gives zeros whatever comes in; larger inputs may wake it.
SCALES_OF_SILENT_NETWORKS = (10.0, 100.0)
QUIET = 1e-6
# Cut and masked original add the same numbers in another order, which costs about as much as one more rounding of
# every weight: in trials on twenty networks the difference was at most 2.5 times that.
NOISE_FACTOR = 8
FLOOR = 1e-5  # a few roundings of float32, whatever the noise drawn; a wrong cut differs by more than 1e-2
CEILING = 1e-2
QUANTUM = 1 / 127  # of an output that fills the range of eight bits, the larger half of it where they have a sign
REPORT = "Nothing was written. This is a defect of cutback: please report it with the model and the plan."
HIDDEN = (
    "With its removed channels zeroed the original gives outputs that are no number where the cut network gives one: "
    "for random inputs some channels of {tensor} are infinite or no number, and zero times that is no number. So the "
    "cut cannot be shown to be right. Nothing was written. Leave those channels as they are with --exclude."
)
SILENT = (
    "the proof compared outputs that are the same for every random input (zeros, say): it shows that the cut network "
    "gives them too, and nothing else"
)
# Operators whose other inputs are weights.
WEIGHTED = {"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "BatchNormalization"}


@dataclass(frozen=True)
class Proof:
    """`relative_error`: largest difference between the outputs, as a share of the masked original's largest output.

    `noise` is the same for the masked original and itself with every weight and input off by one rounding; what is
    allowed follows from it. `scale` is that of the random inputs. All of them are those of the graphs in float32, and
    with activations that are not rounded to quanta: with the rounding, outputs differ by at most `quanta` of them.
    `doubt`: why the comparison may say nothing, or None.
    """

    relative_error: float
    tolerance: float
    inputs: int
    noise: float
    scale: float
    quanta: float = 0.0
    doubt: str | None = None


def prove(cut: Model, masked: Model, *, seed: int = 0) -> Proof:
    """Run both on random inputs, unoptimised.

    Raises ProofFailed where they differ by more than rounding, BadInput where the masked original gives no number.
    """
    pair = [_runnable(model) for model in (cut, masked)]
    if not pair[1].proto.graph.node:  # all of it hangs on a foreign operator, so that nothing was cut
        return Proof(0.0, FLOOR, 0, 0.0, 1.0)
    smooth = [replace(model, proto=without_rounding(model.proto)) for model in pair]
    proof = _compare(smooth[0], smooth[1], seed)
    if not proof.relative_error <= proof.tolerance:
        raise ProofFailed(
            f"The cut network differs from the masked original by {proof.relative_error:.1e} "
            f"(allowed: {proof.tolerance:.1e}). {REPORT}"
        )
    if smooth[1].proto is pair[1].proto:
        return proof
    rounded = _compare(pair[0], pair[1], seed)
    quanta = rounded.relative_error / QUANTUM
    if not quanta <= max(1.0, NOISE_FACTOR * rounded.noise / QUANTUM):
        raise ProofFailed(f"The cut network differs from the masked original by {quanta:.1f} quanta. {REPORT}")
    return replace(proof, quanta=quanta)


def _runnable(model: Model) -> Model:
    proto, bound = without_foreign(model.proto, model.bound)
    return drawn(replace(model, proto=in_float32(proto), bound=bound))


def _compare(cut: Model, masked: Model, seed: int) -> Proof:
    original, ours = Runner(masked.proto), Runner(cut.proto)
    noisy = Runner(_one_rounding_off(masked.proto, seed))
    scale, noise = _quiet_scale(masked, original, noisy, seed)
    error = 0.0
    seen = []
    for number in range(RANDOM_INPUTS):
        feeds = random_feeds(masked, seed + number, scale=scale)
        theirs, outputs = original(feeds), ours(feeds)
        seen.append(theirs)
        if hides_numbers(outputs, theirs):
            tensor = hiding_tensor(cut, masked, feeds)
            if tensor is not None:
                raise BadInput(HIDDEN.format(tensor=tensor))
            raise ProofFailed(f"The masked original's outputs are no number where the cut network's are. {REPORT}")
        error = max(error, outputs_agree(outputs, theirs))
        noise = max(noise, outputs_agree(noisy(_jittered(feeds, seed)), theirs))
    doubt = SILENT if all(_same(seen[0], other) for other in seen[1:]) else None
    return Proof(error, min(max(FLOOR, NOISE_FACTOR * noise), CEILING), RANDOM_INPUTS, noise, scale, doubt=doubt)


def random_feeds(model: Model, seed: int, *, scale: float = 1.0) -> Feeds:
    """Random inputs at the bound shapes, floats of the given scale."""
    return draw(model.proto, model.bound, seed, scale=scale)


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
    return max(difference(outputs[name], others[name]) for name in others)


def _quiet_scale(model: Model, original: Runner, noisy: Runner, seed: int) -> tuple[float, float]:
    """The scale of inputs to compare at, and the noise there: the first quiet one at which outputs depend on what comes
    in, else the quietest of those."""
    noises: dict[float, float] = {}
    for scale in (*SCALES, *SCALES_OF_SILENT_NETWORKS):
        if noises and scale in SCALES_OF_SILENT_NETWORKS:
            break
        feeds = random_feeds(model, seed, scale=scale)
        outputs = original(feeds)
        if not _finite(outputs) or _same(outputs, original(random_feeds(model, seed + 1, scale=scale))):
            continue
        noises[scale] = outputs_agree(noisy(_jittered(feeds, seed)), outputs)
        if noises[scale] <= QUIET:
            break
    if not noises:
        return SCALES[0], 0.0  # outputs overflow, or never change, whatever comes in: what is finite is compared
    best = min(noises, key=lambda scale: noises[scale])
    return best, noises[best]


def _one_rounding_off(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Every weight moved up or down by one unit of its precision."""
    off = onnx.ModelProto()
    off.CopyFrom(proto)
    read = {name for node in proto.graph.node if node.op_type in WEIGHTED for name in node.input[1:]}
    weights = read | _scales_of(proto, read)
    generator = np.random.default_rng(seed)
    for tensor in off.graph.initializer:
        if tensor.name in weights:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(_jitter(values, generator), tensor.name))
    return off


def _scales_of(proto: onnx.ModelProto, weights: set[str]) -> set[str]:
    """The scales of the weights that come as integers."""
    return {
        node.input[1] for node in proto.graph.node if node.op_type == "DequantizeLinear" and node.output[0] in weights
    }


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


def _same(outputs: Mapping[str, NDArray[np.generic]], others: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether no output depends on which of the two inputs it was."""
    return all(
        np.array_equal(values, others[name], equal_nan=np.issubdtype(values.dtype, np.floating))
        for name, values in outputs.items()
    )
