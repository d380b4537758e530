"""Samples: what is read is what was stored, and what does not fit is one clear line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.samples import Batch, InputSpec, Preprocessing, Samples, load_samples, take
from targets.errors import BadInput

IMAGE = InputSpec("image", (None, 3, 4, 4), "float32")
GENERATOR = np.random.default_rng(0)
GOOD = GENERATOR.normal(size=(10, 3, 4, 4)).astype(np.float32)
LABELS = np.arange(10)


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def whole(samples: Samples) -> Batch:
    return next(samples.batches(len(samples)))


def line(error: pytest.ExceptionInfo[BadInput]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("key", ["image", "x", "inputs", "images"])
@pytest.mark.parametrize("label", ["y", "labels"])
def test_npz_arrays_come_back_as_stored(tmp_path, key, label):
    samples = load_samples(write(tmp_path, **{key: GOOD, label: LABELS.astype(np.uint8)}), [IMAGE])
    batch = whole(samples)
    assert samples.labelled
    assert len(samples) == 10
    np.testing.assert_array_equal(batch.inputs["image"], GOOD)
    assert batch.labels is not None
    assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(batch.labels, LABELS)


def test_npz_without_labels_is_unlabelled(tmp_path):
    samples = load_samples(str(write(tmp_path, x=GOOD)), [IMAGE])
    assert not samples.labelled
    assert whole(samples).labels is None


def test_two_inputs_keep_the_order_of_the_network(tmp_path):
    specs = [InputSpec("b", (None, 2), "int64"), InputSpec("a", (None, 3), "float32")]
    path = write(tmp_path, a=np.ones((5, 3), np.float32), b=np.ones((5, 2), np.int32), y=np.zeros(5, int))
    batch = whole(load_samples(path, specs))
    assert list(batch.inputs) == ["b", "a"]
    assert batch.inputs["b"].dtype == np.int64


def test_float64_is_cast_to_float32(tmp_path):
    values = whole(load_samples(write(tmp_path, x=GOOD.astype(np.float64)), [IMAGE])).inputs["image"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, GOOD)


def test_shuffled_batches_hold_every_example_once_and_repeat_for_a_seed(tmp_path):
    samples = load_samples(write(tmp_path, x=GOOD, y=LABELS), [IMAGE])
    orders = [
        [int(label) for batch in samples.batches(4, seed=seed) for label in batch.labels]  # type: ignore[union-attr]
        for seed in (1, 1, 2)
    ]
    assert sorted(orders[0]) == list(range(10))
    assert orders[0] == orders[1] != orders[2]
    assert [len(batch.inputs["image"]) for batch in samples.batches(4)] == [4, 4, 2]
    assert [len(batch.inputs["image"]) for batch in samples.batches(4, drop_last=True)] == [4, 4]


def test_take_is_a_subset_without_repetition(tmp_path):
    samples = load_samples(write(tmp_path, x=GOOD, y=LABELS), [IMAGE])
    chosen = take(samples, 6, seed=3)
    batch = whole(chosen)
    assert len(chosen) == 6
    assert batch.labels is not None
    assert len(set(batch.labels.tolist())) == 6
    np.testing.assert_array_equal(batch.inputs["image"], GOOD[batch.labels])
    assert take(samples, 10) is samples


def test_uint8_pixels_are_normalised_per_channel_when_read(tmp_path):
    pixels = GENERATOR.integers(0, 256, size=(6, 3, 4, 4), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    samples = load_samples(write(tmp_path, x=pixels), [IMAGE], Preprocessing(mean=mean, std=std))
    wanted = (pixels / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    values: Any = whole(samples).inputs["image"]
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, wanted, atol=1e-5)


def test_raw_pixels_pass_with_scale_one(tmp_path):
    pixels = GENERATOR.integers(0, 256, size=(6, 3, 4, 4), dtype=np.uint8)
    samples = load_samples(write(tmp_path, x=pixels), [IMAGE], Preprocessing(scale=1.0))
    np.testing.assert_array_equal(whole(samples).inputs["image"], pixels)


NAN = GOOD.copy()
NAN[7, 1, 2, 3] = np.nan
INF = GOOD.copy()
INF[2] = np.inf


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": GOOD.transpose(0, 2, 3, 1)}, ["(10, 4, 4, 3)", "(N, 3, 4, 4)", "NHWC", "transpose(0, 3, 1, 2)"]),
        ({"x": GOOD[:, :, :3]}, ["(10, 3, 3, 4)", "(N, 3, 4, 4)"]),
        ({"x": GOOD[0]}, ["(3, 4, 4)", "x[None]"]),
        ({"x": GOOD[:0]}, ["empty"]),
        ({"x": NAN}, ["NaN", "example 7", "'x'"]),
        ({"x": INF}, ["infinite", "example 2"]),
        ({"x": np.full_like(GOOD, 1e300, dtype=np.float64)}, ["infinite"]),
        ({"x": np.zeros(GOOD.shape, np.uint8)}, ["uint8", "float32", "scale, mean, std"]),
        ({"x": np.zeros(GOOD.shape, np.int64)}, ["int64", "astype(np.float32)"]),
        ({"x": np.zeros(GOOD.shape, bool)}, ["bool", "float32"]),
        ({"z": GOOD}, ["'image'", "there are: z"]),
        ({"x": GOOD, "images": GOOD}, ["x or images"]),
        ({"x": GOOD, "y": LABELS[:9]}, ["(9)", "10 examples"]),
        ({"x": GOOD, "y": LABELS.astype(np.float32)}, ["float32", "integers"]),
        ({"x": GOOD, "y": LABELS - 1}, ["-1", "negative", "example 0"]),
        ({"x": GOOD, "y": LABELS, "labels": LABELS}, ["y and labels"]),
        ({"x": np.full(GOOD.shape, None)}, [".npz"]),
    ],
)
def test_npz_that_does_not_fit_is_one_clear_line(tmp_path, arrays, words):
    with pytest.raises(BadInput) as error:
        load_samples(write(tmp_path, **arrays), [IMAGE])
    assert all(word in line(error) for word in ["data.npz", *words])


def test_nchw_stored_for_an_nhwc_network_is_explained(tmp_path):
    with pytest.raises(BadInput, match=r"transpose\(0, 2, 3, 1\)"):
        load_samples(write(tmp_path, x=GOOD), [InputSpec("image", (None, 4, 4, 3), "float32")])


def test_integers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(BadInput, match="int64 values"):
        load_samples(write(tmp_path, x=np.full((2, 2), 1 << 40)), [InputSpec("ids", (None, 2), "int32")])


def test_inputs_of_different_counts_are_refused(tmp_path):
    specs = [InputSpec("a", (None, 2), "float32"), InputSpec("b", (None, 2), "float32")]
    with pytest.raises(BadInput, match="3 examples where 4"):
        load_samples(write(tmp_path, a=np.ones((4, 2), np.float32), b=np.ones((3, 2), np.float32)), specs)


def test_floats_with_preprocessing_are_refused_rather_than_normalised_twice(tmp_path):
    with pytest.raises(BadInput, match="applies to uint8"):
        load_samples(write(tmp_path, x=GOOD), [IMAGE], Preprocessing())


def test_means_must_match_the_channels(tmp_path):
    with pytest.raises(BadInput, match="2 values of mean for 3 channels"):
        load_samples(write(tmp_path, x=np.zeros(GOOD.shape, np.uint8)), [IMAGE], Preprocessing(mean=(0.5, 0.5)))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"std": (0.0,)}, "std"),
        ({"mean": ()}, "mean"),
        ({"scale": 0.0}, "scale"),
        ({"layout": "NCWH"}, "layout"),
        ({"resize": 0}, "resize"),
        ({"crop": (4, -1)}, "crop"),
    ],
)
def test_preprocessing_that_cannot_be_done_is_refused(settings, word):
    with pytest.raises(BadInput, match=word):
        Preprocessing(**settings)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"plain text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot be read as \.npz"):
        load_samples(path, [IMAGE])


def test_a_bare_array_renamed_to_npz_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        np.save(file, GOOD)
    with pytest.raises(BadInput, match="one bare array"):
        load_samples(path, [IMAGE])


def test_a_source_that_is_missing_or_unknown_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load_samples(tmp_path / "none.npz", [IMAGE])
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(BadInput, match="not a kind of data"):
        load_samples(tmp_path / "data.csv", [IMAGE])
    with pytest.raises(BadInput, match="no inputs"):
        load_samples(tmp_path / "none.npz", [])
