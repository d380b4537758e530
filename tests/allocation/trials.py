"""A network for allocators to try plans on, small enough to be a formula."""

from collections.abc import Mapping

from pipeline.allocation import Scores


class Formula:
    """The loss is the share of all importance that is lost; adopting heals half of it."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._healed = 1.0
        self.adopted: list[dict[str, int]] = []

    def loss(self, channels: Mapping[str, int]) -> float:
        kept = sum(sum(sorted(values, reverse=True)[: channels[group]]) for group, values in self._scores.items())
        return self._healed * float(1.0 - kept / sum(sum(values) for values in self._scores.values()))

    def adopt(self, channels: Mapping[str, int]) -> None:
        uncut = all(channels[group] == len(values) for group, values in self._scores.items())
        self._healed = 1.0 if uncut else 0.5 * self._healed
        self.adopted.append(dict(channels))
