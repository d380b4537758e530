"""ONNX Runtime's providers: what is asked for is what runs, or it is refused by name."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from targets.connection import connect
from targets.errors import BadInput, NoKernelTimes, RuntimeMissing, TargetError
from targets.runtimes.onnxruntime_providers import CPU, PROVIDERS, Provider, refuse_fallback
from targets.target import find_target

AVAILABLE = onnxruntime.get_available_providers()
ABSENT = [name for name, known in PROVIDERS.items() if known.name not in AVAILABLE]
NODELESS = "AzureExecutionProvider"  # in every wheel for Linux; it takes no node of a plain network
X = np.zeros((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_provider_is_refused_by_name_with_what_there_is(name: str) -> None:
    has = rf"^ONNX Runtime {onnxruntime.__version__} of \S+ has no provider {name}\. It has: [^\n]*cpu[^\n]*$"
    with pytest.raises(RuntimeMissing, match=has) as caught, connect(find_target(f"local:provider={name}")):
        pass
    assert PROVIDERS[name].comes_with in str(caught.value)


def test_a_full_name_that_nobody_knows_is_refused_too() -> None:
    with (
        pytest.raises(RuntimeMissing, match="has no provider AbacusExecutionProvider"),
        connect(find_target("local:provider=AbacusExecutionProvider")),
    ):
        pass


def test_a_short_name_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(BadInput, match=r"'abacus'.*cpu, cuda, tensorrt"), connect(find_target("local:provider=abacus")):
        pass


def test_the_processor_by_name_is_the_same_stack_as_none_named() -> None:
    with connect(find_target("local")) as unnamed, connect(find_target("local:provider=cpu")) as named:
        assert named.device.stack == unnamed.device.stack
        assert named.device.stack["provider"] == CPU


def test_forbidding_the_processor_to_itself_is_refused() -> None:
    with (
        pytest.raises(BadInput, match="forbids the processor to itself"),
        connect(find_target("local:provider=cpu,fallback=no")),
    ):
        pass


def test_a_fallback_that_is_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(BadInput, match="fallback=maybe"), connect(find_target("local:fallback=maybe")):
        pass


def test_a_session_that_runs_on_something_else_is_refused(model: Path) -> None:
    session = onnxruntime.InferenceSession(str(model), providers=[CPU])
    refuse_fallback(session, Provider(), model.name)
    with pytest.raises(TargetError, match=r"^residual\.onnx: cuda was asked for, and ONNX Runtime silently fell back"):
        refuse_fallback(session, Provider("CUDAExecutionProvider"), model.name)


needs_nodeless = pytest.mark.skipif(NODELESS not in AVAILABLE, reason="this package of ONNX Runtime has no Azure")


@needs_nodeless
def test_without_fallback_nodes_that_the_provider_leaves_are_refused(model: Path, tmp_path: Path) -> None:
    with connect(find_target(f"local:provider={NODELESS},fallback=no")) as device:
        assert device.device.stack["options"]["fallback"] is False
        for ask in (lambda: device.run(model, {"x/in:0": X}), lambda: device.build(model, tmp_path / "engine")):
            with pytest.raises(TargetError, match=r"residual\.onnx.*fallback to CPU EP has been explicitly disabled"):
                ask()
    assert {path.name for path in tmp_path.iterdir()} == {"residual.onnx"}


@needs_nodeless
def test_another_provider_is_carried_by_the_stack_and_profiled_end_to_end(model: Path, tmp_path: Path) -> None:
    with connect(find_target(f"local:provider={NODELESS}")) as device:
        assert device.device.stack["provider"] == NODELESS
        assert device.device.stack["options"]["fallback"] is True
        engine = device.build(model, tmp_path / "engine")
        assert engine.path.read_bytes() == model.read_bytes()  # it compiles as it loads; nothing of it is saved
        assert device.run(engine, {"x/in:0": X})["y"].shape == (2, 6, 1, 1)
        assert device.profile(model, runs=3).kernels == ()
        with pytest.raises(NoKernelTimes):
            device.profile(model, runs=3, kernels_only=True)
