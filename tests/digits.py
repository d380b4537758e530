"""A small residual network, really trained on the handwritten digits of scikit-learn, and the command that works on it.

Seconds to train. Large enough that its convolutions, not the runtime's own steps between them, take the time.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 16
TRAIN = 1200
WIDTHS = (32, 64)


@dataclass(frozen=True)
class Digits:
    """Files: the network (batch free) with batch-norm kept and with it folded, samples to learn from and to judge by.
    `right`: its top-1."""

    network: Path
    folded: Path
    train: Path
    test: Path
    right: float


def make_digits(folder: Path, epochs: int = 4) -> Digits:
    """Train, export and write the three files."""
    import torch
    from sklearn.datasets import load_digits
    from torch.nn import functional as F

    torch.manual_seed(0)
    pixels, classes = load_digits(return_X_y=True)
    small = torch.from_numpy((pixels.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32))
    pictures = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(classes.astype(np.int64))
    network = _network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(TRAIN)
        for indices in torch.from_numpy(order).split(64):
            optimiser.zero_grad()
            F.cross_entropy(network(pictures[indices]), labels[indices]).backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        right = 100 * float((network(pictures[TRAIN:]).argmax(1) == labels[TRAIN:]).double().mean())
    kept, folded = folder / "digits.onnx", folder / "folded.onnx"
    made = Digits(kept, folded, folder / "train.npz", folder / "test.npz", right)
    _export(network, made.network, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    _export(network, made.folded)
    for path, part in ((made.train, slice(None, TRAIN)), (made.test, slice(TRAIN, None))):
        np.savez(path, image=pictures[part].numpy(), labels=labels[part].numpy())
    return made


def _network() -> Any:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.branch = nn.Sequential(
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.branch(x) + x)

    first, second = WIDTHS
    return nn.Sequential(
        nn.Conv2d(1, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(), Residual(first),
        nn.Conv2d(first, second, 3, 2, 1, bias=False), nn.BatchNorm2d(second), nn.ReLU(), Residual(second),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(second, 10),
    )  # fmt: skip


def _export(network: Any, path: Path, **options: Any) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that keeps batch-norm apart is the older one, and says so
        torch.onnx.export(
            network, (torch.zeros(1, 1, SIDE, SIDE),), str(path), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17, dynamo=False,
            **options,
        )  # fmt: skip


@dataclass(frozen=True)
class Done:
    """One command that has run."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out, parse_constant=_refuse)

    @property
    def error(self) -> str:
        """The one line of error; nothing but progress may stand beside it, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("cutback: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        assert all(line.startswith("cutback: ") for line in self.err.splitlines()), self.err
        return lines[0]


def command(*arguments: object) -> list[str]:
    """The installed command where there is one, else the same function by name."""
    script = Path(sys.executable).with_name("cutback")
    start = (
        [str(script)]
        if script.exists()
        else [sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())"]
    )
    return [*start, *map(str, arguments)]


def cutback(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run the command as a user would, in a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, cwd=cwd, env={**os.environ, **(env or {})}
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")
