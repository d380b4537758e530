"""Two regimes that are never mixed, and whether a device is in the one that its target names (device side)."""

from __future__ import annotations

from typing import Any, Mapping

from targets.errors import TargetError

LOCKED, AS_SHIPPED = "locked", "as-shipped"


def check_regime(regime: str, lock: Mapping[str, Any], device: str) -> None:
    """`TargetError`, with the command that holds them, where the clocks are free and the target says otherwise.
    `lock`: a `source.Lock` as JSON."""
    if regime == LOCKED and lock.get("held") is False:
        raise TargetError(
            f"The regime of {device} is locked, and its clocks are not held: {lock.get('seen')}. "
            f"Run there: {lock.get('how')}"
        )


def regime_doubts(regime: str, lock: Mapping[str, Any]) -> list[str]:
    held, how = lock.get("held"), lock.get("how")
    if regime == LOCKED and held is None:
        hint = f" To hold them, run there: {how}" if how else ""
        return [f"Whether its clocks are held, as its regime says, cannot be read on this device.{hint}"]
    if regime == AS_SHIPPED and held is True and lock.get("by_hand") is True:
        return [
            f"Its clocks look held ({lock.get('seen')}), and its regime is as-shipped. Say regime=locked if they are."
        ]
    return []
