import onnx
import pytest
import torch

from benchmarks.networks import NETWORKS
from benchmarks.networks.export import export

PUBLISHED = {"mobilenet_v2": 3_504_872, "efficientnet_b0": 5_288_548, "resnet18": 11_689_512, "resnet50": 25_557_032}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_published_number_of_parameters(name):
    assert sum(parameter.numel() for parameter in NETWORKS[name]().parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_seed_decides_the_weights(name):
    def first(seed: int) -> torch.Tensor:
        return next(NETWORKS[name](classes=10, seed=seed).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_stay_finite_and_alive(name):
    with torch.no_grad():
        logits = NETWORKS[name](classes=10)(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(logits).all()
    assert float(logits.std()) > 1e-4


@pytest.mark.parametrize(("keep", "left"), [(True, 52), (False, 0)])
def test_export_keeps_batch_norm_or_folds_it(tmp_path, keep, left):
    path = export(NETWORKS["mobilenet_v2"](), tmp_path / "net.onnx", 32, keep_batch_norm=keep)
    graph = onnx.load(path).graph
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == left
    assert [field.dim_param or field.dim_value for field in graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        32,
        32,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
