"""Every architecture of the catalogue: cut by half, proven, as much left as expected, and the cut graph runs."""

import importlib.util

import pytest

from tests.zoo.catalogue import ARCHITECTURES
from tests.zoo.run import cut_in_half, exported
from tests.zoo.variants import VARIANTS, Variant

# These export in about a second each, and between them hold what exporters write differently.
QUICK = ("resnet_parameter_free", "vgg", "espcn", "vae", "m5", "wavenet")


def variants():
    for name, row in ARCHITECTURES.items():
        for variant in row.variants:
            quick = name in QUICK and variant.exporter == "legacy"
            yield pytest.param(name, variant, id=f"{name}-{variant.name}", marks=() if quick else (pytest.mark.slow,))


@pytest.mark.parametrize(("name", "variant"), variants())
def test_architecture_is_cut_proven_and_runs(name: str, variant: Variant) -> None:
    row = ARCHITECTURES[name]
    if name.startswith("hf_") and importlib.util.find_spec("transformers") is None:
        pytest.skip("the transformers package is not installed: pip install cutback[zoo]")
    if reason := (row.unexportable or {}).get(variant.name):
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the exporter raises, until it no longer does
            exported(name, variant)
        pytest.skip(f"the exporter cannot write it: {reason}")
    result = cut_in_half(name, variant, exported(name, variant))
    low, high = row.flops
    assert low <= round(result.flops, 3) <= high
    assert result.relative_error <= result.tolerance
    assert result.contrast > 100 * result.tolerance  # a cut that changed nothing would prove nothing


def test_catalogue_is_as_large_as_promised() -> None:
    assert len(ARCHITECTURES) >= 60
    assert sum(row.variants == tuple(VARIANTS.values()) for row in ARCHITECTURES.values()) >= 12
    assert all(row.because for row in ARCHITECTURES.values() if row.flops != (0.25, 0.36))
