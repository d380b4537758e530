"""Weights drawn from a seed, so that no two channels are alike, none is faint, and nothing grows out of hand."""

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SEED = 0


def examples(shapes: tuple[tuple[int, ...], ...], batch: int) -> tuple[Tensor, ...]:
    """One random tensor for every input; `shapes` are without the batch."""
    generator = torch.Generator().manual_seed(SEED + 1)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)


@torch.no_grad()
def seeded(network: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> nn.Module:
    """The network in eval mode, redrawn: matrices keep the variance, scales lie about 1, shifts about 0.

    Batch-norm statistics are those of a random batch, then moved by up to 40 %: left at what they are, a cut that took
    the wrong channel's statistics could hide; left at 0 and 1, deep networks fade or overflow.
    """
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in network.named_parameters():
        _draw(name, parameter, generator)
    norms = [module for module in network.eval().modules() if isinstance(module, NORMS)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(*examples(shapes, 4))
    for norm in norms:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        spread = variance.sqrt()
        mean += 0.2 * spread * torch.randn(mean.shape, generator=generator)
        variance *= 0.7 + 0.7 * torch.rand(variance.shape, generator=generator)
    return network.eval()


def _draw(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    inputs = parameter[0].numel() if parameter.dim() > 1 and parameter.shape[0] > 1 else 0
    values = torch.randn(parameter.shape, generator=generator)
    if parameter.dim() > 1 and inputs > 1 and "weight" in name.split(".")[-1]:
        parameter.copy_(values * (1.5 / inputs) ** 0.5)
    elif _scales(name):
        parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    else:
        parameter.copy_(0.2 * values)


def _scales(name: str) -> bool:
    """A scale, by its name: a norm's weight, a layer's scale, an attention's temperature."""
    last = name.split(".")[-1]
    return last.startswith(("weight", "scale", "gamma", "lambda", "layer_scale", "temperature", "original0"))
