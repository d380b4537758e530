"""torch.compile and torch.export on whole networks: no graph break, and the same numbers."""

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.autograd import OnnxModule
from tests.autograd.networks import NETWORKS, SIDE, written


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def one_step(module: OnnxModule, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs, and gradients and statistics by name, of one training step."""
    outputs = run(images())
    outputs.square().mean().backward()
    kept = {f"gradient of {name}": value.grad for name, value in module.named_parameters() if value.grad is not None}
    return outputs.detach(), {**kept, **dict(module.named_buffers())}


def compare(name: str, backend: str) -> None:
    plain = OnnxModule(written(name))
    twin = copy.deepcopy(plain)
    compiled = torch.compile(twin, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(images()), plain(images()), rtol=1e-4, atol=1e-5)
    plain.train()
    twin.train()
    expected, kept = one_step(plain, plain)
    outputs, found = one_step(twin, compiled)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, kept, rtol=1e-3, atol=1e-5)  # kernels add in another order


@pytest.mark.parametrize(
    "name", [name if name in ("unet", "vit") else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_compiled_networks_compute_and_train_the_same(name):
    compare(name, "eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, on its way to a kernel
@pytest.mark.skipif(shutil.which("g++") is None, reason="kernels need a C++ compiler")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compiled_to_kernels_compute_and_train_the_same(name):
    compare(name, "inductor")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_compute_the_same_for_every_batch(name):
    module = OnnxModule(written(name)).requires_grad_(False)
    fixed = torch.export.export(module, (images(),)).module()
    torch.testing.assert_close(fixed(images()), module(images()), rtol=1e-4, atol=1e-5)
    batch = torch.export.Dim("batch", max=64)
    free = torch.export.export(module, (images(),), dynamic_shapes=(({0: batch},),)).module()
    for count in (1, 2, 7):
        torch.testing.assert_close(free(images(count)), module(images(count)), rtol=1e-4, atol=1e-5)
