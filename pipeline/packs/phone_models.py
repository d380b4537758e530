"""One network in the formats that phones load, each made here, run here, and compared with the golden output."""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.graph.proof import outputs_agree
from pipeline.lowering import connect
from pipeline.packs.phone_spec import Arrays
from targets.comparison import BROKEN
from targets.connection import Tell, silent
from targets.errors import CutbackError, RuntimeMissing, TargetError
from targets.target import Target


@dataclass(frozen=True)
class Format:
    """`files`: of the pack. Where `packed`, they lie under the same names in the runtime's engine, a zip; else the
    engine is the one file. `install`: what brings the package. `required`: without it there is no pack."""

    runtime: str
    files: tuple[str, ...]
    install: str
    packed: bool = False
    required: bool = False
    precisions: tuple[str, ...] = ("",)  # what stands behind `model` in the names of the ONNX files that it is made of


FORMATS = (
    Format("ort", ("model.ort",), "pip install onnxruntime", required=True, precisions=("", "-int8")),
    Format("mnn", ("model.mnn",), "pip install 'cutback[mnn]'"),
    Format("ncnn", ("model.ncnn.param", "model.ncnn.bin"), "pip install 'cutback[ncnn]'", packed=True),
    Format("executorch", ("model.pte",), "pip install 'cutback[executorch]'", packed=True),
)


@dataclass(frozen=True, eq=False)
class Converted:
    """`models`: file -> what made it and how far it is from the golden output. `missing` and `refused`: the files that
    are not there, and why."""

    models: Mapping[str, Mapping[str, Any]]
    missing: tuple[Mapping[str, Any], ...]
    refused: tuple[Mapping[str, Any], ...]


def convert_all(
    folder: Path, formats: tuple[Format, ...], inputs: Arrays, outputs: Mapping[str, Arrays], tell: Tell = silent
) -> Converted:
    """Fill `folder`, where the ONNX files are. `outputs`: name of an ONNX file there -> what it gives for `inputs`."""
    models: dict[str, Mapping[str, Any]] = {}
    missing, refused = [], []
    for each in formats:
        for precision in each.precisions:
            source = f"model{precision}.onnx"
            if source not in outputs:
                continue
            names = tuple(name.replace("model", f"model{precision}", 1) for name in each.files)
            try:
                told = convert(folder / source, each, names, inputs, outputs[source], tell)
                models |= {name: {**told, "bytes": (folder / name).stat().st_size} for name in names}
            except RuntimeMissing as failure:
                if each.required:
                    raise
                missing.append({"files": list(names), "why": str(failure), "install": each.install})
            except CutbackError as failure:
                if each.required:
                    raise
                refused.append({"files": list(names), "why": str(failure)})
    return Converted(models, tuple(missing), tuple(refused))


def convert(
    source: Path, wanted: Format, names: tuple[str, ...], inputs: Arrays, outputs: Arrays, tell: Tell = silent
) -> dict[str, Any]:
    """Write `names` beside `source`. TargetError where the runtime cannot take it, or gives something else."""
    target = Target(f"pack-{wanted.runtime}", runtime=wanted.runtime)
    with connect(target, tell=tell) as connection, tempfile.TemporaryDirectory(prefix="cutback-pack-") as made:
        engine = connection.build(source, Path(made, "model"))
        difference = outputs_agree(connection.run(engine, inputs), outputs)
        if not difference < BROKEN:
            raise TargetError(
                f"{wanted.runtime} gives other outputs than {source.name} (by {difference:.1%}). It cannot be trusted."
            )
        if wanted.packed:
            with zipfile.ZipFile(engine.path) as archive:
                for member, name in zip(wanted.files, names, strict=True):
                    (source.parent / name).write_bytes(archive.read(member))
        else:
            shutil.copyfile(engine.path, source.parent / names[0])
        return {
            "runtime": wanted.runtime,
            "version": connection.device.stack["version"],
            "made_of": source.name,
            "difference": difference,
        }
