"""What the architectures share: convolution with batch-norm, and seeded initial weights."""

import math

import torch
from torch import nn


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias ("same" padding at stride 1), batch-norm, and an activation where one is given."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def initialise(network: nn.Module, seed: int, size: int = 64) -> nn.Module:
    """He-normal convolutions (fan out, within a group), small dense layers, batch-norm statistics of noise; eval mode.

    Everything comes from `seed`; `size` is that of the images the statistics are taken on. With statistics left at 0
    and 1, squeeze-and-excite halves its way down to numbers that have no precision, and that some processors are slow
    with.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)
    settle(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()


def settle(network: nn.Module, images: torch.Tensor) -> None:
    """Make every batch-norm's statistics those of `images`."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.random.fork_rng(devices=()), torch.no_grad():  # dropout draws from the process's own generator
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
