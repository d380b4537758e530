"""First-order criteria against their formulas, and against the exact loss change of a trained network."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from sklearn.datasets import load_digits

from calibration.batches import Batch
from pipeline.autograd import OnnxModule
from pipeline.importance import score
from pipeline.importance.loss import Loss
from pipeline.importance.oracle import oracle, rank_correlation
from targets.errors import BadInput
from tests.importance.graphs import batches, classifier, floats, group, model


def activations(proto, batch):
    """(r0, r1), kept with gradients, and the cross-entropy of each example, computed apart from the criteria."""
    module, kept = OnnxModule(proto), {}

    def keep(name):
        def hold(z):
            kept[name] = z.clone().requires_grad_() if not z.requires_grad else z
            kept[name].retain_grad()
            return kept[name]

        return hold

    with module.tap({("c1", 0): keep("r0"), ("f", 0): keep("r1")}):
        logits = module(torch.from_numpy(batch.inputs["x"]))
    return kept, F.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="none")


def test_taylor_is_the_mean_over_examples_of_the_absolute_mean_over_positions():
    proto, groups = classifier()
    data = batches(4, 3)
    totals = {"c0": np.zeros(4), "c1": np.zeros(6)}
    for batch in data:
        kept, losses = activations(proto, batch)
        losses.sum().backward()
        for name, z in (("c0", kept["r0"]), ("c1", kept["r1"])):
            totals[name] += (z.grad * z).mean((2, 3)).abs().sum(0).detach().numpy() / 7
    scores = score("taylor", proto, groups, batches=data)
    for name, expected in totals.items():
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4, atol=1e-7)


def test_taylor_does_not_depend_on_the_batch_size():
    proto, groups = classifier()
    whole = batches(6)[0]
    assert whole.labels is not None
    parts = [Batch({"x": whole.inputs["x"][at]}, whole.labels[at]) for at in (slice(0, 4), slice(4, 6))]
    one, two = (score("taylor", proto, groups, batches=data) for data in ([whole], parts))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-8)


def test_taylor_gate_is_the_squared_gradient_of_a_gate_summed_over_batches():
    proto, groups = classifier()
    data = batches(4, 3)
    totals = {"c0": np.zeros(4), "c1": np.zeros(6)}
    for batch in data:
        module = OnnxModule(proto)
        gates = {name: torch.ones(size, requires_grad=True) for name, size in (("c0", 4), ("c1", 6))}
        taps = {
            ("c1", 0): lambda z, gate=gates["c0"]: z * gate[None, :, None, None],
            ("y", 0): lambda z, gate=gates["c1"]: z * gate.repeat_interleave(9),
        }
        with module.tap(taps):
            logits = module(torch.from_numpy(batch.inputs["x"]))
        F.cross_entropy(logits, torch.from_numpy(batch.labels)).backward()
        for name, gate in gates.items():
            assert gate.grad is not None
            totals[name] += gate.grad.square().numpy()
    scores = score("taylor-gate", proto, groups, batches=data)
    for name, expected in totals.items():
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4, atol=1e-9)


def branching():
    """One tensor read by two nodes, twice by the first: x w -> r; y = r a + r b."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("MatMul", ["p", "a"], ["u"]),
        helper.make_node("MatMul", ["p", "b"], ["v"]),
        helper.make_node("Add", ["u", "v"], ["y"]),
    ]
    weights = {"w": floats(2, 4), "a": floats(4, 3, seed=1), "b": floats(4, 3, seed=2)}
    return model(nodes, ("N", 2), weights), group("p", 4, [("w", 1, "makes")], [("u", 1, 1), ("v", 1, 1)])


