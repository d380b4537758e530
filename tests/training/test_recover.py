"""Recovery: a damaged network gets its accuracy back, keeps its best epoch, and survives being killed."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training.recover import recover
from targets.errors import BadInput
from tests.training.digits import Network, accuracy, config, digits, run, samples, student, teacher

ROOT = Path(__file__).parents[2]


def test_recovery_brings_a_damaged_student_back(tmp_path):
    network = student()
    damaged = accuracy(network)
    found = run(network, tmp_path / "c.pt")
    assert found.start_value == pytest.approx(damaged)
    assert found.best_value is not None
    assert found.best_value > max(85.0, damaged + 10)
    assert accuracy(network) == found.best_value
    assert [epoch.epoch for epoch in found.history] == [1, 2, 3, 4]
    assert found.history[-1].loss < found.history[0].loss
    assert found.loss == "0.5 KL at temperature 4 + 0.5 cross-entropy with labels"
    assert not network.training


def test_distillation_needs_no_labels(tmp_path):
    network = student()
    found = run(network, tmp_path / "c.pt", samples=samples(labelled=False))
    assert found.best_value is not None
    assert found.best_value > 85
    assert found.loss == "1 KL at temperature 4"


def test_labels_need_no_teacher(tmp_path):
    network = student()
    found = run(network, tmp_path / "c.pt", teacher=None)
    assert found.best_value is not None
    assert found.best_value > 85
    assert found.loss == "1 cross-entropy with labels"


def test_augmented_images_are_shown_to_student_and_teacher_alike(tmp_path):
    network = student()
    found = run(network, tmp_path / "c.pt", samples=samples(labelled=False), config=config(augmentation=("crop:1",)))
    assert found.best_value is not None
    assert found.best_value > 85


def test_outputs_that_are_no_logits_are_matched_by_squared_error(tmp_path):
    original, network = teacher().features, student().features
    with torch.no_grad():
        network.load_state_dict({**original[:4].state_dict()}, strict=False)
    wide = nn.Sequential(network, nn.Conv2d(8, 16, 1))
    images = torch.from_numpy(digits()[0])
    with torch.no_grad():
        before = nn.functional.mse_loss(wide(images), original(images))
    found = recover(wide, samples(), teacher=original, config=config(learning_rate=0.5), checkpoint=tmp_path / "c.pt")
    assert found.loss == "1 squared error to the original"
    assert found.history[-1].loss < 0.5 * float(before)


def test_without_validation_the_last_epoch_is_kept(tmp_path):
    network = student()
    found = run(network, tmp_path / "c.pt", validation=None)
    assert (found.best_value, found.start_value, found.best_epoch) == (None, None, 4)
    assert accuracy(network) > 85


def values(*numbers: float):
    """A validation that gives these, one for each call."""
    left = list(numbers)
    return lambda _: left.pop(0)


@pytest.mark.parametrize(
    ("numbers", "best"), [((1, 5, 3, 2, 4), 1), ((1, 2, 5, 5, 4), 3), ((9, 2, 5, 5, 4), 0), ((5, 5, 1, 1, 5), 4)]
)
def test_the_best_epoch_is_kept_and_of_equals_the_later(tmp_path, numbers, best):
    seen: list[dict[str, torch.Tensor]] = []
    network, validate = student(), values(*numbers)

    def validation(module: nn.Module) -> float:
        assert not module.training
        seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return float(validate(module))

    found = run(network, tmp_path / "c.pt", validation=validation)
    assert (found.best_epoch, found.best_value) == (best, max(numbers))
    for name, value in network.state_dict().items():
        assert torch.equal(value, seen[best][name])


def test_patience_stops_after_epochs_without_improvement(tmp_path):
    settings = config(epochs=9, patience=2)
    found = run(student(), tmp_path / "c.pt", config=settings, validation=values(0, 1, 3, 3, 2, 9))
    assert [epoch.accuracy for epoch in found.history] == [1, 3, 3, 2]
    assert found.planned_epochs == 9
    again = run(student(), tmp_path / "c.pt", config=settings, validation=values())
    assert again == found


def test_the_teacher_and_the_settings_of_torch_come_out_unchanged(tmp_path):
    original, network, threads = teacher().train(), student(), torch.get_num_threads()
    torch.set_num_threads(2)
    before = {name: value.clone() for name, value in original.state_dict().items()}
    state = torch.get_rng_state()
    settings = config(epochs=1, threads=1)
    recover(network, samples(), teacher=original, config=settings, checkpoint=tmp_path / "c.pt")
    random, after = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(threads)
    assert original.training
    assert after == 2
    assert torch.equal(random, state)
    for name, value in original.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    networks = [student(), student()]
    for index, network in enumerate(networks):
        run(network, tmp_path / f"{index}.pt", config=config(epochs=2, augmentation=("flip", "crop:1")))
    assert_near(networks[0], networks[1])


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.digits import config, run, student

def die(*_): os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "step":
    watch = lambda done, total, note: die() if done == 31 else None  # in the third of four epochs of 12 steps
else:
    watch, replace = None, Path.replace
    def rename(self, target):  # while the checkpoint of the second epoch is beside its place
        rename.count += 1
        return die() if rename.count == 5 else replace(self, target)
    rename.count = 0
    Path.replace = rename
run(student(), Path(sys.argv[1]), config=config(augmentation=("crop:1",)), on_progress=watch)
"""


