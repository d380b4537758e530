"""ONNX Runtime's providers: which one is asked for, whether it is there, and whether it stayed (device side).

ONNX Runtime goes on without a provider that it does not have, and without one that could not be set up: on the
processor, with a warning at most. Here both are refused.
"""

from __future__ import annotations

import sys
from typing import Any, Mapping, NamedTuple

from targets.errors import BadInput, RuntimeMissing, TargetError

CPU = "CPUExecutionProvider"
FULL_NAME = "ExecutionProvider"  # what all their names end in; one without a short name here may be given in full


class Known(NamedTuple):
    name: str
    comes_with: str  # what to do where it is missing


def wheel(package: str) -> str:
    return f"Run there: {sys.executable} -m pip install {package}, in place of onnxruntime"


PROVIDERS: Mapping[str, Known] = {
    "cpu": Known(CPU, "Every package of ONNX Runtime has it; install onnxruntime anew"),
    "cuda": Known("CUDAExecutionProvider", wheel("onnxruntime-gpu")),
    "tensorrt": Known("TensorrtExecutionProvider", wheel("onnxruntime-gpu")),
    "openvino": Known("OpenVINOExecutionProvider", wheel("onnxruntime-openvino")),
    "qnn": Known("QNNExecutionProvider", wheel("onnxruntime-qnn")),
    "coreml": Known("CoreMLExecutionProvider", "It comes with the onnxruntime of macOS, and with iOS"),
    "xnnpack": Known("XnnpackExecutionProvider", "Build ONNX Runtime there with --use_xnnpack --build_wheel"),
    "nnapi": Known("NnapiExecutionProvider", "It comes with Android's onnxruntime; make a pack: cutback pack"),
}

ON_NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")  # on the first GPU, unless told otherwise

FALLBACKS = ("yes", "no")
NO_FALLBACK = "session.disable_cpu_ep_fallback"


class Provider(NamedTuple):
    """What was asked for. `fallback`: nodes that the provider does not take may run on the processor."""

    name: str = CPU
    fallback: bool = True

    @property
    def is_cpu(self) -> bool:
        return self.name == CPU

    @property
    def listed(self) -> list[str]:
        """What a session is opened with. A session that may not fall back must not be given the processor's."""
        return [self.name, CPU] if self.fallback and not self.is_cpu else [self.name]


def asked(options: Mapping[str, Any]) -> Provider:
    """`BadInput` for a value that no provider has."""
    text, fallback = str(options.get("provider", "cpu")), str(options.get("fallback", "yes"))
    if text not in PROVIDERS and not text.endswith(FULL_NAME):
        raise BadInput(f"ONNX Runtime has no provider {text!r}. Known: {', '.join(PROVIDERS)}.")
    if fallback not in FALLBACKS:
        raise BadInput(f"fallback={fallback} is neither yes nor no: may nodes run on the processor instead?")
    name = PROVIDERS[text].name if text in PROVIDERS else text
    if name == CPU and fallback == "no":
        raise BadInput("provider=cpu,fallback=no forbids the processor to itself. Leave fallback out, or ask for more.")
    return Provider(name, fallback == "yes")


def refuse_missing(package: Any, provider: Provider) -> None:
    """`RuntimeMissing` where the installed package does not have it, with what it has."""
    has = package.get_available_providers()
    if provider.name in has:
        return
    known = next((each for each in PROVIDERS.values() if each.name == provider.name), None)
    now = known.comes_with if known else "Install a package that has it"
    raise RuntimeMissing(
        f"ONNX Runtime {package.__version__} of {sys.executable} has no provider {short(provider.name)}. "
        f"It has: {', '.join(short(name) for name in has)}. {now}"
    )


def refuse_fallback(session: Any, provider: Provider, model: str) -> None:
    """`TargetError` where the session runs, but not on what was asked for."""
    got = session.get_providers()
    if got[:1] != [provider.name]:
        raise TargetError(
            f"{model}: {short(provider.name)} was asked for, and ONNX Runtime silently fell back to "
            f"{', '.join(short(name) for name in got)}. Its drivers or libraries cannot be loaded there; see what "
            "ONNX Runtime itself says when a session is opened with that provider alone."
        )


def short(name: str) -> str:
    """As options name it."""
    return next((key for key, known in PROVIDERS.items() if known.name == name), name)
