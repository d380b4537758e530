"""Results for people: rich tables on standard output, coloured only on a terminal."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LOG_WIDTH = 120  # columns where the output is no terminal
VERDICT_STYLES = {"faster": "green", "slower": "red", "inconclusive": "yellow"}
QUICK = " [yellow](quick)[/yellow]"  # behind every number and verdict that short sessions gave


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are text and whose others are numbers."""
    made = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        made.add_column(escape(column), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def number(value: Any, digits: int = 4, unit: str = "") -> str:
    """A number as people read it; a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}{unit}"
    return f"{value:.{digits}g}{unit}"


def count(value: Any) -> str:
    """A large count with a suffix: 4.09 G."""
    if value is None:
        return "-"
    size = float(value)
    for suffix in ("", " k", " M", " G", " T"):
        if abs(size) < 1000 or suffix == " T":
            return f"{size:.3g}{suffix}"
        size /= 1000
    raise AssertionError("unreachable")


def interval(low: Any, high: Any, unit: str = "") -> str:
    return (
        "" if low is None or high is None or not math.isfinite(high) else f"[dim]\\[{low:.4g}, {high:.4g}]{unit}[/dim]"
    )


def print_pack(result: Mapping[str, Any]) -> None:
    out = console()
    rows = [(escape(name), digest[:12]) for name, digest in result["files"].items()]
    out.print(table(f"For {result['kind']}", ("file", "sha256"), rows, left=2))
    out.print(f"written {escape(result['output'])}", soft_wrap=True)


def print_build(result: Mapping[str, Any]) -> None:
    out = console()
    out.print(
        f"{escape(result['engine'])}: {count(result['bytes'])}B, built by {result['runtime']} on "
        f"{escape(result['target'])} in {result['seconds']:.1f} s",
        soft_wrap=True,
    )
    if result["rewritten"]:
        out.print("taken only with exact rewrites (parameter-free shortcuts as convolutions), which were made")
    if result["onnx"] is not None:
        out.print(f"{escape(result['onnx'])}: what it was built from", soft_wrap=True)
    if result["difference"] is not None:
        out.print(f"outputs differ from the network's by {result['difference']:.2g} (relative)", soft_wrap=True)
    print_doubts(out, result["doubts"])


def reduction(before: Any, after: Any) -> str:
    return f"{before / after:.2f}x less" if before and after else ""


def ratio_text(ratio: Mapping[str, Any]) -> str:
    verdict = str(ratio.get("verdict", ""))
    shown = f"[{VERDICT_STYLES.get(verdict, 'default')}]{verdict}[/]{QUICK if ratio.get('quick') else ''}"
    return f"{number(ratio.get('value'), 3, 'x')} {interval(ratio.get('low'), ratio.get('high'))} {shown}"


def print_compression(report: Mapping[str, Any], output: Path) -> None:
    out = console()
    latency = report["latency"]
    before, after = latency["before"], latency["after"]
    rows = [
        (
            "latency (median)",
            number(before["median_ms"], unit=" ms"),
            number(after["median_ms"], unit=" ms"),
            ratio_text(latency["ratio"]),
        ),
        ("  interval", *(interval(side.get("low_ms"), side.get("high_ms"), " ms") for side in (before, after)), ""),
        (
            "  predicted",
            "",
            number(latency.get("predicted_ms"), unit=" ms"),
            interval(latency.get("predicted_low_ms"), latency.get("predicted_high_ms"), " ms, before it was built"),
        ),
    ]
    for name in ("flops", "params"):
        values = report[name]["before"], report[name]["after"]
        rows.append((name, count(values[0]), count(values[1]), reduction(*values)))
    if report.get("accuracy"):
        accuracy = report["accuracy"]
        change = f"{-accuracy['drop']:+.2f} points" if accuracy.get("drop") is not None else ""
        cut = f" ({accuracy['cut']:.2f} before recovery)" if accuracy.get("cut") is not None else ""
        rows.append(
            (str(accuracy["metric"]), f"{accuracy['before']:.2f} %", f"{accuracy['after']:.2f} %", change + cut)
        )
    out.print(table(f"{report['goal']}: {'met' if report['met'] else 'not met'}", ("", "before", "after", ""), rows))
    if report.get("solver"):
        print_gap(out, report["solver"]["name"], report["solver"])
    batchnorm = report.get("batchnorm") or {}
    if batchnorm.get("put_back"):
        out.print(
            f"batch-norm put back after {batchnorm['put_back']} convolutions, measured on {batchnorm['samples']} "
            "samples, trained, and folded again"
        )
    print_doubts(out, report.get("doubts"))
    for failure in report.get("failures") or ():
        out.print(f"[red]failed[/red] {escape(str(failure))}", soft_wrap=True)
    for engine in report.get("engines") or ():
        out.print(f"engine  {escape(str(output / engine['path']))}", soft_wrap=True)
    out.print(f"report  {escape(str(output / 'report.html'))}", soft_wrap=True)


def print_gap(out: Console, solver: str, solved: Mapping[str, Any]) -> None:
    """How far from the best the kept importance can be, for the given scores and tables."""
    gap = f"at most {100 * solved['gap']:.2g} % from the best" if solved.get("gap") is not None else "no bound"
    out.print(f"widths  {escape(solver)}: {escape(str(solved.get('status')))}, {gap}", soft_wrap=True)


def print_inspection(found: Mapping[str, Any]) -> None:
    out = console()
    rows = [
        (
            escape(str(group["id"])),
            number(group["width"]),
            number(group["step"]),
            "yes" if group["exact"] else "[yellow]no[/yellow]",
            f"[yellow]{escape(reason(group['locked']))}[/yellow]",
        )
        for group in found["groups"]
    ]
    columns = ("group", "width", "step", "exact", "locked")
    groups = table(f"{count(found['flops'])} multiply-adds, {count(found['params'])} parameters", columns, rows)
    groups.columns[-1].justify = "left"
    out.print(groups)
    for refusal in found["not_followed"]:
        out.print(f"[yellow]not followed[/yellow] {escape(refusal)}", soft_wrap=True)


def reason(locked: Any) -> str:
    """`locked` is a sentence, true, or nothing."""
    return locked if isinstance(locked, str) else "yes" if locked else ""


def print_cut(result: Mapping[str, Any], output: Path) -> None:
    out = console()
    rows = [
        (
            name,
            count(result[name]["before"]),
            count(result[name]["after"]),
            reduction(result[name]["before"], result[name]["after"]),
        )
        for name in ("flops", "params")
        if name in result
    ]
    out.print(table("Cut", ("", "before", "after", ""), rows))
    if result.get("proof"):
        error = number(result["proof"].get("relative_error"), 2)
        out.print(f"equal to the masked original within {error} (relative)")
        if result["proof"].get("inexact_groups"):
            across = count(result["proof"]["inexact_groups"])
            out.print(f"[yellow]not exact[/yellow] in {across} of the groups: a norm or softmax runs over them")
    if result.get("left_inexact"):
        out.print(
            f"left whole: {count(result['left_inexact'])} of the groups, over which a norm runs; cut them: --inexact"
        )
    if result.get("decision"):
        print_gap(out, result["decision"]["solver"], result["decision"])
    print_doubts(out, result.get("doubts"))
    out.print(f"written {escape(str(output))}", soft_wrap=True)


def print_profile(result: Mapping[str, Any]) -> None:
    out = console()
    kernels = result["kernels"]
    total = sum(kernel["us"] for kernel in kernels)
    rows = [
        (
            escape(str(kernel["name"])),
            escape(str(kernel["op"])),
            number(kernel["us"]),
            f"{kernel['us'] / total:.1%}" if total else "-",
        )
        for kernel in kernels
    ]
    told = result["heldout"].get("kernels_told", True)
    title = "Kernels" if told else "Kernels as the graph suggests them, times inferred from whole networks"
    out.print(table(title, ("kernel", "op", "us", "share"), rows, left=2))
    stairs = [
        (escape(str(stair["title"])), ", ".join(map(str, stair["edges"]))) for stair in result.get("stairs") or ()
    ]
    if stairs:
        out.print(table("Widths worth having: a channel more costs a step", ("group", "channels"), stairs, left=2))
    print_heldout(out, result.get("heldout"))
    print_borrowed(out, result.get("borrowed"))
    print_doubts(out, result.get("doubts"))


def print_heldout(out: Console, heldout: Mapping[str, Any] | None) -> None:
    """How good predictions were for cuts that were not learned from, and where they went wrong."""
    if not heldout:
        return
    alone = "" if heldout.get("kernels_told", True) else ", from end-to-end times alone"
    for prefix, where in (("", "at right edges"), ("anywhere_", "at any widths")):
        plans = heldout.get(f"{prefix}plans") or 0
        found = [heldout.get(f"{prefix}{name}") for name in ("median_error", "p95_error")]
        if plans and all(isinstance(error, float) and not math.isnan(error) for error in found):
            off = [f"{error:.1%}" for error in found]
            out.print(f"prediction of {plans} held-out cuts {where}{alone}: {off[0]} off (median), {off[1]} (95 %)")
    for miss in heldout.get("misses") or ():
        out.print(
            f"  [dim]{escape(str(miss['site']))} ({escape(str(miss['op']))}): {miss['share']:.1%} of the whole off, "
            f"{escape(str(miss['because']))}[/dim]"
        )


def print_prediction(result: Mapping[str, Any]) -> None:
    out = console()
    within = interval(result.get("low_ms"), result.get("high_ms"), " ms")
    out.print(f"predicted {number(result['predicted_ms'], unit=' ms')} {within} [dim](not measured)[/dim]")
    print_heldout(out, result.get("heldout"))
    print_borrowed(out, result.get("borrowed"))
    print_doubts(out, result.get("doubts"))


def print_measurements(result: Mapping[str, Any]) -> None:
    out = console()
    rows = [
        (
            escape(str(model["path"])) + (QUICK if model.get("quick") else ""),
            escape(str(model["target"])),
            escape(str(model["runtime"])),
            number(model["median_ms"]),
            interval(model.get("low_ms"), model.get("high_ms")),
            number(model.get("p90_ms")),
            number(model.get("p99_ms")),
        )
        for model in result["models"]
    ]
    title = "Latency, by the quick protocol" if result.get("quick") else "Latency"
    columns = ("network", "target", "runtime", "median ms", "99 % interval", "p90 ms", "p99 ms")
    out.print(table(title, columns, rows, left=3))
    several = len({model["target"] for model in result["models"]}) > 1
    first, *others = result["models"]
    for other, ratio in zip(others, result.get("ratios") or (), strict=True):
        said = ratio_text(ratio) if ratio.get("value") is not None else f"[yellow]{escape(ratio['because'])}[/yellow]"
        sides = [f"{each['path']} on {each['target']}" if several else str(each["path"]) for each in (other, first)]
        out.print(f"{escape(sides[0])} against {escape(sides[1])}: {said}", soft_wrap=True)
    for model in result["models"]:
        print_doubts(out, model.get("doubts"))


def print_check(result: Mapping[str, Any]) -> None:
    out = console()
    rows = [
        (
            gate["name"],
            number(float(gate["limit"])),
            number(None if gate["value"] is None else float(gate["value"])),
            "[green]passed[/green]" if gate["passed"] else "[red]failed[/red]",
        )
        for gate in result["gates"]
    ]
    if rows:
        out.print(table("Gates", ("gate", "limit", "measured", ""), rows))
    for failure in result["failures"]:
        out.print(f"[red]failed[/red] {escape(failure)}", soft_wrap=True)
    if not result["failures"]:
        out.print("[green]passed[/green]")
    print_doubts(out, result.get("doubts"))


def print_borrowed(out: Console, borrowed: Mapping[str, Any] | None) -> None:
    for loan in (borrowed or {}).get("loans", ()):
        differs = "; ".join(f"{each['path']} {each['theirs']}, here {each['ours']}" for each in loan["differs"])
        out.print(
            f"[yellow]borrowed[/yellow]  {count(loan['kernels'])} kernels were timed elsewhere: {escape(differs)}",
            soft_wrap=True,
        )


def print_doubts(out: Console, doubts: Sequence[Any] | None) -> None:
    for doubt in doubts or ():
        out.print(f"[yellow]doubt[/yellow]  {escape(str(doubt))}", soft_wrap=True)
