"""Evaluation, and recovery whose result really is in the graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.arrays import ArraySamples
from pipeline.autograd.module import OnnxModule
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, free_batch, from_proto
from pipeline.graph.proof import random_feeds
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.evaluation import accuracy_of, metric_for, runner
from pipeline.stages.recovering import recover_model, with_weights
from pipeline.training.config import RecoveryConfig
from targets.errors import BadInput
from tests.latency.networks import residual
from tests.stages.networks import images, of, opened


@pytest.mark.parametrize(("labelled", "asked", "used"), [
    (True, "top1", "top1"), (False, "top1", "agreement"), (True, "agreement", "agreement"), (False, "top5", "top5"),
])  # fmt: skip
def test_without_labels_top1_means_agreement(labelled: bool, asked: str, used: str) -> None:
    assert metric_for(images(4, labelled=labelled), asked) == used


def test_accuracy_counts_what_the_graph_gets_right() -> None:
    net = opened("vgg")
    samples = images(40)
    right = sum(
        int(np.argmax(runner(net.model)(batch.inputs)[0]) == batch.labels[0])
        for batch in samples.batches(1)
        if batch.labels is not None
    )
    assert accuracy_of(net.model, samples, "top1").value == pytest.approx(100 * right / 40)


def test_a_network_agrees_with_itself_and_not_with_another() -> None:
    net = opened("resnet_basic")
    unlabelled = images(16, labelled=False)
    assert accuracy_of(net.model, unlabelled, "agreement", net.model).value == 100.0
    other = opened("vgg").model
    assert accuracy_of(other, unlabelled, "agreement", net.model).value < 100.0


def test_a_batch_that_the_graph_cannot_take_is_one_clear_line() -> None:
    net = opened("vgg")
    wrong = ArraySamples({"input": np.zeros((4, 3, 20, 20), np.float32)}, np.zeros(4, np.int64), {})
    with pytest.raises(BadInput, match=r"^The network cannot run a batch of 4: [^\n]*dynamic batch axis\.$"):
        accuracy_of(net.model, wrong, "top1")


def learnable(count: int = 200) -> ArraySamples:
    """Pictures 3 x 8 x 8 whose class is written in the mean of the first channel."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, count)
    pictures = generator.standard_normal((count, 3, 8, 8)).astype(np.float32)
    pictures[:, 0] += labels[:, None, None].astype(np.float32) - 4.5
    return ArraySamples({"x": pictures}, labels, {})


def half(model: Model) -> Model:
    net = of(model)
    kept = {group.id: tuple(range(group.channels // 2)) for group in net.channels.free}
    return cut_and_prove(net, kept, constants="dropped").model


SETTINGS = RecoveryConfig(epochs=4, learning_rate=0.05, batch_size=32, bf16=False, label_weight=1.0, seed=1)


def test_recovered_weights_are_in_the_graph_and_the_graph_is_as_good_as_the_module(tmp_path) -> None:
    original, samples = residual(), learnable()
    small = half(original)
    trained, record = recover_model(small, original, samples, SETTINGS, tmp_path)
    names = {t.name: t for t in small.proto.graph.initializer}
    changed = [t.name for t in trained.proto.graph.initializer if t.raw_data != names[t.name].raw_data]
    assert {"stem.w", "inner.w", "outer.w", "y.w", "y.b"} <= set(changed)
    assert [n.name for n in trained.proto.graph.node] == [n.name for n in small.proto.graph.node]
    module = OnnxModule(free_batch(trained)).eval()
    with torch.no_grad():
        own = module(torch.from_numpy(samples.read(np.arange(200)).inputs["x"])).argmax(1).numpy()
    in_graph = accuracy_of(trained, samples, "top1").value
    assert in_graph == pytest.approx(100 * float((own == samples.read(np.arange(200)).labels).mean()), abs=0.51)
    assert in_graph > accuracy_of(small, samples, "top1").value + 10
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4]
    assert record["held_out"] == 40
    assert (tmp_path / "checkpoint.pt").exists()


def test_recovery_without_labels_follows_the_original(tmp_path) -> None:
    original = residual()
    unlabelled = ArraySamples({"x": learnable().read(np.arange(200)).inputs["x"]}, None, {})
    small = half(original)
    trained, record = recover_model(small, original, unlabelled, replace(SETTINGS, learning_rate=0.01), tmp_path)
    before, after = (accuracy_of(m, unlabelled, "agreement", original).value for m in (small, trained))
    assert after > before
    assert "label" not in record["loss"]


def test_a_recovery_that_finished_comes_back_from_its_checkpoint(tmp_path) -> None:
    original, samples = residual(), learnable()
    small = half(original)
    first, _ = recover_model(small, original, samples, SETTINGS, tmp_path)
    notes: list[str] = []
    again, _ = recover_model(small, original, samples, SETTINGS, tmp_path, lambda *at: notes.append(at[2]))
    assert not [note for note in notes if note.startswith("epoch")]
    assert again.proto == first.proto


def test_weights_go_back_under_their_names_and_leave_the_shapes_bound() -> None:
    model = residual()
    module = OnnxModule(free_batch(model))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    doubled = with_weights(model, module.to_onnx())
    assert doubled.bound == model.bound
    values = {t.name: t for t in model.proto.graph.initializer}
    for tensor in doubled.proto.graph.initializer:
        theirs = np.frombuffer(values[tensor.name].raw_data, np.float32)
        assert np.allclose(np.frombuffer(tensor.raw_data, np.float32), 2 * theirs)
    feeds = random_feeds(model, 0)
    ours, theirs = (run_unoptimised(m.proto, feeds)["y"] for m in (doubled, model))
    assert not np.allclose(ours, theirs)
    assert from_proto(doubled.proto).bound == model.bound