@pytest.mark.parametrize("moment", ["step", "rename"])
def test_after_a_kill_the_same_call_ends_where_it_would_have(tmp_path, moment):
    checkpoint = tmp_path / "c.pt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(checkpoint), moment], env=environment, cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    settings = config(augmentation=("crop:1",))
    steps: list[int] = []
    resumed, straight = student(), student()
    found = run(resumed, checkpoint, config=settings, on_progress=lambda done, *_: steps.append(done))
    wanted = run(straight, tmp_path / "straight.pt", config=settings)
    assert steps[0] == 25  # the first two epochs are not trained again
    assert [epoch.epoch for epoch in found.history] == [1, 2, 3, 4]
    assert found.best_value == pytest.approx(wanted.best_value, abs=1.0)
    np.testing.assert_allclose([e.loss for e in found.history], [e.loss for e in wanted.history], rtol=1e-3)
    assert_near(resumed, straight)


def test_an_interrupt_leaves_the_last_checkpoint_whole(tmp_path):
    def interrupt(done: int, total: int, note: str) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(student(), tmp_path / "c.pt", on_progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    steps: list[int] = []
    found = run(student(), tmp_path / "c.pt", on_progress=lambda done, *_: steps.append(done))
    assert steps[0] == 13
    assert len(found.history) == 4


def test_a_finished_recovery_comes_back_at_once(tmp_path):
    first, again = student(), student()
    found = run(first, tmp_path / "c.pt")
    steps: list[int] = []
    assert run(again, tmp_path / "c.pt", on_progress=lambda done, *_: steps.append(done)) == found
    assert steps == []
    assert_near(first, again)


def narrow() -> Network:
    torch.manual_seed(1)
    return Network(6)


def scaled() -> Network:
    network = student()
    with torch.no_grad():
        network.classifier.weight *= 1.1
    return network


@pytest.mark.parametrize(
    ("changes", "network", "words"),
    [
        ({"config": config(epochs=1, learning_rate=0.01)}, student, "learning_rate 0.05 there, 0.01 now"),
        ({"teacher": None}, student, "loss .* there"),
        ({"samples": samples(count=1000)}, student, "1200 samples there, 1000 now"),
        ({}, narrow, "other shapes"),
        ({}, scaled, r"classifier\.weight had other values"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, network, words):
    base = {"config": config(epochs=1)}
    run(student(), tmp_path / "c.pt", **base)
    with pytest.raises(BadInput, match=f"another run.*{words}.*rm .*c.pt"):
        run(network(), tmp_path / "c.pt", **(base | changes))


def test_threads_may_change_between_runs(tmp_path):
    found = run(student(), tmp_path / "c.pt", config=config(epochs=1))
    assert run(student(), tmp_path / "c.pt", config=replace(config(epochs=1), threads=1)) == found


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "c.pt").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(BadInput, match=r"cannot be read as a checkpoint.*rm "):
        run(student(), tmp_path / "c.pt")


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        run(student(), tmp_path / "no" / "folder" / "c.pt")


def broken() -> Network:
    network = student()
    with torch.no_grad():
        network.classifier.bias[0] = float("nan")
    return network


def mislabelled():
    data = samples()
    data._labels = np.full(1200, 10)
    return data


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("changes", "network", "words"),
    [
        ({"config": config(learning_rate=1e30)}, student, "diverged with learning rate 1e.30.*1e.29.*rm "),
        ({"validation": None}, broken, "before any update"),
        ({"validation": lambda _: float("nan")}, student, "validation gives NaN"),
        ({"teacher": None, "samples": samples(labelled=False)}, student, "nothing to train on.*teacher: no"),
        ({"teacher": None, "config": config(label_weight=0.0)}, student, "nothing to train on"),
        ({"teacher": teacher().features}, student, r"student gives \[\(2, 10\)\].*teacher \[\(2, 16, 2, 2\)\]"),
        ({"samples": mislabelled()}, student, "label 10 is out of range.*10 classes"),
        ({"samples": samples(count=1)}, student, "1 samples to train on"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(tmp_path, changes, network, words):
    with pytest.raises(BadInput, match=words) as error:
        run(network(), tmp_path / "c.pt", **changes)
    assert "\n" not in str(error.value)


def test_a_network_without_parameters_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no parameters"):
        recover(nn.Flatten(), samples(), teacher=nn.Flatten(), config=config(), checkpoint=tmp_path / "c.pt")


def test_augmentation_of_what_is_no_image_is_refused(tmp_path):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    data = samples()
    data._inputs = {"x": digits()[0].reshape(-1, 64)[:1200]}
    with pytest.raises(BadInput, match="augmentation needs one input of images"):
        run(flat, tmp_path / "c.pt", teacher=None, samples=data, config=config(augmentation=("flip",)))


def assert_near(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-3)