def test_a_gate_is_shared_by_all_reads_and_activations_add_their_absolute_values():
    proto, coupled = branching()
    batch = Batch({"x": floats(5, 2, seed=3)}, np.array([0, 1, 2, 0, 1]))
    module = OnnxModule(proto)
    p = torch.from_numpy(batch.inputs["x"]) @ module.get_tensor("w")
    reads = []
    for name in ("u", "v"):
        z = p.detach().clone().requires_grad_()
        other = p.detach()
        first, second = (z, other) if name == "u" else (other, z)
        logits = first @ module.get_tensor("a") + second @ module.get_tensor("b")
        F.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="sum").backward()
        assert z.grad is not None
        reads.append((z.grad * z).detach().numpy())
    np.testing.assert_allclose(
        score("taylor", proto, [coupled], batches=[batch])["p"], sum(np.abs(read).mean(0) for read in reads), rtol=1e-4
    )
    gate = (sum(read.sum(0) for read in reads) / 5) ** 2
    np.testing.assert_allclose(score("taylor-gate", proto, [coupled], batches=[batch])["p"], gate, rtol=1e-4)


def test_channels_of_other_groups_in_a_read_count_for_nothing():
    proto, coupled = branching()
    batch = Batch({"x": floats(5, 2, seed=3)}, np.array([0, 1, 2, 0, 1]))
    whole = score("taylor", proto, [coupled], batches=[batch])["p"]
    part = group("p", 2, [("w", 1, "makes")], [("u", 1, 2), ("v", 1, 2)])
    for read in part.reads:
        read.channel[:] = [-1, 1, -1, 0]
    np.testing.assert_allclose(score("taylor", proto, [part], batches=[batch])["p"], whole[[3, 1]])


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_a_softmax_at_the_end_is_not_applied_twice(last):
    plain, groups = classifier()
    ended, other = classifier(last=last)
    expected = score("taylor", plain, groups, batches=batches(4))
    for name, values in score("taylor", ended, other, batches=batches(4)).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-7)


def test_without_labels_classes_are_drawn_from_the_networks_own_output():
    proto, groups = classifier()
    first = score("taylor", proto, groups, batches=batches(8, labels=False), seed=0)
    second = score("taylor", proto, groups, batches=batches(8, labels=False), seed=1)
    assert all(values.max() > 0 for values in first.values())
    assert not np.array_equal(first["c0"], second["c0"])


def test_drawn_classes_follow_the_softmax():
    loss = Loss(classifier()[0], seed=0)
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(4000, 3)
    drawn = loss.targets(logits, None)
    assert drawn is not None
    np.testing.assert_allclose(torch.bincount(drawn) / 4000, [0.7, 0.2, 0.1], atol=0.03)


