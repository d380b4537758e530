"""Batch-norm re-estimation: exact averages, nothing else touched."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibration.arrays import ArraySamples
from calibration.batchnorm import reestimate
from targets.errors import BadInput


class Network(nn.Module):
    """Two norms, the second without running statistics, behind the interface that re-estimation asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.free = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.free(self.norm(self.conv(x)))
        return features

    @property
    def momentum(self) -> float:
        return self.norm.momentum or 0.0

    @momentum.setter
    def momentum(self, value: float) -> None:
        self.norm.momentum = value

    def statistics(self) -> list[tuple[Tensor, Tensor]]:
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        return [(self.norm.running_mean, self.norm.running_var)]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().eval()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, size=(count, 3, 6, 6)).astype(np.float32)


def of(values: np.ndarray) -> ArraySamples:
    return ArraySamples({"x": values}, None, {})


def test_statistics_become_the_average_over_equal_batches(network):
    values = images(48)
    with torch.no_grad():
        features = network.conv(torch.from_numpy(values))
    shuffled = features[np.random.default_rng(5).permutation(48)].reshape(3, 16, *features.shape[1:])
    assert reestimate(network, of(values), batch_size=16, seed=5) == 48
    torch.testing.assert_close(network.norm.running_mean, features.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(network.norm.running_var, shuffled.var(dim=(1, 3, 4)).mean(dim=0))


def test_old_statistics_leave_no_trace_even_when_they_are_nan(network):
    mean, variance = network.statistics()[0]
    reestimate(network, of(images(32)), batch_size=16)
    wanted = mean.clone(), variance.clone()
    mean.fill_(float("nan"))
    variance.fill_(float("inf"))
    reestimate(network, of(images(32)), batch_size=16)
    torch.testing.assert_close((mean, variance), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_but_the_statistics_changes(network, training):
    network.train(training)
    network.momentum = 0.3
    before = {name: value.clone() for name, value in network.named_parameters()}
    reestimate(network, of(images(20)), batch_size=16)
    assert network.training is training
    assert network.norm.training is training
    assert network.momentum == 0.3
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None


def test_a_set_smaller_than_a_batch_is_used_whole(network):
    assert reestimate(network, of(images(5)), batch_size=16) == 5


def test_a_network_without_statistics_is_left_alone(network):
    network.statistics = list
    network.conv = nn.Identity()  # would fail if it were run
    assert reestimate(network, of(images(5))) == 0


def test_after_an_error_statistics_are_as_before(network):
    reestimate(network, of(images(32)))
    wanted = [buffer.clone() for buffer in network.statistics()[0]]
    bad = images(32)
    bad[3] = np.inf
    with pytest.raises(BadInput, match="norm 0 of 1"):
        reestimate(network, of(bad))
    torch.testing.assert_close(list(network.statistics()[0]), wanted, rtol=0, atol=0)
    assert not network.training
