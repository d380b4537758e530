"""Criteria by weights, batch-norm and chance; normalisation; cost regularisation."""

import subprocess
import sys

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pipeline.importance import CRITERIA, NORMALISATIONS, normalise, regularise, score
from targets.errors import BadInput
from tests.importance.graphs import batches, classifier, floats, group, model


def weights_of(proto):
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_gives_one_finite_score_per_channel_and_changes_nothing(criterion):
    proto, groups = classifier()
    before = proto.SerializeToString(deterministic=True)
    scorable = groups[:1] if criterion == "bn-gamma" else groups
    scores = score(criterion, proto, scorable, batches=batches(4, 3))
    assert {name: values.shape for name, values in scores.items()} == {g.id: (g.channels,) for g in scorable}
    assert all(values.dtype == np.float64 and np.isfinite(values).all() for values in scores.values())
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_repeats_itself(criterion):
    proto, groups = classifier()
    first, second = (score(criterion, proto, groups[:1], batches=batches(4, labels=False), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first["c0"], second["c0"])


def test_l1_and_l2_are_the_norms_of_the_filters_without_biases():
    proto, groups = classifier()
    filters = weights_of(proto)["w1"].reshape(6, -1)
    np.testing.assert_allclose(score("l1", proto, groups)["c1"], np.abs(filters).sum(1))
    np.testing.assert_allclose(score("l2", proto, groups)["c1"], np.linalg.norm(filters, axis=1))


def test_coupled_tensors_add_up_and_foreign_indices_count_for_nothing():
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["x", "b"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    proto = model(nodes, ("N", 2), {"a": floats(2, 4), "b": floats(2, 4, seed=1)})
    coupled = group("p", 2, [("a", 1, "makes"), ("b", 1, "makes")], repeats=2)
    coupled.slices[1].channel[:] = [1, -1, -1, 0]
    a, b = np.abs(weights_of(proto)["a"]).sum(0), np.abs(weights_of(proto)["b"]).sum(0)
    expected = [a[0] + a[1] + b[3], a[2] + a[3] + b[0]]
    np.testing.assert_allclose(score("l1", proto, [coupled])["p"], expected)
    squares = np.square(weights_of(proto)["a"]).sum(0), np.square(weights_of(proto)["b"]).sum(0)
    np.testing.assert_allclose(
        score("l2", proto, [coupled])["p"][0] ** 2, squares[0][0] + squares[0][1] + squares[1][3]
    )


def test_bn_gamma_is_the_absolute_scale():
    proto, groups = classifier()
    np.testing.assert_allclose(score("bn-gamma", proto, groups[:1])["c0"], np.abs(weights_of(proto)["g"]))


def test_bn_gamma_refuses_a_group_without_batch_norm_and_says_what_to_take():
    proto, groups = classifier(normed=False)
    with pytest.raises(BadInput, match=r"c0 has no batch-norm.*l2"):
        score("bn-gamma", proto, groups)


def test_weights_refuse_a_group_that_no_filter_makes():
    proto, _ = classifier()
    with pytest.raises(BadInput, match=r"x has no filters.*taylor"):
        score("l2", proto, [group("x", 2, [("w0", 1, "reads")])])


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn-gamma", "taylor", "taylor-gate"])
def test_locked_groups_that_cannot_be_scored_are_left_out(criterion):
    proto, groups = classifier()
    locked = group("x", 2, [("w0", 1, "reads")], [("c0", 0, 1)], locked="it is an input")
    assert set(score(criterion, proto, [groups[0], locked], batches=batches(2))) == {"c0"}


def test_random_depends_on_the_seed_and_not_on_other_groups():
    proto, groups = classifier()
    both, alone = score("random", proto, groups, seed=1), score("random", proto, groups[1:], seed=1)
    np.testing.assert_array_equal(both["c1"], alone["c1"])
    assert not np.array_equal(both["c1"], score("random", proto, groups, seed=2)["c1"])


def test_unknown_criteria_and_missing_data_are_refused_with_what_to_do():
    proto, groups = classifier()
    with pytest.raises(BadInput, match=r"'magic' is unknown. Known: l1, l2"):
        score("magic", proto, groups)
    for criterion in ("taylor", "taylor-gate"):
        with pytest.raises(BadInput, match=r"needs data. Give --data.*l1"):
            score(criterion, proto, groups)
        with pytest.raises(BadInput, match="no batch"):
            score(criterion, proto, groups, batches=[])


def test_weights_that_are_not_finite_are_refused():
    proto, groups = classifier()
    for tensor in proto.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(np.full((6, 4, 3, 3), np.nan, np.float32), "w1"))
    with pytest.raises(BadInput, match="not finite for group c1"):
        score("l2", proto, groups)


def test_weights_need_no_torch():
    code = "import sys; from pipeline.importance import weights, batchnorm, noise; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_normalisations_divide_each_group_by_its_own_measure():
    scores = {"a": np.array([3.0, 4.0]), "b": np.array([30.0, 40.0])}
    for how, expected in {"none": None, "mean": 3.5, "max": 4.0, "l2": 5.0, "sum": 7.0}.items():
        result = normalise(scores, how)
        np.testing.assert_allclose(result["a"], scores["a"] / (expected or 1))
        if expected is not None:
            np.testing.assert_allclose(result["a"], result["b"])


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_scores_of_all_zero_stay_zero(how):
    np.testing.assert_array_equal(normalise({"a": np.zeros(3)}, how)["a"], np.zeros(3))


def test_unknown_normalisations_are_refused():
    with pytest.raises(BadInput, match="'l3' is unknown"):
        normalise({"a": np.ones(2)}, "l3")


def test_regularisation_takes_off_the_cost_of_each_channel():
    scores = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    result = regularise(scores, {"a": np.array([4.0, 2.0]), "b": 1.0}, 0.5)
    np.testing.assert_allclose(result["a"], [-1.0, 1.0])
    np.testing.assert_allclose(result["b"], [2.5])


@pytest.mark.parametrize(
    ("costs", "strength", "says"),
    [({}, 1.0, "no cost"), ({"a": np.ones(3)}, 1.0, "one cost per channel"), ({"a": 1.0}, -1.0, "at least 0")],
)
def test_costs_that_do_not_fit_are_refused(costs, strength, says):
    with pytest.raises(BadInput, match=says):
        regularise({"a": np.ones(2)}, costs, strength)
