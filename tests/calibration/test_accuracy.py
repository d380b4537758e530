"""Accuracy: what each metric counts, and what it refuses."""

import textwrap

import numpy as np
import pytest

from calibration.accuracy import evaluate
from calibration.samples import InputSpec, Samples, load_samples
from targets.errors import BadInput

SPEC = InputSpec("x", (None, 8), "float32")
LOGITS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)  # the "network" passes its input on


@pytest.fixture
def samples_of(tmp_path):
    def make(labels: np.ndarray | None) -> Samples:
        arrays = {"x": LOGITS} if labels is None else {"x": LOGITS, "y": labels}
        np.savez(tmp_path / "data.npz", **arrays)
        return load_samples(tmp_path / "data.npz", [SPEC])

    return make


def passed_on(inputs):
    return [inputs["x"]]


@pytest.mark.parametrize("batch_size", [7, 50])
def test_top1_is_the_share_of_largest_entries_on_the_label(samples_of, batch_size):
    labels = LOGITS.argmax(axis=1)
    labels[:20] = (labels[:20] + 1) % 8
    found = evaluate(passed_on, samples_of(labels), batch_size=batch_size)
    assert (found.metric, found.count) == ("top1", 50)
    assert found.value == pytest.approx(60.0)


def test_top5_counts_labels_among_the_five_largest(samples_of):
    ranked = np.argsort(-LOGITS, axis=1)
    labels = np.concatenate([ranked[:25, 4], ranked[25:, 5]])  # fifth place counts, sixth does not
    assert evaluate(passed_on, samples_of(labels), "top5").value == pytest.approx(50.0)


def test_equal_scores_count_for_the_first_class_only(samples_of):
    def flat(inputs):
        return [np.zeros((len(inputs["x"]), 8), np.float32)]

    assert evaluate(flat, samples_of(np.zeros(50, int))).value == 100.0
    assert evaluate(flat, samples_of(np.ones(50, int))).value == 0.0


def test_outputs_with_trailing_axes_of_one_are_class_scores(samples_of):
    found = evaluate(lambda inputs: [inputs["x"][:, :, None, None]], samples_of(LOGITS.argmax(axis=1)))
    assert found.value == 100.0


def test_agreement_needs_no_labels(samples_of):
    def half_reversed(inputs):
        changed = inputs["x"].copy()
        changed[::2] *= -1
        return [changed]

    found = evaluate(half_reversed, samples_of(None), "agreement", passed_on)
    assert found.value == pytest.approx(50.0)


METRICS = """
    import numpy as np
    def per_example(outputs, labels): return outputs[0].argmax(axis=1) == labels
    def summed(outputs, labels): return float((outputs[0].argmax(axis=1) == labels).sum())
    def words(outputs, labels): return "good"
    def shaped(outputs, labels): return np.zeros((len(labels), 2))
    def nan(outputs, labels): return float("nan")
    def raises(outputs, labels): raise KeyError("boxes")
"""


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.py"
    path.write_text(textwrap.dedent(METRICS))
    return path


@pytest.mark.parametrize("name", ["per_example", "summed"])
def test_a_metric_by_entry_point_gives_one_for_each_example_or_the_sum(samples_of, metrics, name):
    labels = LOGITS.argmax(axis=1)
    labels[0] = (labels[0] + 1) % 8
    assert evaluate(passed_on, samples_of(labels), f"{metrics}:{name}", batch_size=9).value == pytest.approx(98.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words", ["returned no number"]),
        ("shaped", ["shape (50, 2)", "50"]),
        ("nan", ["not finite"]),
        ("raises", ["KeyError", "boxes"]),
        ("missing", ["'missing' is not there"]),
    ],
)
def test_a_metric_that_goes_wrong_is_one_clear_line(samples_of, metrics, name, words):
    with pytest.raises(BadInput) as error:
        evaluate(passed_on, samples_of(np.zeros(50, int)), f"{metrics}:{name}")
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in [f"metrics.py:{name}", *words])


@pytest.mark.parametrize(
    ("metric", "labels", "run", "words"),
    [
        ("top7", np.zeros(50, int), passed_on, ["'top7'", "top1, top5, agreement"]),
        ("top1", None, passed_on, ["no labels", "agreement"]),
        ("top1", np.full(50, 8), passed_on, ["label 8 is out of range", "0 to 7"]),
        ("top1", np.zeros((50, 2), int), passed_on, ["(50, 2)"]),
        ("top1", np.zeros(50, int), lambda inputs: [inputs["x"] * np.nan], ["NaN", "examples 0 to 49"]),
        ("top1", np.zeros(50, int), lambda inputs: [inputs["x"][:, None]], ["(50, 1, 8)"]),
        ("top1", np.zeros(50, int), lambda inputs: [inputs["x"][:1]], ["(1, 8)", "batch of 50"]),
        ("top1", np.zeros(50, int), lambda _: [], ["nothing"]),
        ("top5", np.zeros(50, int), lambda inputs: [inputs["x"][:, :5]], ["at least 6 classes", "(50, 5)"]),
        ("agreement", None, passed_on, ["none was given"]),
    ],
)
def test_what_cannot_be_scored_is_one_clear_line(samples_of, metric, labels, run, words):
    with pytest.raises(BadInput) as error:
        evaluate(run, samples_of(labels), metric)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (passed_on, lambda inputs: [inputs["x"][:, :4]], r"\(50, 4\) of the reference"),
        (lambda inputs: [inputs["x"][:, :1]], lambda inputs: [inputs["x"][:, :1]], "no classes along axis 1"),
    ],
)
def test_agreement_of_outputs_that_do_not_compare_is_refused(samples_of, ours, theirs, word):
    with pytest.raises(BadInput, match=word):
        evaluate(ours, samples_of(None), "agreement", theirs)


def test_progress_counts_examples(samples_of):
    seen = []
    evaluate(passed_on, samples_of(np.zeros(50, int)), batch_size=20, on_progress=lambda *step: seen.append(step))
    assert seen == [(20, 50, "top1"), (40, 50, "top1"), (50, 50, "top1")]
