"""Equal accuracy on real data: Torch-Pruning beside cutback on CIFAR-10, ResNet-20 and ResNet-56.

    python -m pip install --no-deps torch-pruning==1.6.1
    python -m benchmarks.peer_accuracy cut      -o WORK --checkpoints FOLDER --data FOLDER
    python -m benchmarks.peer_accuracy train    -o WORK --data FOLDER
    python -m benchmarks.peer_accuracy time     -o WORK
    python -m benchmarks.peer_accuracy accuracy -o WORK --data FOLDER
    python -m benchmarks.peer_accuracy report   -o WORK

checkpoints: NETWORK__ts_bn.onnx, with batch-norm kept and initialisers under the module's names. data: train.npz and
test.npz with x (uint8, N x 3 x 32 x 32, RGB) and y. Every step skips what WORK holds already, and goes on where it was
killed; `cut` of ours and `time` measure, so they want a quiet machine, the others do not. Subsets: --network, --method,
--point, each as often as wanted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peer_accuracy.points import NETWORKS, SHARES, cut_points, points
from pipeline.importance.criteria import default_criterion
from targets.errors import CutbackError

STEPS = ("cut", "train", "time", "accuracy", "report")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that everything is kept in")
    parser.add_argument("--checkpoints", type=Path, help="folder of the trained networks, for cut")
    parser.add_argument("--data", type=Path, help="folder of train.npz and test.npz, for cut, train and accuracy")
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--method", action="append", choices=list(SHARES))
    parser.add_argument("--point", action="append", type=float, help="shares instead of each method's own: --point 0.5")
    parser.add_argument("--db", default=None, help="profile database, for cut of ours")
    parser.add_argument(
        "--criterion", default=default_criterion(with_data=True), help="ours, for cut (default: as compress has it)"
    )
    parser.add_argument("--peer-criterion", default="taylor", choices=("taylor", "magnitude"))
    parser.add_argument("--epochs", type=int, default=10, help="for train (default: 10)")
    parser.add_argument("--float32", action="store_true", help="train in float32 instead of bfloat16")
    parser.add_argument("--threads", type=int, default=None, help="of torch, for train")
    parser.add_argument("--sessions", type=int, default=10, help="fresh sessions a network, for time (default: 10)")
    asked = parser.parse_args(arguments)
    try:
        run(asked)
    except CutbackError as error:
        sys.exit(str(error))


def run(asked: argparse.Namespace) -> None:
    """Heavy imports only for the step that needs them."""
    wanted = points(asked.output, asked.network or NETWORKS, asked.method or list(SHARES), asked.point)
    for option in {"cut": ("checkpoints", "data"), "train": ("data",), "accuracy": ("data",)}.get(asked.step, ()):
        if getattr(asked, option) is None:
            sys.exit(f"The step {asked.step} needs --{option} FOLDER.")
    if asked.step == "cut":
        from benchmarks.peer_accuracy.cutting import Asked, cut_all

        cut_all(Asked(wanted, asked.checkpoints, asked.data, asked.db, asked.criterion, asked.peer_criterion))
    elif asked.step == "train":
        from benchmarks.peer_accuracy.training import train_all

        train_all(cut_points(wanted), asked.data, asked.epochs, bf16=not asked.float32, threads=asked.threads)
    elif asked.step == "report":
        from benchmarks.peer_accuracy.reporting import report

        report(asked.output, asked.network or NETWORKS, wanted)
    else:
        from benchmarks.peer_accuracy.timing import accuracy_all, time_all

        finished = [point for point in cut_points(wanted) if point.done("final.onnx")]
        if not finished:
            sys.exit("No point is trained yet. Run the steps cut and train first.")
        if asked.step == "time":
            time_all(finished, asked.sessions)
        else:
            accuracy_all(finished, asked.data)


if __name__ == "__main__":
    main()
