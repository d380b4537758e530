"""Distillation: the formulas, and which parts a loss has."""

import pytest
import torch

from pipeline.training.distillation import choose_loss, distil, loss_value
from targets.errors import BadInput

torch.manual_seed(0)
OURS, THEIRS = torch.randn(4, 5), torch.randn(4, 5)
LABELS = torch.tensor([0, 1, 2, 3])


def chosen(output=OURS, **changes):
    settings = {"teacher": True, "labels": True, "distillation_weight": 3.0, "label_weight": 1.0, "temperature": 4.0}
    return choose_loss(output, **(settings | changes))


def test_logits_are_distilled_by_kl_at_a_temperature():
    p, q = (THEIRS / 4).softmax(dim=1), (OURS / 4).softmax(dim=1)
    wanted = 16 * (p * (p.log() - q.log())).sum(dim=1).mean()
    torch.testing.assert_close(distil(OURS, THEIRS, 4.0), wanted)
    assert float(distil(OURS, OURS + 3, 4.0)) == pytest.approx(0, abs=1e-5)  # a constant changes no probability


def test_other_outputs_are_distilled_by_squared_error():
    torch.testing.assert_close(distil(OURS[:, :1], THEIRS[:, :1], 4.0), ((OURS - THEIRS)[:, 0] ** 2).mean())
    torch.testing.assert_close(distil(OURS[None], THEIRS[None], 4.0), ((OURS - THEIRS) ** 2).mean())


def test_weights_are_shares_of_the_parts_that_exist():
    both, alone, supervised = chosen(), chosen(labels=False), chosen(teacher=False)
    assert (both.distillation, both.labels) == (0.75, 0.25)
    assert (alone.distillation, alone.labels) == (1, 0)
    assert (supervised.distillation, supervised.labels) == (0, 1)
    wanted = 0.75 * distil(OURS, THEIRS, 4.0) + 0.25 * torch.nn.functional.cross_entropy(OURS, LABELS)
    torch.testing.assert_close(loss_value(both, [OURS], [THEIRS], LABELS), wanted)


def test_every_floating_output_is_distilled():
    loss = chosen(labels=False)
    outputs, teacher = [OURS, OURS[None], LABELS], [THEIRS, THEIRS[None], LABELS + 1]
    wanted = distil(OURS, THEIRS, 4.0) + distil(OURS[None], THEIRS[None], 4.0)
    torch.testing.assert_close(loss_value(loss, outputs, teacher, None), wanted)


def test_labels_meet_logits_only():
    assert chosen(torch.zeros(2, 5, 3, 3)).labels == 0
    assert str(chosen(torch.zeros(2, 5, 3, 3))) == "1 squared error to the original"


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": False, "labels": False},
        {"teacher": False, "label_weight": 0.0},
        {"distillation_weight": 0.0, "label_weight": 0.0},
        {"teacher": False, "output": torch.zeros(2, 5, 3, 3)},
    ],
)
def test_nothing_to_train_on_is_refused(changes):
    with pytest.raises(BadInput, match="nothing to train on"):
        chosen(**changes)
