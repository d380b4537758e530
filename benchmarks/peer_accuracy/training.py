"""Step `train`: the same recovery for every point, one after the other, each resumable at its last epoch."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from benchmarks.peer_accuracy.points import PREPROCESSING, Point, original, recovery
from benchmarks.peer_accuracy.remembered import Remembered
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.model import load, save
from pipeline.graph.proof import prove
from pipeline.stages.opening import open_samples
from pipeline.stages.recovering import recover_model


def train_all(points: Sequence[Point], data: Path, epochs: int, *, bf16: bool, threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    for number, point in enumerate(points, 1):
        where = f"{point.network} {point.name} ({number} of {len(points)})"
        if point.done("recovery.json"):
            print(f"{where}: already trained", flush=True)
            continue
        print(f"{where}: training", flush=True)
        train(point, data, epochs, bf16=bf16)
        result = point.read("recovery.json")
        print(f"{where}: {result['best_value']:.2f} on held-out images, {result['seconds'] / 60:.1f} min", flush=True)


def train(point: Point, data: Path, epochs: int, *, bf16: bool) -> None:
    """recovered.onnx with batch-norm kept, final.onnx with it folded, and what the recovery says of itself."""
    teacher = original(point.work, point.network).model
    student = load(point.folder / "cut.onnx", teacher.bound)
    samples = open_samples(teacher, str(data / "train.npz"), PREPROCESSING)

    def remembered(module: nn.Module) -> nn.Module:
        content = hashlib.blake2b(teacher.proto.SerializeToString(deterministic=True), digest_size=8).hexdigest()
        return Remembered(module, point.work / point.network / f"teacher-{content}")

    trained, record = recover_model(
        student, teacher, samples, recovery(epochs, bf16=bf16), point.folder, _epoch_printer(point), remembered
    )
    save(trained, point.folder / "recovered.onnx")
    final = fold_batchnorm(trained)
    prove(final, trained)
    save(final, point.folder / "final.onnx")
    point.write("recovery.json", record)


def _epoch_printer(point: Point) -> Callable[[int, int, str], None]:
    """A line an epoch: seconds by the clock, and of this process alone, which a pause leaves as they are."""
    before = [time.perf_counter(), time.process_time()]
    seen: list[str] = []

    def show(done: int, total: int, note: str) -> None:
        epoch = note.partition(",")[0]
        if (seen and epoch != seen[0]) or done == total:
            now = [time.perf_counter(), time.process_time()]
            clock, own = (after - start for after, start in zip(now, before, strict=True))
            before[:] = now
            print(
                f"{point.network} {point.name}: {seen[0] if seen else note}, {clock:.0f} s ({own:.0f} s CPU)",
                flush=True,
            )
        seen[:] = [epoch]

    return show
