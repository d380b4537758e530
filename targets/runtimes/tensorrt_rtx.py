"""TensorRT for RTX: engines ahead of time, with no GPU in sight (device side).

It builds for named compute capabilities; running an engine takes a GPU of one of them, which this file does not reach
yet: everything but building is refused.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, Mapping, NoReturn

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, only

ENGINE = ".rtx.engine"
READS = Reads(opset=22, ir=10)
CAPABILITIES = {"75": "SM75", "80": "SM80", "86": "SM86", "89": "SM89", "120": "SM120"}
HALF_ONLY = ("75",)
DEFAULT = "89"


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    """Option `sm`: the compute capability that engines are built for, such as 89."""
    only(options, ("sm",), "tensorrt-rtx")
    wanted = str(options.get("sm", DEFAULT))
    if wanted not in CAPABILITIES:
        raise BadInput(
            f"TensorRT for RTX builds for sm = {', '.join(CAPABILITIES)}, not for {wanted}. Jetsons (sm_87) and data-"
            "centre GPUs (sm_90) take TensorRT, on the device itself."
        )
    try:
        import tensorrt_rtx
    except ImportError as missing:
        raise RuntimeMissing(
            f"TensorRT for RTX cannot be imported by {sys.executable} ({missing}). "
            f"Run there: {sys.executable} -m pip install tensorrt-rtx"
        ) from missing
    return TensorRtRtx(tensorrt_rtx, threads, wanted)


class TensorRtRtx(Runtime):
    def __init__(self, package: Any, threads: int, capability: str) -> None:
        self._package = package
        self._capability = capability
        self._log = Log(package)
        self.threads = threads

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "tensorrt-rtx",
            "version": self._package.__version__,
            "provider": f"sm_{self._capability}",
            "options": {},
        }

    def reads(self) -> Reads:
        return READS

    def load(self, model: str, optimise: bool) -> Loaded:
        self._refuse(model)

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        self._refuse(model)

    def build(self, model: str, output: str, optimise: bool) -> None:
        package = self._package
        builder = package.Builder(self._log.logger)
        network = builder.create_network(0)
        parser = package.OnnxParser(network, self._log.logger)
        if not parser.parse_from_file(model) or network.num_outputs == 0:  # garbage parses as a network of nothing
            raise self._unreadable(model, parser)
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(package.ComputeCapability, CAPABILITIES[self._capability]), 0)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            half = " It takes only fp16 there." if self._capability in HALF_ONLY else ""
            raise TargetError(
                f"TensorRT for RTX cannot build {Path(model).name} for sm_{self._capability}.{half} "
                f"{one_line(self._log.last())}"
            )
        beside = Path(output + ".part")
        try:
            beside.write_bytes(bytes(engine))
            beside.replace(output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()

    def _unreadable(self, model: str, parser: Any) -> Exception:
        name = Path(model).name
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        if not errors:
            return BadInput(f"{name} is not a model that TensorRT for RTX can read.")
        first = errors[0]
        where = f"node {first.node_name()!r} ({first.node_operator()}): " if first.node_name() else ""
        return TargetError(f"TensorRT for RTX cannot take {name}: {where}{one_line(first.desc())}")

    def _refuse(self, model: str) -> NoReturn:
        raise TargetError(
            f"{Path(model).name} cannot run here: engines of TensorRT for RTX run on an RTX card. Build them with: "
            "cutback build"
        )


class Log:
    """Keeps what the builder complained of, and keeps it off the terminal."""

    def __init__(self, package: Any) -> None:
        said: list[str] = []

        class Logger(package.ILogger):  # type: ignore[misc]  # the package carries no types
            def log(self, severity: Any, message: str) -> None:
                if severity in (package.ILogger.ERROR, package.ILogger.INTERNAL_ERROR):
                    said.append(message)

        self._said = said
        self.logger = Logger()

    def last(self) -> str:
        return self._said[-1] if self._said else ""
