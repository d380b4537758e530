"""From a matplotlib figure to SVG that sits inside a page and takes the page's colours and type.

Figures are drawn in stand-in colours that the page's style sheet redefines for light, dark and print. Nothing in the
result depends on when or where it was drawn.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins, unlike any colour matplotlib would pick by itself, and the style sheet's names for them.
INK, MUTED, LINE, BEFORE, AFTER, WARN = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
PALETTE = {INK: "--ink", MUTED: "--muted", LINE: "--line", BEFORE: "--before", AFTER: "--after", WARN: "--warn"}

DOTS_PER_INCH = 72  # one SVG unit is then one pixel of the page
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.formatter.useoffset": False,
}

SPACE = "http://www.w3.org/2000/svg"
LINK = "http://www.w3.org/1999/xlink"


def draw(name: str, alt: str, plot: Callable[["Axes"], None], *, width: int, height: int) -> str:
    """An <svg> element with what `plot` drew, `width` x `height` pixels at full size, smaller where the page is.

    `name` is unique on the page; `alt` is what a screen reader says.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own style
        mpl.rcParams.update({**STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), layout="constrained")
        FigureCanvasSVG(figure)
        plot(figure.add_subplot())
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _settle(stream.getvalue(), name, alt, width)


def _settle(text: str, name: str, alt: str, width: int) -> str:
    ET.register_namespace("", SPACE)
    ET.register_namespace("xlink", LINK)
    root = ET.fromstring(text)  # noqa: S314  matplotlib wrote it just now
    for metadata in root.findall(f"{{{SPACE}}}metadata"):
        root.remove(metadata)
    used = set(re.findall(r"#([\w-]+)", " ".join(value for e in root.iter() for value in e.attrib.values())))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            element.set(key, _adopt(value, name, used, is_id=key == "id"))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("style", f"max-width: {width}px")
    return ET.tostring(root, encoding="unicode")


def _adopt(value: str, name: str, used: set[str], *, is_id: bool) -> str:
    """Colours by the style sheet's names, and ids that no other figure of the page has."""
    for stand_in, variable in PALETTE.items():
        value = value.replace(stand_in, f"var({variable})")
    if is_id:
        return f"{name}-{value}"
    return re.sub(r"#([\w-]+)", lambda found: f"#{name}-{found[1]}" if found[1] in used else found[0], value)
