"""A network that plans are tried on: really cut, run on samples, and fine-tuned where a plan is adopted."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np

from calibration.batches import Samples, take
from pipeline.allocation.problem import Scores
from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels, couple
from pipeline.graph.cut import cut, whole
from pipeline.graph.model import Model, free_batch
from pipeline.graph.settle import fold_constants, left_adds
from pipeline.training.config import RecoveryConfig
from targets.errors import BadInput

UPDATES = 40  # of one fine-tune: what a few cut channels take, not a recovery
SHORT = RecoveryConfig(epochs=1, learning_rate=0.005, batch_size=32, bf16=False)
SAMPLES = 256  # the loss is taken on; more cost time with every plan
BATCH = 64


@final
class NetworkTrial:
    """A `Trial` (see pipeline.allocation): plans over the groups that have scores, the best-scored channels staying.

    The loss is that of the recovery: likeness to the uncut network, and labels where there are any, averaged over
    `count` samples in eval mode, batch-norm statistics as they are. `adopt` cuts, trains for about `updates` updates
    with `config` on other random samples, and goes on from there; plans may then not be wider than what was adopted.
    Nothing given is changed. One thread at a time.
    """

    def __init__(
        self,
        model: Model,
        channels: Channels,
        scores: Scores,
        samples: Samples,
        *,
        config: RecoveryConfig = SHORT,
        updates: int = UPDATES,
        count: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self._original = self._model = model
        self._uncut = self._channels = channels
        self._scores = scores
        self._samples = samples
        self._config = replace(config, seed=seed)
        self._updates = updates
        self._batches = list(take(samples, count, seed).batches(BATCH))
        self._kept = self._all = {group: tuple(range(len(values))) for group, values in scores.items()}
        self._losses: dict[tuple[tuple[str, int], ...], float] = {}
        self._uncut_losses = self._losses  # kept for good: a table of sensitivities is asked for again and again
        self._adopted = 0
        self._teacher: list[list[Any]] | None = None

    def loss(self, channels: Mapping[str, int]) -> float:
        """Mean loss of the network at these widths. A plan that was asked for before costs nothing."""
        key = tuple(sorted(channels.items()))
        if key not in self._losses:
            self._losses[key] = self._measured(self._cut(self._choose(channels)))
        return self._losses[key]

    def adopt(self, channels: Mapping[str, int]) -> None:
        """Go on from this plan, after a short fine-tune; from the network as it was given where nothing is cut."""
        from pipeline.stages.recovering import recover_model  # torch

        if all(channels.get(group, len(present)) == len(present) for group, present in self._all.items()):
            self._model, self._channels, self._kept = self._original, self._uncut, self._all
            self._losses, self._adopted = self._uncut_losses, 0
            return
        chosen = self._choose(channels)
        smaller = self._cut(chosen)
        self._adopted += 1
        config = replace(self._config, seed=self._config.seed + self._adopted)
        some = take(self._samples, self._updates * config.batch_size, config.seed)
        with tempfile.TemporaryDirectory(prefix="cutback-trial-") as folder:
            self._model, _ = recover_model(smaller, self._original, some, config, Path(folder))
        self._channels = couple(self._model, blocks=self._channels.blocks)
        self._kept = chosen
        self._losses = {}

    def _choose(self, channels: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """For each group the best-scored channels of those still there, by their numbers in the uncut network."""
        chosen = {}
        for group, present in self._kept.items():
            count = channels.get(group, len(present))
            if count > len(present):
                raise BadInput(f"Group {group} was cut to {len(present)} channels; {count} cannot be tried any more.")
            order = sorted(present, key=lambda channel: (-self._scores[group][channel], channel))
            chosen[group] = tuple(sorted(order[:count]))
        return chosen

    def _cut(self, chosen: Mapping[str, tuple[int, ...]]) -> Model:
        kept: Kept = {
            group: tuple(int(i) for i in np.searchsorted(self._kept[group], channels))
            for group, channels in chosen.items()
            if self._kept[group]
        }
        known = {group.id for group in self._channels.groups}
        if lost := [group for group in kept if group not in known and len(kept[group]) < len(self._kept[group])]:
            raise BadInput(f"Group {lost[0]} is not found in the network that was adopted: it cannot be cut further.")
        full = whole(self._channels, {group: channels for group, channels in kept.items() if group in known})
        adds = left_adds(self._model, self._channels, full)
        return fold_constants(cut(self._model, self._channels, full), adds)

    def _measured(self, model: Model) -> float:
        import torch

        from pipeline.autograd.module import OnnxModule
        from pipeline.training.distillation import choose_loss, loss_value
        from pipeline.training.teacher import Teacher, tensors

        def network(of: Model) -> Teacher:
            module = OnnxModule(free_batch(of), one_by_one=self._samples.most == 1).eval()
            return Teacher(module, bf16=False, channels_last=False)

        inputs = [tensors(batch.inputs, channels_last=False) for batch in self._batches]
        if self._teacher is None:
            original = network(self._original)
            self._teacher = [original.run(batch) for batch in inputs]
        config = self._config
        kind = choose_loss(
            self._teacher[0][0],
            teacher=True,
            labels=self._batches[0].labels is not None and self._batches[0].labels.ndim == 1,
            distillation_weight=config.distillation_weight,
            label_weight=config.label_weight,
            temperature=config.temperature,
        )
        student, total, count = network(model), 0.0, 0
        for batch, ready, theirs in zip(self._batches, inputs, self._teacher, strict=True):
            labels = None if batch.labels is None else torch.from_numpy(batch.labels)
            size = len(next(iter(batch.inputs.values())))
            total += float(loss_value(kind, student.run(ready), theirs, labels)) * size
            count += size
        return total / count
