"""One host of a fleet's storm, as a process: it measures small networks on devices of two kinds and records the times.

    python -m tests.targets.fleet_host NAME SIDE DATABASE TARGET...

Each TARGET is `COUNT:DEVICES:JSON`: so many networks, by so many connections. It prints a line of JSON for each one.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import helper

from pipeline.latency.crew import shared_out
from targets.connection import Connection
from targets.fleet import connect_fleet
from targets.profiles.rows import rows_of
from targets.profiles.store import ProfileStore
from targets.target import Target
from tests.targets.models import model_of, saved


def measure(name: str, side: int, database: str, target: Target, count: int, devices: int) -> None:
    store = ProfileStore(database)
    with tempfile.TemporaryDirectory() as folder, connect_fleet(target, devices) as crew:

        def take(number: int, by: Connection) -> None:
            weights = {"w": np.ones((number + 1, 3, 3, 3), np.float32)}
            node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
            outputs: Sequence[int] = [1, number + 1, side - 2, side - 2]
            path = Path(folder, f"{number}.onnx")
            profile = by.profile(
                saved(model_of([node], {"x": [1, 3, side, side]}, {"y": outputs}, weights), path),
                runs=2, kernels_only=True,
            )  # fmt: skip
            session = f"{name}-{target.tag}-{number}"
            rows = rows_of(profile, session)
            store.add(rows)
            told = {"session": session, "tag": target.tag, "rows": [(row.key.digest, row.index) for row in rows]}
            sys.stdout.write(json.dumps({**told, "observed": dict(profile.device.observed)}) + "\n")

        for _ in shared_out(iter(range(count)), crew, take, lambda: None):
            pass
        sys.stdout.write(json.dumps({"repeated": sum(connection.repeated for connection in crew)}) + "\n")


def main() -> None:
    name, side, database, *targets = sys.argv[1:]
    failed: list[BaseException] = []

    def work(text: str) -> None:
        count, devices, fields = text.split(":", 2)
        try:
            measure(name, int(side), database, Target(**json.loads(fields)), int(count), int(devices))
        except BaseException as failure:  # noqa: BLE001 -- told by the status
            failed.append(failure)

    threads = [threading.Thread(target=work, args=(text,)) for text in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit("; ".join(map(str, failed)) if failed else 0)


if __name__ == "__main__":
    main()
