"""Join OpenVINO's kernels to the tensors of the graph it was given (host side)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from targets.foreign_json import parsed
from targets.kernels import Kernel
from targets.runtimes.join_by_names import Ran, join_by_names


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` kernels and the executed `graph`, as `openvino.executed` wrote it -> kernels in the same order."""
    executed = {node["name"]: node for node in parsed(graph.read_bytes())}
    ran = []
    for entry in raw:
        node = executed[entry["name"]]
        ran.append(
            Ran(
                name=node["name"],
                op=node["op"],
                samples_ns=tuple(entry["samples_ns"]),
                claims=tuple(node["originals"]),
                feeds_from=tuple(node["reads"]),
                layout=layout_of(node["layout"]),
                attributes={"primitive": node["primitive"]},
            )
        )
    return join_by_names(ran, source, shapes)


def layout_of(text: str) -> str:
    """`aBcd16b` holds channels in padded blocks; `acdb`, channels last, does not."""
    return "blocked" if any(letter.isupper() for letter in text) else "plain"
