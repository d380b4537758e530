"""Train a small residual network on the handwritten digits that come with scikit-learn, for `make demo`.

Writes digits.onnx (batch-norm kept, free batch), train.npz and test.npz into the output folder. The digits are scans
(UCI optdigits, 1797 of 8 x 8 pixels), enlarged to 32 x 32 here; nothing is downloaded.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 32
WIDTHS = (32, 64, 128)
BLOCKS = 2
LARGEST_SHIFT = 2  # pixels of the enlarged picture; digits are centred, more would leave the frame


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class DigitNet(nn.Module):
    """Pictures (N, 1, 32, 32) in -1..1 to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()]
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for index in range(BLOCKS):
                layers.append(Block(inputs, width, 2 if stage > 0 and index == 0 else 1))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.features(image))
        logits: Tensor = self.classifier(pooled.flatten(1))
        return logits


def load(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(pictures, labels) to train with and to test with, two thirds and one third, classes in the same proportions."""
    digits = load_digits()
    small = torch.from_numpy(digits.images.astype(np.float32))[:, None] / 8 - 1
    pictures = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=seed, stratify=digits.target)
    return (pictures[train], labels[train]), (pictures[test], labels[test])


def shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to LARGEST_SHIFT pixels along both axes; background comes in at the border."""
    margin = LARGEST_SHIFT
    padded = F.pad(pictures, (margin, margin, margin, margin), value=-1.0)
    moves = torch.randint(0, 2 * margin + 1, (len(pictures), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + SIZE, x : x + SIZE] for one, (y, x) in zip(padded, moves, strict=True)])


def train(network: nn.Module, pictures: Tensor, labels: Tensor, *, epochs: int, batch: int, seed: int) -> None:
    """SGD over one cycle of the learning rate."""
    generator = torch.Generator().manual_seed(seed)
    steps = len(pictures) // batch
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=epochs * steps, pct_start=0.25)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub leaves it out
    for epoch in range(epochs):
        order = torch.randperm(len(pictures), generator=generator)
        total = 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            images = shifted(pictures[chosen], generator).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(images), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.3f}", flush=True)


def accuracy(network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    """Share of right answers, in per cent."""
    network.eval()
    with torch.no_grad():
        return 100.0 * float((network(pictures).argmax(1) == labels).double().mean())


def export(network: nn.Module, path: Path) -> None:
    """Write ONNX with batch-norm as nodes of its own, so that what is cut can be trained on."""
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
    with warnings.catch_warnings():
        # The newer exporter folds batch-norm away; the older one keeps it, and says twice that it is the older one.
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, SIZE, SIZE),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )


def save(path: Path, pictures: Tensor, labels: Tensor) -> None:
    arrays: dict[str, NDArray[np.generic]] = {"image": pictures.numpy(), "labels": labels.numpy()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-out"), help="folder to write into")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    network = DigitNet()
    (train_pictures, train_labels), (test_pictures, test_labels) = load(options.seed)
    start = time.perf_counter()
    train(network, train_pictures, train_labels, epochs=options.epochs, batch=64, seed=options.seed)
    right = accuracy(network, test_pictures, test_labels)
    print(
        f"{right:.2f} % of {len(test_labels)} test digits right after {time.perf_counter() - start:.0f} s of training"
    )

    export(network, options.output / "digits.onnx")
    save(options.output / "train.npz", train_pictures, train_labels)
    save(options.output / "test.npz", test_pictures, test_labels)
    print(f"wrote digits.onnx, train.npz and test.npz into {options.output}")


if __name__ == "__main__":
    main()
