import onnx
import pytest
import torch

from benchmarks.networks import NETWORKS
from benchmarks.networks.export import export

PUBLISHED = {
    "mobilenet_v2": 3_504_872, "efficientnet_b0": 5_288_548, "resnet18": 11_689_512, "resnet50": 25_557_032,
    "densenet121": 7_978_856, "regnet_y_400mf": 4_344_144, "resnext50": 25_028_904, "convnext_tiny": 28_589_128,
    "googlenet": 6_624_904, "squeezenet": 1_235_496, "mobilenet_v3_small": 2_542_856, "inception_v3": 23_834_568,
    "shufflenet_v2": 2_278_604, "vit_b16": 86_567_656, "regnet_x_400mf": 5_157_512, "yolo": 1_872_157,
}  # fmt: skip
QUICK = ("mobilenet_v2", "squeezenet", "shufflenet_v2")
BY_COST = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
SIZES = {"vit_b16": {"size": 224}}


@pytest.mark.parametrize("name", BY_COST)
def test_networks_have_the_published_number_of_parameters(name):
    network = NETWORKS[name](**SIZES.get(name, {}))
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_seed_decides_the_weights(name):
    def first(seed: int) -> torch.Tensor:
        return next(NETWORKS[name](classes=10, seed=seed).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", BY_COST)
def test_activations_stay_finite_and_alive(name):
    size = 96 if name == "inception_v3" else 64
    with torch.no_grad():
        logits = NETWORKS[name](classes=10)(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
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
