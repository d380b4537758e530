"""What packs for Android and iOS share: the network in every format, its spec and golden data, snippets, a README."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import onnx

from pipeline.graph.execute import run_unoptimised
from pipeline.packs.ort_advice import OPERATORS, USABILITY, write_operators, write_usability
from pipeline.packs.phone_models import Format, convert_all
from pipeline.packs.phone_spec import TEST_DATA, Bundle, describe, read_bundle, write_golden
from pipeline.workspace import write_json
from targets.connection import Tell, silent

TEMPLATES = Path(__file__).with_name("templates")
MODELS = ("model.onnx", "model-int8.onnx")


def fill(
    source: Path,
    folder: Path,
    templates: Mapping[str, str],
    dtypes: Mapping[str, str],
    formats: tuple[Format, ...],
    tell: Tell = silent,
) -> dict[str, Any]:
    """Fill `folder` from the bundle `source`. `templates`: file to write -> template, of which README.md is one.
    `dtypes`: numpy's name -> what ONNX Runtime's interface there calls it. What the manifest tells is returned."""
    bundle = read_bundle(source, MODELS)
    for name, model in bundle.models.items():
        onnx.save(model, folder / name)
    outputs = {name: golden_of(name, bundle) for name in bundle.models}
    write_golden(folder, bundle.inputs, outputs)
    converted = convert_all(folder, formats, bundle.inputs, outputs, tell)
    in_its_format = [folder / name for name in converted.models if name.endswith(".ort")]
    write_operators(in_its_format, folder / OPERATORS)
    advised = write_usability(folder / "model.onnx", folder / USABILITY)
    spec = {**describe(bundle), "models": converted.models}
    write_json(folder / "spec.json", spec)
    refused = [*converted.refused]
    unknown = sorted({each["dtype"] for each in (*spec["inputs"], *spec["outputs"])} - dtypes.keys())
    told = {
        "spec": spec,
        "missing": converted.missing,
        "refused": refused,
        "int8": "model-int8.onnx" in bundle.models,
        "nnapi_or_coreml_advised": advised,
        "made_by": f"cutback {version('cutback')}",
        "network": (bundle.manifest.get("model") or {}).get("path"),
    }
    if unknown:
        why = f"ONNX Runtime's interface there has no {', '.join(unknown)}"
        refused += [{"files": [name], "why": why} for name in templates if name != "README.md"]
    skipped = {name for each in refused for name in each["files"]}
    for name, template in templates.items():
        if name not in skipped:
            text = render(template, told={**told, "test_data": TEST_DATA, "operators": OPERATORS}, dtypes=dtypes)
            (folder / name).write_text(text, encoding="utf-8")
    return told


def golden_of(name: str, bundle: Bundle) -> dict[str, Any]:
    """The bundle's golden outputs are its first model's; another's are its own graph's, run unoptimised."""
    if name == MODELS[0]:
        return dict(bundle.outputs)
    found = run_unoptimised(bundle.models[name], bundle.inputs)
    return {output: found[output] for output in bundle.outputs}


def render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701 -- source code and Markdown, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kotlin": in_kotlin, "swift": in_swift, "shell_shape": ncnn_shape}
    return environment.get_template(template).render(**values)


def in_kotlin(text: str) -> str:
    """A string literal."""
    return json.dumps(text).replace("\\f", "\\u000c").replace("$", "\\$")


def in_swift(text: str) -> str:
    """A string literal."""
    plain = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(plain.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text) + '"'


def ncnn_shape(shape: list[int]) -> str:
    """As benchncnn takes it: without the batch, the innermost first."""
    return f"[{','.join(str(size) for size in reversed(shape[1:]))}]"
