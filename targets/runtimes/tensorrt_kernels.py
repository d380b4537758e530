"""Join TensorRT's layers to the tensors of the graph they were built from (host side).

From 8.6 on the inspector keeps the ONNX names of a layer as metadata; before, the layer itself is called after them. A
reformat is called after the layer or tensor that it stands before.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from targets.foreign_json import parsed
from targets.kernels import Kernel
from targets.runtimes.join_by_names import Ran, join_by_names

IN_METADATA = "[ONNX Layer: "  # name]
WRAPPED = re.compile(r"PWN\((.*)\)")
REFORMAT = re.compile(r"Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (.+)")


def join(
    raw: Sequence[Mapping[str, Any]], graph: Path, source: Path, shapes: Mapping[str, Sequence[int]]
) -> tuple[Kernel, ...]:
    """`raw` layers and the engine's description by the inspector -> kernels in the same order."""
    told = parsed(graph.read_bytes())
    layers = {layer["Name"]: layer for layer in told["Layers"] if isinstance(layer, dict)}
    ran = []
    for entry in raw:
        layer = layers.get(entry["name"], {})
        reformat = REFORMAT.match(entry["name"])
        ran.append(
            Ran(
                name=entry["name"],
                op=str(layer.get("LayerType", "Reformat" if reformat else "unknown")),
                samples_ns=tuple(entry["samples_ns"]),
                claims=() if reformat else names_in(entry["name"], str(layer.get("Metadata", ""))),
                hints=tuple(names_in(reformat[1], "")) if reformat else (),
            )
        )
    return join_by_names(ran, source, shapes)


def names_in(name: str, metadata: str) -> tuple[str, ...]:
    found = [name for part in metadata.split(IN_METADATA)[1:] if (name := part.partition("]")[0])]
    if found:
        return tuple(found)
    parts = [part.strip() for part in name.split(" + ")]
    return tuple(inner[1] if (inner := WRAPPED.fullmatch(part)) else part for part in parts)
