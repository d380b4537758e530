"""Augmentation: flips mirror, crops move and bring in zeros, each image on its own."""

import numpy as np
import pytest

from pipeline.training.augmentation import augment
from targets.errors import BadInput

IMAGES = np.random.default_rng(0).normal(size=(64, 3, 6, 5)).astype(np.float32)


def changed(names, images=IMAGES, layout="NCHW", seed=0):
    return augment(images, names, layout, np.random.default_rng(seed))


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    found = changed(("flip",))
    mirrored = [np.array_equal(one, other[:, :, ::-1]) for one, other in zip(found, IMAGES, strict=True)]
    kept = [np.array_equal(one, other) for one, other in zip(found, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 20 <= sum(mirrored) <= 44


def test_crop_moves_each_image_by_at_most_its_pixels_and_fills_with_zeros():
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (2, 2), (2, 2)))
    moves = set()
    for index, found in enumerate(changed(("crop:2",))):
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(found, padded[index, :, down : down + 6, right : right + 5])
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert {down for down, _ in moves} == {right for _, right in moves} == set(range(5))
    assert len(moves) > 15


@pytest.mark.parametrize("names", [("flip",), ("crop:1",), ("flip", "crop:2")])
def test_layouts_agree_and_the_source_stays_as_it_is(names):
    before = IMAGES.copy()
    last = changed(names, IMAGES.transpose(0, 2, 3, 1), "NHWC")
    first = changed(names)
    np.testing.assert_array_equal(first, last.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(IMAGES, before)
    assert first.shape == IMAGES.shape
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert last.flags.c_contiguous
    assert not np.shares_memory(first, IMAGES)


def test_a_seed_repeats_itself():
    np.testing.assert_array_equal(changed(("flip", "crop:2"), seed=4), changed(("flip", "crop:2"), seed=4))
    assert not np.array_equal(changed(("flip", "crop:2"), seed=4), changed(("flip", "crop:2"), seed=5))


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(BadInput, match=r"shape \(64, 90\)"):
        changed(("flip",), IMAGES.reshape(64, -1))
