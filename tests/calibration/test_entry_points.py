"""Data from Python: whatever the callable returns is checked like a file, and what it raises is said."""

import textwrap

import numpy as np
import pytest

from calibration.samples import InputSpec, Preprocessing, load_samples
from targets.errors import BadInput

SPEC = InputSpec("x", (None, 2), "float32")
SOURCE = """
    import numpy as np
    from calibration.batches import Batch, Samples

    X = np.arange(8, dtype=np.float32).reshape(4, 2)
    Y = np.arange(4)
    number = 3

    def array(): return X
    def pair(): return X, Y
    def named(): return {"x": X, "labels": Y}
    def named_pair(): return {"x": X}, Y
    def pixels(): return X.astype(np.uint8), Y
    def sibling():
        from neighbour import X
        return X
    def triple(): return X, Y, Y
    def words(): return "words"
    def nothing(): return None
    def wrong_shape(): return X[:, :1]
    def wrong_labels(): return X, Y[:2]
    def raises(): raise RuntimeError("disk\\non fire")

    class Squares(Samples):
        def __init__(self, broken=False): self.broken = broken
        @property
        def labelled(self): return True
        def __len__(self): return 4
        def read(self, indices):
            return Batch({"x": X[indices] * (np.nan if self.broken else 2)}, Y[indices])
    def squares(): return Squares()
    def broken(): return Squares(broken=True)
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.py"
    path.write_text(textwrap.dedent(SOURCE))
    (tmp_path / "neighbour.py").write_text("import numpy as np\nX = np.ones((3, 2), np.float32)\n")
    return path


@pytest.mark.parametrize(
    ("name", "labelled"), [("array", False), ("pair", True), ("named", True), ("named_pair", True), ("squares", True)]
)
def test_arrays_pairs_dicts_and_samples_are_read(source, name, labelled):
    samples = load_samples(f"{source}:{name}", [SPEC])
    batch = next(samples.batches(4))
    factor = 2 if name == "squares" else 1
    np.testing.assert_array_equal(batch.inputs["x"], factor * np.arange(8, dtype=np.float32).reshape(4, 2))
    assert samples.labelled == labelled
    assert (batch.labels is not None) == labelled


def test_preprocessing_applies_to_pixels_from_python(source):
    samples = load_samples(f"{source}:pixels", [SPEC], Preprocessing(scale=2.0))
    np.testing.assert_array_equal(next(samples.batches(1)).inputs["x"], [[0.0, 0.5]])


def test_the_file_imports_its_neighbours_also_when_called(source):
    assert len(load_samples(f"{source}:sibling", [SPEC])) == 3


def test_modules_in_the_working_directory_are_found(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    source.rename(source.with_name("module_of_the_user.py"))
    assert len(load_samples("module_of_the_user:pair", [SPEC])) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["'missing' is not there", "array, "]),
        ("number", ["is a int, not callable"]),
        ("raises", ["RuntimeError: disk on fire"]),
        ("triple", ["tuple of 3"]),
        ("words", ["(N, 2)"]),
        ("nothing", ["NoneType is no array"]),
        ("wrong_shape", ["(4, 1)", "(N, 2)"]),
        ("wrong_labels", ["(2)", "4 examples"]),
        ("broken", ["NaN"]),
    ],
)
def test_what_does_not_fit_is_one_clear_line(source, name, words):
    with pytest.raises(BadInput) as error:
        load_samples(f"{source}:{name}", [SPEC])
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in [f"source.py:{name}", *words])


def test_what_the_callable_raised_is_chained(source):
    with pytest.raises(BadInput) as error:
        load_samples(f"{source}:raises", [SPEC])
    assert isinstance(error.value.__cause__, RuntimeError)


def test_one_array_does_not_feed_two_inputs(source):
    with pytest.raises(BadInput, match=r"has inputs x, z\. Return a dict"):
        load_samples(f"{source}:array", [SPEC, InputSpec("z", (None, 2), "float32")])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("no_such_module_anywhere:load", "could not be imported"),
        ("no/such/file.py:load", "there is no file"),
    ],
)
def test_entry_points_that_are_not_there_are_refused(text, word):
    with pytest.raises(BadInput, match=word):
        load_samples(text, [SPEC])


def test_a_file_that_does_not_compile_is_refused(tmp_path):
    (tmp_path / "bad.py").write_text("def load(:\n")
    with pytest.raises(BadInput, match=r"bad\.py could not be imported: SyntaxError"):
        load_samples(f"{tmp_path / 'bad.py'}:load", [SPEC])
