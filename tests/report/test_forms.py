"""The report in all its forms: complete, tolerant of what is missing, and safe to open."""

import copy
import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import summarise, write_report
from pipeline.report.content import checks
from pipeline.report.html import to_html
from pipeline.report.markdown import to_markdown
from tests.report.sample import sample_report

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


class Structure(HTMLParser):
    """Tags that stay open, ids, and every address a browser would ask for."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return to_html(sample_report())


def parse(page: str) -> Structure:
    structure = Structure()
    structure.feed(page)
    structure.close()
    return structure


def paths(document: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of every mapping, and the first and last entries of every list."""
    steps = document.keys() if isinstance(document, dict) else {0, len(document) - 1} if document else ()
    for step in steps:
        yield (*prefix, step)
        if isinstance(document[step], (dict, list)):
            yield from paths(document[step], (*prefix, step))


def without(document: Any, path: tuple[Any, ...], *, null: bool) -> Any:
    document = copy.deepcopy(document)
    place = document
    for step in path[:-1]:
        place = place[step]
    if null:
        place[path[-1]] = None
    else:
        del place[path[-1]]
    return document


def emptied(document: Any) -> Any:
    """The same shape with nothing known."""
    if isinstance(document, dict):
        return {key: emptied(value) for key, value in document.items()}
    return [emptied(value) for value in document] if isinstance(document, list) else None


def test_all_three_forms_are_written(tmp_path: Path) -> None:
    report = sample_report(3)
    written = write_report(report, tmp_path / "bundle")
    assert [path.name for path in written] == ["report.html", "report.md", "report.json"]
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == sorted(path.name for path in written)
    assert json.loads(written[2].read_text(encoding="utf-8")) == report


def test_numbers_json_has_no_word_for_become_null(tmp_path: Path) -> None:
    report = {"goal": "x", "latency": {"after": {"median_ms": float("nan")}}, "path": tmp_path}
    written = write_report(report, tmp_path)[2].read_text(encoding="utf-8")
    assert json.loads(written) == {"goal": "x", "latency": {"after": {"median_ms": None}}, "path": str(tmp_path)}


def test_page_says_everything_the_report_knows(page: str) -> None:
    text = html.unescape(page)
    for expected in (
        "latency<=0.5x", "2.05×", "2.02 to 2.08", "faster", "1.664 ms", "1.641 to 1.690 ms", "90.61 %", "−1.12 points",
        "16.9 M", "machine was loaded", "branch vanished", "locked: its channels are the network's output", "HiGHS",
        "3.1e\N{NON-BREAKING HYPHEN}07", "a7" * 32, "avx512f", "cutback compress resnet20.onnx", "1.8 %",
    ):  # fmt: skip
        assert expected in text, expected


@pytest.mark.parametrize("groups", [3, 19, 200])
def test_page_is_well_formed_and_asks_for_nothing_outside_itself(groups: int) -> None:
    page = to_html(sample_report(groups))
    structure = parse(page)
    assert structure.open == []
    assert len(structure.ids) == len(set(structure.ids))
    assert all(address.startswith("#") for address in structure.addresses)
    assert not {"script", "link", "iframe", "img", "object", "base"} & structure.tags
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]+)", page))


def test_pictures_are_valid_svg_with_the_page_s_colours(page: str) -> None:
    pictures = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)]
    assert len(pictures) == 12 + 12 + 1 + 2 + 2  # importance, stairs, plans, sweep, recovery
    assert all(picture.get("viewBox") and picture.get("aria-label") for picture in pictures)
    assert "var(--after)" in page
    assert "<metadata" not in page


def test_same_report_gives_the_same_bytes() -> None:
    assert to_html(sample_report(3)) == to_html(sample_report(3))


def test_two_hundred_groups_stay_within_one_readable_page() -> None:
    page = to_html(sample_report(200))
    assert page.count("<svg") == 29
    assert "152 more are in the table" in page
    assert all(html.escape(group["id"]) in page for group in sample_report(200)["groups"])


@pytest.mark.parametrize("key", sample_report(3))
def test_page_does_without_any_part(key: str) -> None:
    for null in (True, False):
        assert parse(to_html(without(sample_report(3), (key,), null=null))).open == []


def test_page_does_without_any_number() -> None:
    assert parse(to_html(emptied(sample_report(3)))).open == []


@pytest.mark.parametrize("null", [True, False])
def test_tables_and_summary_do_without_any_entry(null: bool) -> None:
    report = sample_report(3)
    for path in paths(report):
        gap = without(report, path, null=null)
        assert to_markdown(gap)
        assert summarise(gap)


