"""TensorRT 8.5 and newer, on the GPU that will run the engine (device side).

The precision stands in the ONNX graph, as casts and quantise / dequantise pairs. Newer versions take it from there;
before 10, where networks are weakly typed, the builder has to be allowed what the graph asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only
from targets.runtimes.cuda import Gpu, open_gpu, pci_address, require_gpu

if TYPE_CHECKING:
    import numpy as np

ENGINE = ".engine"
TYPED_FROM = 10  # the version from which networks are built strongly typed
# The newest ONNX by version, as its release notes have it; in between, the older one counts.
NEWEST = (((8, 5), Reads(17, 8)), ((8, 6), Reads(17, 8)), ((10, 0), Reads(20, 9)), ((11, 0), Reads(25, 12)))

OLDEST = NEWEST[0][0]


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    """Option `dla`: the number of the deep learning accelerator to build for, where the device has any."""
    only(options, ("dla",), "tensorrt")
    dla = dla_of(options)
    require_gpu("TensorRT")  # without one it may end the process
    try:
        import tensorrt
    except ImportError as missing:
        raise RuntimeMissing(
            f"TensorRT cannot be imported by {sys.executable} ({missing}). On a Jetson it comes with JetPack; "
            f"elsewhere run there: {sys.executable} -m pip install tensorrt"
        ) from missing
    if version_of(tensorrt) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RuntimeMissing(
            f"TensorRT {tensorrt.__version__} is too old: {oldest} is the oldest that is supported. JetPack 5.1 brings "
            "that; boards that end with JetPack 4 cannot be used."
        )
    return TensorRt(tensorrt, open_gpu("TensorRT"), threads, dla)


def dla_of(options: Mapping[str, Any]) -> int | None:
    """A target gives its options as text."""
    wanted = options.get("dla")
    if wanted is None:
        return None
    if not str(wanted).isdecimal():
        raise BadInput(f"dla={wanted} is no number of a deep learning accelerator, such as 0.")
    return int(wanted)


def version_of(package: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in package.__version__.split(".")[:2])


class TensorRt(Runtime):
    def __init__(self, package: Any, gpu: Gpu, threads: int, dla: int | None) -> None:
        self._package = package
        self._gpu = gpu
        self._dla = dla
        self._log = package.Logger(package.Logger.ERROR)
        self._version = version_of(package)
        self.threads = threads
        self.gpu = pci_address()

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "tensorrt",
            "version": self._package.__version__,
            "provider": f"{self._gpu.name}, compute capability {self._gpu.capability}",
            "options": {} if self._dla is None else {"dla": self._dla},
        }

    def reads(self) -> Reads:
        return [reads for since, reads in NEWEST if since <= self._version][-1]

    def load(self, model: str, optimise: bool) -> Loaded:
        return Engine(self._package, self._gpu, self.engine(model))

    def build(self, model: str, output: str, optimise: bool) -> None:
        beside = Path(output + ".part")
        try:
            beside.write_bytes(self._built(model))
            self.engine(str(beside), is_engine=True)
            beside.replace(output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        engine = self.engine(model)
        told = engine.create_engine_inspector().get_engine_information(self._package.LayerInformationFormat.JSON)
        Path(graph).write_text(json.dumps(json.loads(told)), encoding="utf-8")
        return ProfiledEngine(self._package, Engine(self._package, self._gpu, engine))

    def engine(self, model: str, is_engine: bool = False) -> Any:
        """Deserialised, of an engine's file or of an ONNX file, which is built first."""
        content = Path(model).read_bytes() if is_engine or model.endswith(ENGINE) else self._built(model)
        engine = self._package.Runtime(self._log).deserialize_cuda_engine(content)
        if engine is None:
            raise BadInput(
                f"{Path(model).name} is not an engine that TensorRT {self._package.__version__} can load on this "
                f"{self._gpu.name}. Build it again on this device."
            )
        return engine

    def _built(self, model: str) -> bytes:
        package = self._package
        builder = package.Builder(self._log)
        network = builder.create_network(self._network_flags())
        parser = package.OnnxParser(network, self._log)
        if not parser.parse_from_file(model) or network.num_outputs == 0:  # garbage parses as a network of nothing
            raise unreadable(Path(model).name, parser)
        config = builder.create_builder_config()
        config.profiling_verbosity = package.ProfilingVerbosity.DETAILED  # the inspector then knows the ONNX names
        if self._version[0] < TYPED_FROM:
            self._allow(config, network)
        if self._dla is not None:
            self._onto_dla(config, builder)
        cache = self._cache_file()
        known = cache.read_bytes() if cache.exists() else b""
        timings = config.create_timing_cache(known)
        config.set_timing_cache(timings, ignore_mismatch=False)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise TargetError(f"TensorRT {package.__version__} cannot build {Path(model).name}. Look at its log there.")
        cache.parent.mkdir(parents=True, exist_ok=True)
        beside = cache.with_name(f"{cache.name}.{os.getpid()}.part")
        beside.write_bytes(bytes(timings.serialize()))
        beside.replace(cache)
        return bytes(engine)

    def _network_flags(self) -> int:
        flags = self._package.NetworkDefinitionCreationFlag
        if self._version[0] > TYPED_FROM:
            return 0  # there is no other kind any more
        if self._version[0] == TYPED_FROM:
            return 1 << int(flags.STRONGLY_TYPED)
        return 1 << int(flags.EXPLICIT_BATCH)

    def _allow(self, config: Any, network: Any) -> None:
        """The precisions that the graph asks for."""
        package = self._package
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        types = {layer.get_output(port).dtype for layer in layers for port in range(layer.num_outputs)}
        if package.float16 in types:
            config.set_flag(package.BuilderFlag.FP16)
        if any(layer.type == package.LayerType.QUANTIZE for layer in layers):
            config.set_flag(package.BuilderFlag.INT8)

    def _onto_dla(self, config: Any, builder: Any) -> None:
        if not 0 <= (self._dla or 0) < builder.num_DLA_cores:  # it would be built for the GPU without a word
            raise TargetError(
                f"This device has {builder.num_DLA_cores} DLA cores; option dla={self._dla} asks for another."
            )
        config.default_device_type = self._package.DeviceType.DLA
        config.DLA_core = self._dla
        config.set_flag(self._package.BuilderFlag.GPU_FALLBACK)

    def _cache_file(self) -> Path:
        """Timings of kernels, kept from build to build; of this version on this GPU."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "."), ".cache"))
        gpu = "".join(letter if letter.isalnum() else "-" for letter in self._gpu.name)
        return home / "cutback" / f"tensorrt-{self._package.__version__}-{gpu}.timings"


class Engine(Loaded):
    """Its tensors live on the GPU; what is timed is the engine there, without copies."""

    def __init__(self, package: Any, gpu: Gpu, engine: Any) -> None:
        import numpy as np

        self._package, self._gpu, self._engine = package, gpu, engine
        self.context = engine.create_execution_context()
        self._buffers: dict[str, tuple[int, np.ndarray[Any, Any]]] = {}
        for name in self._names():
            host = np.zeros(tuple(engine.get_tensor_shape(name)), package.nptype(engine.get_tensor_dtype(name)))
            self._buffers[name] = (gpu.allocate(max(host.nbytes, 1)), host)
            self.context.set_tensor_address(name, self._buffers[name][0])

    def inputs(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "shape": list(host.shape), "dtype": host.dtype.name}
            for name, (_, host) in self._buffers.items()
            if self._is_input(name)
        ]

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        from targets.feeds import check_feeds

        check_feeds(self.inputs(), feeds)
        self.feed(feeds)
        self.once()
        found = {}
        for name, (address, host) in self._buffers.items():
            if not self._is_input(name):
                self._gpu.download(host, address)
                found[name] = host.copy()
        return found

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        from targets.feeds import random_feeds

        self.feed(random_feeds(self.inputs(), shapes))
        return self.once

    def feed(self, feeds: Tensors) -> None:
        import numpy as np

        for name, values in feeds.items():
            self._gpu.upload(self._buffers[name][0], np.ascontiguousarray(values))

    def once(self) -> None:
        if not self.context.execute_async_v3(self._gpu.stream):
            raise TargetError("TensorRT could not run the engine. Look at its log there.")
        self._gpu.wait()

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]

    def _is_input(self, name: str) -> bool:
        mode: bool = self._engine.get_tensor_mode(name) == self._package.TensorIOMode.INPUT
        return mode


class ProfiledEngine(Profiled):
    def __init__(self, package: Any, engine: Engine) -> None:
        runs: list[list[tuple[str, int]]] = []

        class Profiler(package.IProfiler):  # type: ignore[misc]  # the package carries no types
            def report_layer_time(self, name: str, ms: float) -> None:
                runs[-1].append((name, round(ms * 1e6)))

        self._runs = runs
        self._engine = engine
        self._engine.runner({})  # which feeds it
        self._profiler = Profiler()
        self._engine.context.profiler = self._profiler

    def run(self) -> object:
        self._runs.append([])
        self._engine.once()
        return self._runs[-1]

    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {"name": name, "op": "", "output_shapes": [], "samples_ns": [self._runs[run][index][1] for run in kept]}
            for index, (name, _) in enumerate(self._runs[-1])
        ]


def unreadable(name: str, parser: Any) -> Exception:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return BadInput(f"{name} is not a model that TensorRT can read.")
    return TargetError(f"TensorRT cannot take {name}: node {errors[0].node()}: {one_line(errors[0].desc())}")
