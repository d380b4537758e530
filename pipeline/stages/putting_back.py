"""Batch-norm put back before training, where an exporter folded it, and folded again afterwards.

The network that is cut, scored and trained then has batch-norm; the network that is timed, and the one that is
delivered, has it folded, as the user gave it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from calibration.batches import Samples
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import couple
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.insert_batchnorm import (
    batchnorm_name,
    folded_convolutions,
    insert_batchnorm,
    normalised_convolutions,
)
from pipeline.graph.model import Model, input_specs
from pipeline.graph.proof import prove
from pipeline.graph.writing import digest
from pipeline.stages.moments import channel_moments
from pipeline.stages.opening import Opened
from targets.errors import ProofFailed

SAMPLES = 1024  # a few per cent of a standard deviation; after the cut, statistics are estimated again on all data
# An exporter folds every batch-norm that it can. Where more than these are left, it folded none, and a convolution
# without one had none to begin with.
LEFT_OVER = 0.1
NORMS = ("LayerNormalization", "GroupNormalization", "InstanceNormalization")
NOTHING = "no convolution is without one that may have had one"
Progress = Callable[[int, int, str], None]


def worth_putting_back(model: Model) -> tuple[tuple[str, ...], str]:
    """The tensors to put a batch-norm behind by default, and, where there are none, why."""
    found = folded_convolutions(model)
    graph = model.proto.graph
    if not found:
        return (), NOTHING
    if normalised_convolutions(model) > LEFT_OVER * len(found):
        return (), "the network has its own"
    if any(node.op_type in NORMS for node in graph.node):
        return (), "the network is normalised in another way"
    if _makes_pictures(model):
        return (), "a network from pictures to pictures trains better without (Lim et al. 2017)"
    return found, ""


def to_put_back(model: Model, how: str, *, trains: bool) -> tuple[tuple[str, ...], str]:
    """The tensors to put a batch-norm behind, and, where there are none, why. `how`: a key of HOW."""
    if not trains:
        return (), "the network is not trained"
    return HOW[how](model)


def put_back(
    model: Model, tensors: tuple[str, ...], samples: Samples, *, seed: int = 0, on_progress: Progress | None = None
) -> tuple[Model, dict[str, Any]]:
    """The model with a batch-norm behind each of `tensors`, proven equal, and what the report says of it.

    Raises ProofFailed where the outputs differ by more than rounding.
    """
    moments, count = channel_moments(model, tensors, samples, count=SAMPLES, seed=seed, on_progress=on_progress)
    normalised = insert_batchnorm(model, moments)
    record = {"put_back": len(tensors), "samples": count, **_equal(normalised, model, "put back", seed)}
    return normalised, record


def folded(model: Model, tensors: tuple[str, ...]) -> Model:
    """The model without the batch-norms that were put back behind `tensors`; those of the user's own graph stay."""
    return fold_batchnorm(model, only={batchnorm_name(tensor) for tensor in tensors})


def fold_again(trained: Model, tensors: tuple[str, ...], seed: int = 0) -> tuple[Model, dict[str, Any]]:
    """The trained network, folded, and how far its outputs moved. Raises ProofFailed where it is more than rounding."""
    final = folded(trained, tensors)
    if final is trained:
        return trained, {}
    return final, {f"folded_{name}": value for name, value in _equal(final, trained, "folded again", seed).items()}


def where_possible(model: Model) -> tuple[tuple[str, ...], str]:
    """All that may have had one, whatever speaks against it."""
    found = folded_convolutions(model)
    return found, "" if found else NOTHING


def as_given(model: Model) -> tuple[tuple[str, ...], str]:
    return (), "asked for as given"


HOW: Mapping[str, Callable[[Model], tuple[tuple[str, ...], str]]] = {
    "auto": worth_putting_back,
    "put-back": where_possible,
    "as-given": as_given,
}


def as_opened(model: Model, given: Opened) -> Opened:
    """The network with batch-norm put back, with the groups of the one that was given: a plan fits both.

    Raises ProofFailed where the groups differ, which they do for no graph that is known.
    """
    channels = couple(model, blocks=given.channels.blocks)
    ours, theirs = ([_signature(group) for group in groups] for groups in (channels.groups, given.channels.groups))
    if ours != theirs:
        raise ProofFailed(
            "With batch-norm put back, other channels go together than before. Nothing was written. "
            "Give --batchnorm as-given. This is a defect of cutback: please report it with the model."
        )
    sha256 = digest(model.proto)
    return Opened(model, channels, given.source, sha256)


def _signature(group: ChannelGroup) -> tuple[Any, ...]:
    return group.id, group.width, group.step, group.locked_because, group.exact, group.vanishes_with


def _equal(ours: Model, theirs: Model, done: str, seed: int) -> Mapping[str, float]:
    try:
        proof = prove(ours, theirs, seed=seed)
    except ProofFailed as error:
        raise ProofFailed(
            f"With batch-norm {done}, the network's outputs differ by more than rounding. Nothing was written. Give "
            "--batchnorm as-given. This is a defect of cutback: please report it with the model."
        ) from error
    return {"relative_error": proof.relative_error, "tolerance": proof.tolerance}


def _makes_pictures(model: Model) -> bool:
    """Whether an output has four axes, an input's channels and at least its size: super-resolution, denoising."""
    pictures = [model.bound[spec.name] for spec in input_specs(model.proto) if len(model.bound[spec.name]) == 4]
    outputs = [model.shapes.get(value.name, ()) for value in model.proto.graph.output]
    return any(
        len(output) == 4 and output[1] == picture[1] and output[2] >= picture[2] and output[3] >= picture[3]
        for output in outputs
        for picture in pictures
    )
