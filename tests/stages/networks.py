"""Networks that stages are tried on: small families from the zoo, opened, and random legal plans over them."""

from functools import cache

import numpy as np

from calibration.arrays import ArraySamples
from pipeline.graph.couple import couple
from pipeline.graph.model import Model, from_proto
from pipeline.stages.opening import Opened
from tests.graph.exports import exported

# Residual branches of both kinds, depthwise, squeeze-and-excite, concatenation, grouped convolutions of both kinds.
COSTED = ("resnet_basic", "resnet_bottleneck", "mobilenet_v2", "efficientnet", "densenet", "resnext", "regnet", "vgg")


@cache
def opened(family: str) -> Opened:
    """With batch-norm kept and a free batch. Shared: nobody changes it."""
    return of(from_proto(exported(family, "legacy_kept", free=True)))


def of(model: Model) -> Opened:
    return Opened(model, couple(model), "test", "0" * 64)


def images(count: int = 24, seed: int = 0, labelled: bool = True) -> ArraySamples:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((count, 3, 32, 32)).astype(np.float32)
    labels = generator.integers(0, 10, count) if labelled else None
    return ArraySamples({"input": values}, labels, {})


def random_counts(net: Opened, seed: int, vanish: bool) -> dict[str, int]:
    """Channels of every group; free ones at random, some branches gone with all that lies inside."""
    generator = np.random.default_rng(seed)
    counts = {
        group.id: group.channels if group.locked_because else int(generator.integers(1, group.channels + 1))
        for group in net.channels.groups
    }
    gone = {g.id for g in net.channels.free if vanish and g.vanishes and generator.random() < 0.5}
    return {g.id: 0 if g.vanishes_with in gone else counts[g.id] for g in net.channels.groups}


def first(counts: dict[str, int]) -> dict[str, tuple[int, ...]]:
    return {group: tuple(range(count)) for group, count in counts.items()}
