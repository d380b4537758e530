"""Join MNN's operators to the tensors of the graph it was given (host side).

Its converter names an operator after the tensor that it made in ONNX. What it adds for layouts (`Raster`), and what it
splits, is named after that with something behind it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from targets.kernels import Kernel
from targets.runtimes.join_by_names import Ran, join_by_names

# What takes any letters takes all that may follow: told once, so that no name can be read in more than one way.
OPEN = r"(___tr4\w*|__matmul_\w+|_reshape\w*)"
CLOSED = r"(__before_tr|__after_tr|_raster_\d+)"
ADDED = re.compile(rf"({CLOSED}*{OPEN}|{CLOSED}+)$")


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` kernels in the order of execution -> kernels in the same order."""
    ran = [
        Ran(
            name=entry["name"],
            op=entry["op"],
            samples_ns=tuple(entry["samples_ns"]),
            claims=(entry["name"],),
            hints=(ADDED.sub("", entry["name"]),),
        )
        for entry in raw
    ]
    return join_by_names(ran, source, shapes)
