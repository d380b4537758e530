"""The points that are compared, where each is kept, and what all of them share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer import Rule
from calibration.preprocessing import Preprocessing
from pipeline.stages.opening import Opened, open_model
from pipeline.training.config import RecoveryConfig
from pipeline.workspace import write_json
from targets.errors import BadInput

NETWORKS = ("resnet20", "resnet56")
SIZE, IMAGE = 32, "input"
PREPROCESSING = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SCORED_ON = 1024  # images, the same for both tools
SEED = 0

# Shares of the uncut network: of its measured latency for ours, of its multiply-adds for the peer, which knows no
# latency. Rounded to 16, it cannot go below 0.6 when the residual stream stays.
SHARES: Mapping[str, tuple[float, ...]] = {
    "ours": (0.8, 0.65, 0.5, 0.4),
    "peer": (0.8, 0.65, 0.5, 0.35),
    "peer8": (0.8, 0.65, 0.5, 0.35),
    "peer16": (0.9, 0.8, 0.7, 0.6),
}
ROUNDING: Mapping[str, int | None] = {"peer": None, "peer8": 8, "peer16": 16}
NAMES = {
    "ours": "cutback",
    "peer": "Torch-Pruning, defaults",
    "peer8": "Torch-Pruning, round_to=8",
    "peer16": "Torch-Pruning, round_to=16",
}


@dataclass(frozen=True)
class Point:
    """One cut network. Everything about it lies in `folder`."""

    network: str
    method: str
    share: float
    work: Path

    @property
    def name(self) -> str:
        return f"{self.method}-{self.share:g}"

    @property
    def folder(self) -> Path:
        return self.work / self.network / self.name

    def rule(self, criterion: Any) -> Rule:
        return Rule(criterion, ROUNDING[self.method])

    def done(self, file: str) -> bool:
        return (self.folder / file).exists()

    def read(self, file: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self.folder / file).read_text(encoding="utf-8"))
        return found

    def write(self, file: str, content: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / file, dict(content))


def points(
    work: Path, networks: Sequence[str], methods: Sequence[str], shares: Sequence[float] | None = None
) -> list[Point]:
    """All that are asked for, network by network; `shares` None: each method's own."""
    return [
        Point(network, method, share, work)
        for network in networks
        for method in methods
        for share in (shares or SHARES[method])
    ]


def cut_points(asked: Sequence[Point]) -> list[Point]:
    """Those that have been cut and are not the same network as an earlier one of their method."""
    return [
        point
        for point in asked
        if point.done("cut.json") and not (point.read("cut.json").keys() & {"failure", "same_as"})
    ]


def original(work: Path, network: str) -> Opened:
    """The uncut network, exported as the peer's are."""
    path = work / network / "original.onnx"
    if not path.exists():
        raise BadInput(f"{path}: no such file. Run the step `cut` first.")
    return open_model(str(path), {})


def recovery(epochs: int, *, bf16: bool) -> RecoveryConfig:
    """The same for every point; epochs and precision are fixed, so that the clock decides nothing."""
    return RecoveryConfig(epochs=epochs, augmentation=("flip", "crop:4"), bf16=bf16, seed=SEED)
