import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.goal import Bound, parse_duration, parse_goal
from targets.errors import BadInput


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("latency<=8ms", Bound("latency", 8e6, relative=False)),
        ("latency<=750us", Bound("latency", 750e3, relative=False)),
        ("latency<=0.25s", Bound("latency", 0.25e9, relative=False)),
        ("latency<=1.5e3µs", Bound("latency", 1.5e6, relative=False)),
        ("latency<=0.5x", Bound("latency", 0.5, relative=True)),
        ("speedup>=2x", Bound("latency", 0.5, relative=True)),
        ("speedup>=4", Bound("latency", 0.25, relative=True)),
        ("flops<=0.5x", Bound("flops", 0.5, relative=True)),
        ("flops<=300M", Bound("flops", 300e6, relative=False)),
        ("flops<=1.2g", Bound("flops", 1.2e9, relative=False)),
        ("params<=2M", Bound("params", 2e6, relative=False)),
        ("params<=120000", Bound("params", 120000, relative=False)),
        ("memory<=0.5x", Bound("memory", 0.5, relative=True)),
        ("memory<=2MB", Bound("memory", 2e6, relative=False)),
        ("memory<=1.5 MiB", Bound("memory", 1.5 * 2**20, relative=False)),
        ("memory<=512kib", Bound("memory", 2.0**19, relative=False)),
        (" Latency <= 8 ms ", Bound("latency", 8e6, relative=False)),
        ("latency<=1x", Bound("latency", 1.0, relative=True)),
    ],
)
def test_every_form_of_a_goal_is_read_in_base_units(text, bound):
    assert parse_goal(text).bounds == (bound,)


def test_bounds_join_by_commas_and_keep_their_order():
    goal = parse_goal("latency<=0.5x, params<=2M,flops<=0.4x")
    assert [bound.quantity for bound in goal.bounds] == ["latency", "params", "flops"]
    assert goal.bound("params") == Bound("params", 2e6, relative=False)
    assert parse_goal("flops<=0.5x").bound("latency") is None


def test_a_relative_bound_is_a_share_of_the_uncut_network():
    assert parse_goal("latency<=0.5x").bounds[0].against(4e6) == 2e6
    assert parse_goal("latency<=8ms").bounds[0].against(4e6) == 8e6


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "fast",
        "latency",
        "latency<=",
        "latency>=",
        "latency>=8ms",
        "latency<8ms",
        "latency=8ms",
        "latency<=8",
        "latency<=8m",
        "latency<=8 lightyears",
        "latency<=0x",
        "latency<=0ms",
        "latency<=-1ms",
        "latency<=1.5x",
        "latency<=nan",
        "latency<=infms",
        "latency<=1e999ms",
        "speedup>=0x",
        "speedup>=0.5x",
        "speedup<=2x",
        "speedup>=2ms",
        "flops<=300ms",
        "flops<=0.5x,",
        "energy<=0.5x",
        "memory<=2",
        "memory<=2M",
        "memory<=1.5x",
        "params<=0.5x;flops<=0.5x",
    ],
)
def test_nonsense_is_refused_with_the_allowed_forms(text):
    with pytest.raises(BadInput, match=r"Allowed: latency<=8ms"):
        parse_goal(text)


@pytest.mark.parametrize("text", ["latency<=8ms,latency<=0.5x", "latency<=0.5x,speedup>=2x", "flops<=1M,flops<=0.5x"])
def test_a_quantity_is_bounded_once(text):
    with pytest.raises(BadInput, match="bounded twice"):
        parse_goal(text)


def outcome(text: str) -> str:
    try:
        return "goal" if all(bound.limit > 0 for bound in parse_goal(text).bounds) else "limit of nothing"
    except BadInput as error:
        return "refusal of several lines" if "\n" in str(error) else "refusal"


@settings(deadline=None)  # a busy machine is no defect
@given(st.text(max_size=30))
def test_any_text_is_a_goal_or_one_line_of_refusal(text):
    assert outcome(text) in ("goal", "refusal")


@pytest.mark.parametrize(("text", "nanoseconds"), [("8ms", 8e6), ("750us", 750e3), (" 0.2 s ", 0.2e9), ("90ns", 90.0)])
def test_durations_are_read_in_nanoseconds(text, nanoseconds):
    assert parse_duration(text) == pytest.approx(nanoseconds)


@pytest.mark.parametrize("text", ["", "8", "ms", "0ms", "-1ms", "8 minutes", "0.5x", "1e999s"])
def test_a_duration_needs_a_number_above_zero_and_a_unit(text):
    with pytest.raises(BadInput, match="not a duration"):
        parse_duration(text)
