"""Image folders: classes in sorted order, pixels as Pillow gives them, refusals that name the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.samples import InputSpec, Preprocessing, load_samples
from targets.errors import BadInput

SPEC = InputSpec("image", (None, 3, 8, 8), "float32")
RAW = Preprocessing(scale=1.0)


def picture(path: Path, height: int = 8, width: int = 8, seed: int = 0, mode: str = "RGB") -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).convert(mode)
    image.save(path)
    return np.asarray(image)


def test_subfolders_are_classes_in_sorted_order(tmp_path):
    cat, ant = picture(tmp_path / "cat" / "1.png", seed=1), picture(tmp_path / "ant" / "2.png", seed=2)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    batch = next(load_samples(tmp_path, [SPEC], RAW).batches(2))
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(batch.inputs["image"], np.stack([ant, cat]).transpose(0, 3, 1, 2))


def test_images_without_subfolders_are_unlabelled(tmp_path):
    picture(tmp_path / "1.png")
    samples = load_samples(tmp_path, [SPEC], RAW)
    assert not samples.labelled
    assert next(samples.batches(1)).labels is None


def test_an_empty_class_keeps_its_number(tmp_path):
    (tmp_path / "a").mkdir()
    picture(tmp_path / "b" / "1.png")
    batch = next(load_samples(tmp_path, [SPEC], RAW).batches(1))
    assert batch.labels is not None
    assert batch.labels.tolist() == [1]


def test_normalisation_and_nhwc(tmp_path):
    pixels = picture(tmp_path / "1.png")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    spec = InputSpec("image", (1, 8, 8, 3), "float32")
    batch = next(load_samples(tmp_path, [spec], Preprocessing(mean=mean, std=std, layout="NHWC")).batches(1))
    np.testing.assert_allclose(batch.inputs["image"][0], (pixels / 255 - mean) / std, atol=1e-5)


def test_resize_sets_the_shorter_side_and_the_crop_is_central(tmp_path):
    columns = np.broadcast_to(np.arange(24, dtype=np.uint8)[None, :, None], (12, 24, 3))
    Image.fromarray(np.ascontiguousarray(columns)).save(tmp_path / "1.png")
    batch = next(load_samples(tmp_path, [SPEC], Preprocessing(scale=1.0, resize=12, crop=8)).batches(1))
    np.testing.assert_array_equal(batch.inputs["image"][0, 0, 0], np.arange(8, 16))


def test_free_height_and_width_take_any_size(tmp_path):
    picture(tmp_path / "1.png", height=5, width=9)
    spec = InputSpec("image", (None, 3, None, None), "float32")
    assert next(load_samples(tmp_path, [spec], RAW).batches(1)).inputs["image"].shape == (1, 3, 5, 9)


def test_grey_networks_read_grey_pixels(tmp_path):
    pixels = picture(tmp_path / "1.png", mode="L")
    spec = InputSpec("image", (None, 1, 8, 8), "float32")
    np.testing.assert_array_equal(next(load_samples(tmp_path, [spec], RAW).batches(1)).inputs["image"][0, 0], pixels)


def test_uint8_networks_read_pixels_as_they_are(tmp_path):
    pixels = picture(tmp_path / "1.png")
    spec = InputSpec("image", (None, 8, 8, 3), "uint8")
    batch = next(load_samples(tmp_path, [spec], Preprocessing(layout="NHWC")).batches(1))
    assert batch.inputs["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch.inputs["image"][0], pixels)
    with pytest.raises(BadInput, match="Leave out mean and std"):
        load_samples(tmp_path, [spec], Preprocessing(layout="NHWC", mean=(0.5,)))


def test_an_unreadable_image_is_named_when_it_is_read(tmp_path):
    picture(tmp_path / "1.png")
    whole = tmp_path / "1.png"
    (tmp_path / "2.png").write_bytes(whole.read_bytes()[:60])
    (tmp_path / "3.jpg").write_text("text")
    samples = load_samples(tmp_path, [SPEC], RAW)
    for index, name in ((1, "2.png"), (2, "3.jpg")):
        with pytest.raises(BadInput, match=name):
            samples.read(np.array([index]))


def test_images_of_different_sizes_in_one_batch_are_refused(tmp_path):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png", height=9)
    spec = InputSpec("image", (None, 3, None, None), "float32")
    with pytest.raises(BadInput, match=r"2\.png.*Give a resize and a crop"):
        next(load_samples(tmp_path, [spec], RAW).batches(2))


@pytest.mark.parametrize(
    ("spec", "preprocessing", "files", "words"),
    [
        (SPEC, RAW, [], ["no images"]),
        (SPEC, None, ["1.png"], ["needs its preprocessing", "mean"]),
        (SPEC, RAW, ["1.png", "cat/2.png"], ["both class folders and loose images"]),
        (SPEC, RAW, ["2/1.png", "10/1.png"], ["leading zeros"]),
        (SPEC, Preprocessing(crop=16), ["1.png"], ["1.png", "8x8", "crop of 16x16"]),
        (SPEC, Preprocessing(resize=16), ["1.png"], ["1.png", "16x16", "(N, 3, 8, 8)"]),
        (SPEC, Preprocessing(layout="NHWC"), ["1.png"], ["8 channels", "layout"]),
        (SPEC, Preprocessing(mean=(0.5, 0.5)), ["1.png"], ["2 values of mean"]),
        (InputSpec("v", (None, 10), "float32"), RAW, ["1.png"], ["(N, 10)", ".npz"]),
        (InputSpec("v", (None, 3, 8, 8), "int64"), RAW, ["1.png"], ["int64"]),
    ],
)
def test_folders_that_do_not_fit_are_one_clear_line(tmp_path, spec, preprocessing, files, words):
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(BadInput) as error:
        load_samples(tmp_path, [spec], preprocessing)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in [str(tmp_path), *words])


def test_a_folder_cannot_feed_two_inputs(tmp_path):
    picture(tmp_path / "1.png")
    with pytest.raises(BadInput, match="feeds one input"):
        load_samples(tmp_path, [SPEC, SPEC], RAW)
