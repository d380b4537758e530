"""Open what the user names: a model (ONNX file or torch module) with its channels, and the samples that fit it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from calibration.batches import InputSpec, OneByOne, Samples
from calibration.entry_points import is_entry_point
from calibration.preprocessing import Preprocessing
from calibration.samples import load_samples
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels, couple
from pipeline.graph.labels import Blocks
from pipeline.graph.model import Model, input_specs, load
from pipeline.graph.writing import digest
from pipeline.stages.batching import takes_batches
from targets.errors import BadInput


@dataclass(frozen=True, eq=False)
class Opened:
    """A model and its coupled channels. `sha256` is of the graph in its plain form."""

    model: Model
    channels: Channels
    source: str
    sha256: str


def open_model(
    source: str, shapes: Mapping[str, Sequence[int]], example_inputs: str | None = None, *, blocks: Blocks = "auto"
) -> Opened:
    """`source`: an .onnx file, or `module:callable` giving a torch module, exported with batch-norm kept."""
    if is_entry_point(source):
        from pipeline.stages.torch_source import export

        model = export(source, shapes, example_inputs)
    else:
        model = load(Path(source), shapes)
    return Opened(model, couple(model, blocks=blocks), source, digest(model.proto))


def open_samples(model: Model, source: str, preprocessing: Preprocessing | None) -> Samples:
    """Samples for the model's inputs, at the bound shapes; the batch axis is free. They come one by one where the
    network takes no more at once."""
    specs = [InputSpec(spec.name, (None, *model.bound[spec.name][1:]), spec.dtype) for spec in input_specs(model.proto)]
    samples = load_samples(source, specs, preprocessing)
    return samples if takes_batches(model) else OneByOne(samples)


def groups_to_cut(
    channels: Channels, *, include: Sequence[str] = (), exclude: Sequence[str] = (), inexact: bool = False
) -> tuple[ChannelGroup, ...]:
    """The free groups that patterns allow; inexact ones only when asked for. BadInput for a pattern nothing matches,
    and when no group is left."""
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(group.id, pattern) for group in channels.groups):
            raise BadInput(f"No channel group matches {pattern!r}. The groups are listed by: cutback inspect MODEL")
    chosen = tuple(
        group
        for group in channels.free
        if (inexact or group.exact)
        and (not include or any(fnmatchcase(group.id, pattern) for pattern in include))
        and not any(fnmatchcase(group.id, pattern) for pattern in exclude)
    )
    if not chosen and not inexact and any(not group.exact for group in channels.free):
        raise BadInput(
            "Every group that may be cut is one that a norm or softmax runs over. Give --inexact to cut those."
        )
    if not chosen:
        locked = sorted({group.locked_because for group in channels.groups if group.locked_because})
        why = next(iter((*channels.refused, *locked)), "it has no convolution or matrix product with weights")
        raise BadInput(f"No group of channels may be cut ({why}). See: cutback inspect MODEL")
    return chosen
