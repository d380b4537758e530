"""The most memory that one task on one model takes, as a program of its own: the figure is the process's.

    python -m benchmarks.peak analyse-and-cut model.onnx

Prints MiB: at its peak, and before anything was loaded. Linux only (VmHWM).
"""

import contextlib
import io
import sys
from pathlib import Path

SHARE = 0.5


def analyse_and_cut(path: str) -> None:
    from pipeline.graph.couple import couple
    from pipeline.graph.cut import cut
    from pipeline.graph.model import load

    model = load(path)
    channels = couple(model)
    cut(model, channels, {group.id: tuple(range(int(group.channels * SHARE))) for group in channels.free})


def inspect(path: str) -> None:
    from pipeline.cli.main import main as cutback

    with contextlib.redirect_stdout(io.StringIO()):
        status = cutback(["inspect", path])
    if status:
        sys.exit(status)


def generate(path: str, weight_bytes: int) -> None:
    import onnx

    from benchmarks.graphs import wide

    onnx.save(wide(weight_bytes), path)


TASKS = {"analyse-and-cut": analyse_and_cut, "inspect": inspect}


def main(arguments: list[str]) -> None:
    task, path = arguments[0], arguments[1]
    if task == "generate":
        generate(path, int(arguments[2]))
        return
    before = peak_mib()
    TASKS[task](path)
    print(f"{peak_mib():.0f} {before:.0f}")


def peak_mib() -> float:
    """The most this process has held so far."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
