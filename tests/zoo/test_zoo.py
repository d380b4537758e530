"""Every architecture of the catalogue: cut by half, proven, as much left as expected."""

import importlib.util

import pytest

from tests.zoo.catalogue import ARCHITECTURES, FAIR
from tests.zoo.run import cut_in_half, exported
from tests.zoo.variants import VARIANTS, Variant

# These export in about a second each, and between them hold what exporters write differently.
QUICK = ("resnet_parameter_free", "vgg", "espcn", "vae", "m5", "wavenet")


def variants(*, exportable: bool):
    """Every variant that its exporter can write, or every one that it cannot."""
    return [
        pytest.param(
            name, variant, id=f"{name}-{variant.name}",
            marks=() if name in QUICK and variant.exporter == "legacy" else (pytest.mark.slow,),
        )
        for name, row in ARCHITECTURES.items()
        for variant in row.variants
        if (variant.name in row.unexportable) != exportable
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def _transformers(request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["name"] if "name" in request.fixturenames else ""
    if name.startswith("hf_") and importlib.util.find_spec("transformers") is None:
        pytest.skip("the transformers package is not installed: pip install 'cutback[zoo]'")


@pytest.mark.parametrize(("name", "variant"), variants(exportable=True))
def test_architecture_is_cut_to_the_expected_share_and_proven(name: str, variant: Variant) -> None:
    low, high = ARCHITECTURES[name].flops
    result = cut_in_half(name, variant, exported(name, variant))
    assert low <= round(result.flops, 3) <= high
    assert result.relative_error <= result.tolerance
    assert result.contrast > 100 * result.tolerance  # a cut that changes nothing proves nothing


@pytest.mark.parametrize(("name", "variant"), variants(exportable=False))
def test_what_the_catalogue_calls_unexportable_still_is(name: str, variant: Variant) -> None:
    with pytest.raises(Exception, match=ARCHITECTURES[name].unexportable[variant.name]):
        exported(name, variant)


def test_catalogue_is_as_large_as_promised() -> None:
    assert len(ARCHITECTURES) >= 60
    assert sum(set(row.variants) == set(VARIANTS.values()) for row in ARCHITECTURES.values()) >= 12


def test_every_other_range_has_its_reason() -> None:
    assert {name for name, row in ARCHITECTURES.items() if (row.flops != FAIR) != bool(row.because)} == set()
