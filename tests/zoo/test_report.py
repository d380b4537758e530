"""The report: every failure is a row, and the page says what stands."""

import pytest

from tests.zoo.page import page
from tests.zoo.report import attempt, run_apart
from tests.zoo.run import Result


def test_page_tells_cut_failed_and_locked_apart() -> None:
    text = page(
        [
            Result("vgg", "legacy-kept-fixed", groups=6, free=5, flops=0.27, relative_error=2e-7),
            Result(
                "vgg", "dynamo-folded-free", groups=6, free=2, flops=0.61, locked={"Einsum (node_7) has no rule": 3}
            ),
            Result("espcn", "legacy-kept-fixed", failed_at="export", failure="Unsupported: shuffles"),
            Result("espcn", "dynamo-folded-free", failed_at="cut", failure="ProofFailed: they differ"),
        ]
    )
    assert "1 architectures (1 convolutional) in 2 variants cut" in text
    assert "1 of them outside the expected range" in text
    assert "| **0.610** |" in text
    assert "- espcn, legacy-kept-fixed: the exporter: Unsupported: shuffles" in text
    assert "- espcn, dynamo-folded-free: ProofFailed: they differ" in text
    assert "- Einsum… has no rule: vgg (3)" in text


def test_reasons_are_told_without_the_names_of_nodes() -> None:
    reasons = {"LSTM (/a/LSTM) is unknown": 1, "LSTM (/b/LSTM) is unknown": 2}
    text = page([Result("vgg", "legacy-kept-fixed", flops=0.3, locked=reasons)])
    assert "- LSTM… is unknown: vgg (3)" in text


@pytest.mark.slow
def test_network_that_cannot_be_exported_is_a_result_with_its_reason() -> None:
    pytest.importorskip("transformers", reason="pip install 'cutback[zoo]'")
    result = attempt("hf_mobilevitv2", "legacy-kept-fixed")
    assert result.failed_at == "export"
    assert "NoneType" in result.failure
    assert "\n" not in result.failure


@pytest.mark.slow
def test_end_of_the_time_is_a_result() -> None:
    assert run_apart("resnet50", "legacy-kept-fixed", 0.01).failure == "not done after 0.01 s"
