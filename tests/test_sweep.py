"""One profile, many budgets, on a network that was really trained and a device that is really there."""

from typing import Any

import pytest

from tests.digits import Digits, cutback


@pytest.fixture(scope="module")
def swept(digits: Digits, tmp_path_factory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("sweep")
    done = cutback(
        "sweep", digits.network, "--budgets", "0.8x,0.5x,0.001x", "--validate", digits.test, "--measure", "--quick",
        "--sessions", 2, "--allocator", "exact", "--allocator", "uniform", "-o", folder / "out", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.json, folder / "out"


def test_every_allocator_solves_every_budget_and_the_exact_one_keeps_most(swept) -> None:
    points = swept[0]["sweep"]["points"]
    assert [(point["allocator"], round(point["budget_ms"], 9)) for point in points] == [
        (name, round(share * swept[0]["sweep"]["uncut_ms"], 9))
        for name in ("exact", "uniform")
        for share in (0.8, 0.5, 0.001)
    ]
    exact, uniform = points[:2], points[3:5]
    for ours, theirs in zip(exact, uniform, strict=True):
        assert ours["predicted_ms"] <= ours["budget_ms"] * (1 + 1e-6)
        assert ours["kept"] >= theirs["kept"] - 2e-3
        assert ours["gap"] <= 0.01
        assert ours["low_ms"] <= ours["predicted_ms"] <= ours["high_ms"]
    assert 1 > exact[0]["kept"] > exact[1]["kept"] > 0
    assert exact[0]["flops"] > exact[1]["flops"]


def test_budget_out_of_reach_says_the_least_and_nothing_else(swept) -> None:
    for point in (swept[0]["sweep"]["points"][2], swept[0]["sweep"]["points"][5]):
        assert point["channels"] is None
        assert point["least_ms"] > point["budget_ms"]
        assert all(point.get(name) is None for name in ("predicted_ms", "kept", "measured_ms", "accuracy"))


def test_measured_and_judged_where_asked(swept, digits: Digits) -> None:
    found = swept[0]["sweep"]
    for point in found["points"]:
        if point["channels"] is not None:
            assert point["measured_low_ms"] <= point["measured_ms"] <= point["measured_high_ms"]
            assert 0 <= point["accuracy"] <= 100
    assert found["uncut_accuracy"] == pytest.approx(digits.right, abs=0.2)
    assert any("quick" in doubt for doubt in swept[0]["doubts"])


def test_report_page_draws_importance_and_accuracy(swept) -> None:
    page = (swept[1] / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in swept[1].iterdir()} == {"report.html", "report.md", "report.json"}
    assert page.count("over latency in ms") == 2
    assert "out of reach: at least" in page
    assert "latency&lt;=0.8x,0.5x,0.001x" in page
