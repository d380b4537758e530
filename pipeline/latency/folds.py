"""Which samples are left out of a fit together, so that it can be judged by them."""

from collections.abc import Sequence

from pipeline.latency.table import Sample

FOLDS = 5
FEWEST = 2 * FOLDS  # plans, to leave some of them out

Content = tuple[tuple[str, int], ...]


def plan_of(sample: Sample) -> Content:
    """The same for samples of the same plan."""
    return tuple(sorted(sample.channels.items()))


def fold_of_each(samples: Sequence[Sample]) -> list[int]:
    """Of FOLDS. A plan that was sampled more than once is in one of them."""
    numbers: dict[Content, int] = {}
    return [numbers.setdefault(plan_of(sample), len(numbers)) % FOLDS for sample in samples]
