"""Schedule: it ends within the minutes, and each step has its learning rate."""

import pytest
import torch

from pipeline.training.config import RecoveryConfig
from pipeline.training.pace import TIMED_STEPS, choose_precision
from pipeline.training.schedule import MARGIN, Pace, Plan, fit, learning_rate, shortened
from pipeline.training.start import find_loss
from targets.errors import BadInput
from tests.training.digits import config, run, samples, student, teacher


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [learning_rate(step, 100, 0.1, 0.2) for step in range(100)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[20] == max(rates) == pytest.approx(0.1)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert learning_rate(0, 1, 0.1, 0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("epochs", "left", "wanted"),
    [
        (30, None, (30, 100)),  # no limit of time
        (30, 1000.0, (30, 100)),  # more time than is needed: 12 s an epoch
        (30, 121.0 / MARGIN, (10, 100)),
        (None, 121.0 / MARGIN, (10, 100)),
        (30, 7.05 / MARGIN, (1, 50)),  # less than an epoch: a short one
        (30, 0.001, (1, 1)),  # no time at all: the least there is
    ],
)
def test_as_many_epochs_as_fit(epochs, left, wanted):
    assert fit(epochs, 100, left, Pace(step=0.1, overhead=2.0)) == wanted


@pytest.mark.parametrize(
    ("left", "epochs"), [(None, 10), (60.0, 10), (59.0, 9), (25.0, 6), (9.0, 4), (0.0, 4), (-5.0, 4)]
)
def test_a_plan_that_would_end_too_late_is_shortened_and_never_lengthened(left, epochs):
    assert shortened(Plan(10, 100, False, ""), 4, 10.0, left) == Plan(epochs, 100, False, "")


class Clock:
    """Each look at it costs a second; what is measured is then known."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_the_planned_epochs_fit_into_the_minutes_by_the_clock(tmp_path):
    settings = config(epochs=None, minutes=4.0)
    found = run(student(), tmp_path / "c.pt", config=settings, clock=Clock())
    # By that clock a step takes 2 s and an epoch's validation and checkpoint 2 s: 26 s for 12 steps. What was spent
    # before the first epoch leaves less than the 240 s.
    assert 1 <= found.planned_epochs <= MARGIN * 240 / 26
    assert len(found.history) == found.planned_epochs


def test_less_time_than_an_epoch_makes_a_short_epoch(tmp_path):
    steps: list[tuple[int, int]] = []
    settings = config(epochs=9, minutes=0.6)
    run(student(), tmp_path / "c.pt", config=settings, clock=Clock(), on_progress=lambda *s: steps.append(s[:2]))
    assert 1 <= len(steps) < 12
    assert steps[-1][0] == steps[-1][1] == len(steps)


def test_a_machine_that_slows_down_ends_in_time_all_the_same(tmp_path):
    clock = Clock()

    def slower(done: int, total: int, note: str) -> None:
        clock.now += 2.0  # a step takes twice what was measured

    settings = config(epochs=None, minutes=6.0)
    found = run(student(), tmp_path / "c.pt", config=settings, clock=clock, on_progress=slower)
    assert 2 <= len(found.history) == found.planned_epochs
    assert found.seconds <= 360
    assert found.history[-1].learning_rate < 0.1 * config().learning_rate


def test_slow_steps_are_measured_by_few_of_them(tmp_path):
    network, clock = student(), Speeds(30.0, 30.0)
    network.register_forward_pre_hook(clock.forward_begins)
    settings = config()
    choose_precision(network, None, samples(), settings, find_loss(job(network, tmp_path, settings)), clock)
    assert clock.now <= 30.0 * 4 < 30.0 * TIMED_STEPS


def test_a_resumed_run_keeps_the_schedule_it_chose(tmp_path):
    settings = config(epochs=None, minutes=4.0)

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(student(), tmp_path / "c.pt", config=settings, clock=Clock(), on_progress=interrupt)
    totals: set[int] = set()
    late = Clock()
    late.now = 1e6
    found = run(
        student(), tmp_path / "c.pt", config=settings, clock=late, on_progress=lambda _, total, __: totals.add(total)
    )
    straight = run(student(), tmp_path / "straight.pt", config=settings, clock=Clock())
    assert totals == {12 * straight.planned_epochs}
    assert len(found.history) == len(straight.history)


class Speeds:
    """A network that takes its own time in each precision, by its own clock."""

    def __init__(self, plain: float, short: float) -> None:
        self.now, self.plain, self.short = 0.0, plain, short

    def __call__(self) -> float:
        return self.now

    def __deepcopy__(self, _: object) -> "Speeds":
        return self  # copies of the network run by the same clock

    def forward_begins(self, *_: object) -> None:
        self.now += self.short if torch.is_autocast_enabled("cpu") else self.plain


@pytest.mark.parametrize(("plain", "short", "bf16"), [(1.0, 2.0, False), (2.0, 1.0, True), (1.0, 1.0, False)])
def test_auto_keeps_the_faster_precision_and_leaves_the_student_alone(tmp_path, plain, short, bf16):
    network = student()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = config(bf16="auto")
    loss = find_loss(job(network, tmp_path, settings))
    clock = Speeds(plain, short)
    network.register_forward_pre_hook(clock.forward_begins)
    chosen, seconds, why = choose_precision(network, teacher(), samples(), settings, loss, clock)
    assert seconds == min(plain, short)
    assert chosen is bf16
    assert why.startswith("bfloat16" if bf16 else "float32")
    assert "ms in bfloat16" in why
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def job(network, tmp_path, settings):
    from pipeline.training.job import Job

    return Job(network, samples(), teacher(), settings, tmp_path / "c.pt", None, None, Clock(), 0.0)


class OnlyFloat32(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = student()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for bfloat16")
        logits: torch.Tensor = self.inner(x)
        return logits


def test_auto_falls_back_where_bfloat16_does_not_run_and_says_so(tmp_path):
    found = run(OnlyFloat32(), tmp_path / "c.pt", config=config(epochs=1, bf16="auto"))
    assert found.precision == "float32; bfloat16 does not run this network (no kernel for bfloat16)"


def test_bfloat16_trains_float32_weights(tmp_path):
    network = student()
    found = run(network, tmp_path / "c.pt", config=config(bf16=True))
    assert found.precision == "bfloat16, as asked"
    assert found.best_value is not None
    assert found.best_value > 85
    assert {value.dtype for value in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"epochs": None}, "neither epochs nor minutes"),
        ({"epochs": 0}, "epochs 0"),
        ({"minutes": 0.0}, "minutes"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": 1}, "batch_size"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"momentum": 1.0}, "momentum"),
        ({"temperature": 0.0}, "temperature"),
        ({"distillation_weight": -1.0}, "distillation_weight"),
        ({"label_weight": float("inf")}, "label_weight"),
        ({"warm_up": 1.0}, "warm_up"),
        ({"patience": 0}, "patience"),
        ({"bf16": "yes"}, "bf16"),
        ({"layout": "CHW"}, "layout"),
        ({"seed": -1}, "seed"),
        ({"threads": 0}, "threads"),
        ({"augmentation": ("mirror",)}, "'mirror' is unknown. Known: flip, crop"),
        ({"augmentation": ("crop",)}, "'crop' is unknown"),
        ({"augmentation": ("crop:0",)}, "'crop:0'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, word):
    with pytest.raises(BadInput, match=word) as error:
        RecoveryConfig(**changes)
    assert "\n" not in str(error.value)