def test_networks_that_are_no_classifiers_are_scored_by_feature_energy():
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Conv", ["c", "v"], ["y"])]
    proto = model(nodes, ("N", 2, 4, 4), {"w": floats(3, 2, 1, 1), "v": floats(2, 3, 1, 1, seed=1)})
    coupled = group("c", 3, [("w", 0, "makes"), ("v", 1, "reads")], [("y", 1, 1)])
    x = torch.from_numpy(floats(5, 2, 4, 4, seed=2))
    c = F.conv2d(x, torch.from_numpy(floats(3, 2, 1, 1))).requires_grad_()
    F.conv2d(c, torch.from_numpy(floats(2, 3, 1, 1, seed=1))).square().mean((1, 2, 3)).sum().backward()
    assert c.grad is not None
    expected = (c.grad * c).mean((2, 3)).abs().mean(0).detach().numpy()
    scores = score("taylor", proto, [coupled], batches=[Batch({"x": x.numpy()}, None)])
    np.testing.assert_allclose(scores["c"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("labels", "says"), [([0, 3], "has 3 classes"), ([[0], [1]], "class numbers"), ([0.5, 1.0], "class numbers")]
)
def test_labels_that_do_not_fit_the_output_are_refused(labels, says):
    proto, groups = classifier()
    batch = Batch({"x": floats(2, 2, 5, 5)}, np.array(labels))
    with pytest.raises(BadInput, match=says):
        score("taylor", proto, groups, batches=[batch])


def test_reads_along_the_batch_axis_are_refused():
    proto, groups = classifier()
    with pytest.raises(BadInput, match="axis 0"):
        score("taylor", proto, [group("c1", 6, [("w1", 0, "makes")], [("y", 0, 1)])], batches=batches(2))
    assert groups


def test_data_that_makes_the_loss_infinite_is_refused():
    proto, groups = classifier()
    batch = Batch({"x": np.full((2, 2, 5, 5), np.inf, np.float32)}, np.array([0, 1]))
    with warnings.catch_warnings(), pytest.raises(BadInput, match="not finite"):
        score("taylor", proto, groups, batches=[batch])


def test_progress_counts_batches():
    proto, groups = classifier()
    seen: list[tuple[int, int]] = []
    score(
        "taylor", proto, groups, batches=batches(2, 2), on_progress=lambda done, total, note: seen.append((done, total))
    )
    assert seen == [(1, 2), (2, 2)]


def test_read_only_data_is_read():
    proto, groups = classifier()
    (batch,) = batches(3)
    batch.inputs["x"].setflags(write=False)
    assert score("taylor", proto, groups, batches=[batch])["c0"].shape == (4,)


def trained_digits():
    """A Conv(8)-Conv(12)-Gemm network trained for some seconds on the handwritten digits of scikit-learn."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    shapes = {"w0": (8, 1, 3, 3), "w1": (12, 8, 3, 3), "w2": (12, 10)}
    weights = {
        name: floats(*shape, seed=i) / np.sqrt(np.prod(shape[1:]) / 2) for i, (name, shape) in enumerate(shapes.items())
    }
    weights |= {"b0": np.zeros(8, "f4"), "b1": np.zeros(12, "f4"), "b2": np.zeros(10, "f4")}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"]),
    ]
    module = OnnxModule(
        model(nodes, ("N", 1, 8, 8), {name: array.astype(np.float32) for name, array in weights.items()})
    )
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    x, labels = torch.from_numpy(images), torch.from_numpy(digits.target)
    for step in range(150):
        at = torch.from_numpy(np.random.default_rng(step).integers(0, len(x), 128))
        optimiser.zero_grad()
        F.cross_entropy(module(x[at]), labels[at]).backward()
        optimiser.step()
    groups = (
        group("c0", 8, [("w0", 0, "makes")], [("c1", 1, 1)]),
        group("c1", 12, [("w1", 0, "makes")], [("y", 1, 1)]),
    )
    return (
        module.to_onnx(),
        groups,
        [Batch({"x": images[at : at + 16]}, digits.target[at : at + 16]) for at in range(0, 512, 16)],
    )


def test_taylor_ranks_channels_more_like_the_oracle_than_chance_does():
    proto, groups, data = trained_digits()
    truth = {name: np.abs(values) for name, values in oracle(proto, groups, data).items()}
    chance = max(rank_correlation(score("random", proto, groups, seed=seed), truth) for seed in range(10))
    for criterion in ("taylor", "taylor-gate"):
        agreement = rank_correlation(score(criterion, proto, groups, batches=data), truth)
        assert agreement > max(0.4, chance)


def test_the_oracle_is_the_exact_loss_change_of_zeroing_a_channel():
    proto, groups = classifier()
    (batch,) = batches(4)
    module = OnnxModule(proto)
    x, labels = torch.from_numpy(batch.inputs["x"]), torch.from_numpy(batch.labels)
    before = F.cross_entropy(module(x), labels).item()
    with torch.no_grad():
        module.get_tensor("w2").reshape(6, 9, 3)[2] = 0
        after = F.cross_entropy(module(x), labels).item()
    assert oracle(proto, groups[1:], [batch])["c1"][2] == pytest.approx(after - before, rel=1e-4)


def test_the_oracle_compares_with_the_same_drawn_classes():
    proto, groups = classifier()
    unread = group("c1", 1, [("w1", 0, "makes")], [])
    assert oracle(proto, [unread], batches(8, labels=False))["c1"] == pytest.approx([0.0])
    assert groups


def test_rank_correlation_of_equal_orders_is_one_and_of_constants_nothing():
    truth = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    assert rank_correlation({"a": np.array([10.0, 20.0]), "b": np.array([21.0])}, truth) == pytest.approx(1)
    assert np.isnan(rank_correlation({"a": np.ones(2), "b": np.ones(1)}, truth))