def test_empty_report_is_still_a_page(tmp_path: Path) -> None:
    assert "not judged" in write_report({}, tmp_path)[0].read_text(encoding="utf-8")


def test_text_from_the_model_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>&\"'`|*_[x](y)"
    report = sample_report(3)
    report["model"]["path"] = report["goal"] = report["command"] = evil
    report["doubts"] = report["failures"] = [evil]
    report["groups"][2]["id"] = report["stairs"][0]["title"] = report["kernels"]["before"][0]["name"] = evil
    page, text = to_html(report), to_markdown(report)
    assert "script" not in parse(page).tags
    assert evil in html.unescape(page)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "<script" not in re.sub(r"\\.", "", prose)
    assert "[x](" not in re.sub(r"\\.", "", prose)


def test_markdown_tables_have_as_many_cells_in_every_row() -> None:
    report = sample_report()
    report["groups"][0]["id"] = "a|b\\|c\nd"
    tables = 0
    for block in to_markdown(report).split("\n\n"):
        if block.startswith("|"):
            tables += 1
            counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block
            assert re.fullmatch(r"\|( :---| ---:|\s\|)+.*", block.splitlines()[1])
    assert tables >= 9


def test_long_tables_fold_in_markdown() -> None:
    assert "<details><summary>200 rows</summary>" in to_markdown(sample_report(200))


def test_command_with_backticks_stays_inside_its_block() -> None:
    assert "````console\necho ```\n````" in to_markdown({"command": "echo ```"})


def test_missed_goal_and_unproved_speed_up_are_said_first() -> None:
    report = sample_report(3)
    report["met"], report["failures"] = False, ["accuracy fell by 3.00 points; --max-drop allows 1"]
    report["latency"]["ratio"]["verdict"] = "inconclusive"
    page, rows = to_html(report), summarise(report)
    assert page.index("accuracy fell by 3.00 points") < page.index("Before and after")
    assert page.index("no speed-up may be claimed") < page.index("Before and after")
    assert rows[0] == ("Goal", "latency<=0.5x on local: not met")
    assert ("Missed", "accuracy fell by 3.00 points; --max-drop allows 1") in rows


def test_what_became_of_batchnorm_is_said() -> None:
    report = sample_report()
    said = [text for name, text in checks(report).rows if name == "Batch-norm"]
    assert [text.partition(" (")[0] for text in said] == ["put back after 19 convolutions, measured on 1024 samples"]
    report["batchnorm"] = {"put_back": 0, "because": "the network has its own"}
    assert ("Batch-norm", "as given: the network has its own") in checks(report).rows


def test_precisions_are_shown_with_the_one_that_is_recommended_and_why_one_is_not_there() -> None:
    report = sample_report()
    for form in (to_html(report), to_markdown(report)):
        assert "Recommended: int8: 1.91x as fast as fp32" in form.replace("\\", "")
        assert "no kernels for it here" in form
        assert "does not meet the latency goal" in form
    assert ("Precision", "Recommended: int8: 1.91x as fast as fp32, +0.25 points lost to it.") in summarise(report)
    without = {**report, "precisions": None}
    assert "Recommended" not in to_html(without) + to_markdown(without)


def test_summary_is_plain_text_of_the_headline_numbers() -> None:
    rows = dict(summarise(sample_report()))
    assert rows["Latency, median"] == "3.412 ms -> 1.664 ms   2.05× (2.02 to 2.08), faster"
    assert rows["Multiply-adds"] == "41.2 M -> 16.9 M   2.44× fewer"
    assert rows["Engine"] == "engine.onnx"


def test_kernels_pair_by_name_and_keep_what_only_one_side_has() -> None:
    from pipeline.report.kernels import Pair, pair_kernels

    kernels = {
        "before": [{"name": "a", "op": "Conv", "us": 5.0}, {"name": "b", "op": "Conv", "us": 4.0}],
        "after": [
            {"name": "a", "op": "ReorderInput", "us": 1.0},
            {"name": "a", "op": "Conv", "us": 2.0},
            {"name": "c", "op": "Add", "us": 3.0},
        ],
    }
    assert pair_kernels({"kernels": kernels}) == [
        Pair("a", "Conv", 5.0, 2.0),
        Pair("b", "Conv", 4.0, None),
        Pair("a", "ReorderInput", None, 1.0),
        Pair("c", "Add", None, 3.0),
    ]
