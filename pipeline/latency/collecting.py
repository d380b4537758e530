"""Samples of plans: read where they are known, else taken by whichever connection is free."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pipeline.latency.crew import at_work, shared_out
from pipeline.latency.table import Sample
from targets.connection import Connection

Plan = Mapping[str, int]
Progress = Callable[[int, int, str], None]


def collect(
    plans: Sequence[Plan],
    crew: Sequence[Connection],
    *,
    known: Callable[[Plan], Sample | None],
    take: Callable[[Plan, Connection], Sample],
    wanted_after: Callable[[Sample], int],
    on_progress: Progress | None = None,
) -> tuple[list[Sample], int]:
    """Samples in the order of the plans, and how many were taken. The first plan goes alone: `wanted_after` says by its
    sample how many of the plans are taken; of the others those that are known, up to the first that is not. What was
    taken is known from then on, if anything is."""
    found: dict[int, Sample] = {}
    wanted = len(plans)

    def fill(numbers: Iterable[int], crew: Sequence[Connection]) -> int:
        """How many were taken."""

        def show(number: int) -> None:
            if on_progress:
                on_progress(number, wanted, f"profiling cut networks in place{at_work(crew)}")

        same: dict[int, int] = {}  # plans that are just being taken, under an earlier number
        asked: dict[tuple[tuple[str, int], ...], int] = {}

        def missing() -> Iterator[int]:
            for number in numbers:
                show(min(number, len(found)))
                sample = known(plans[number])
                content = tuple(sorted(plans[number].items()))
                if sample is not None:
                    found[number] = sample
                elif content in asked and asked[content] not in found:
                    same[number] = asked[content]
                elif number >= wanted:
                    return
                else:
                    asked[content] = number
                    yield number

        taken = 0
        for number, sample in shared_out(missing(), crew, lambda n, by: take(plans[n], by), lambda: show(len(found))):
            found[number] = sample
            taken += 1
        found.update((number, found[earlier]) for number, earlier in same.items())
        return taken

    taken = fill(range(1), crew[:1])
    wanted = wanted_after(found[0])
    taken += fill(range(1, len(plans)), crew)
    return [found[number] for number in sorted(found)], taken
