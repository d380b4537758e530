"""Trying plans out: what an allocator may ask of the network itself, beside scores and cost tables."""

from collections.abc import Mapping
from typing import Protocol

from targets.errors import BadInput


class Trial(Protocol):
    """A network whose groups can be thinned for a test. Plans are group -> channels, for every group that is chosen.

    `loss` may be asked any number of times and changes nothing; it depends on what was adopted before.
    """

    def loss(self, channels: Mapping[str, int]) -> float:
        """Of the network at these widths, its weights as they are: the best-scored channels of every group stay."""
        ...

    def adopt(self, channels: Mapping[str, int]) -> None:
        """Go on from this plan: a short fine-tune of the network at these widths. The uncut plan goes back to the
        network as it was at first."""
        ...


def needed(trial: Trial | None, allocator: str) -> Trial:
    """The trial; BadInput where there is none."""
    if trial is None:
        raise BadInput(f"The allocator {allocator} tries plans out on samples. Give samples (--data), or use exact.")
    return trial
