"""Device: the fingerprint of a machine, as the machine itself reports it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from targets.errors import BadInput

EMULATED = "The device is emulated: its times say nothing about a real one."


@dataclass(frozen=True)
class Device:
    """What a timing was taken on. The first three parts are in every timing's key, `observed` is kept beside it.

    `device_class`: processor, cores, memory in whole GiB, architecture, instruction sets. `stack`: system, runtime,
    its version, provider and options. `regime`: threads, pinning, governor, and the target's regime. `observed`: host,
    serial, kernel, exact memory, load, temperature, time, where present. `emulated` devices compute right and time
    wrong: the profile database refuses them.
    """

    device_class: Mapping[str, Any]
    stack: Mapping[str, Any]
    regime: Mapping[str, Any]
    observed: Mapping[str, Any]
    emulated: bool = False

    @property
    def name(self) -> str:
        """For a person: the processor and the number of its cores."""
        return f"{self.device_class.get('cpu', 'unknown processor')}, {self.device_class.get('cores', '?')} cores"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Device":
        parts = {part: dict(data[part]) for part in ("device_class", "stack", "regime", "observed")}
        return cls(**parts, emulated=bool(data["emulated"]))


def refuse_emulated(device: Device, target: str) -> None:
    """`BadInput` where times are to be taken that nobody could use."""
    if device.emulated:
        raise BadInput(
            f"{target} is emulated ({device.device_class.get('arch', 'unknown architecture')}): what it computes is "
            "right, and how long it takes says nothing about a real one. Profile on the device itself; here, build and "
            "run."
        )
