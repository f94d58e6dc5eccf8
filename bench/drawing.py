"""Draw figures in one style, and turn each into a PNG, an SVG, and an SVG for within a page.

Needs matplotlib, of the extra `bench`; imported when the first figure is drawn, for nothing else
needs it. Figures are drawn without pyplot: nothing is kept, and no window system is asked.

D1  The three colours below appear in no mark: in a page they become the page's own, so that a
    figure suits a dark one, too.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.bench.units import tick_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b1c1e"
FAINT: Final = "#d9dadd"
PAPER: Final = "#fffffe"
MUTED: Final = "#6a6c70"
_IN_A_PAGE: Final = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
    MUTED: "var(--muted)",
}
PNG_DOTS_PER_INCH: Final = 144

# Any: matplotlib has a type of its own for its settings, another one in each version.
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": PAPER,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    # A title is what a result says, and "$" no formula.
    "text.parse_math": False,
}


class NoMatplotlibError(Exception):
    """matplotlib is not installed; the message says how to get it."""

    def __init__(self) -> None:
        super().__init__("there are no plots, for matplotlib is missing: pip install matplotlib")


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished figure."""

    #: A file's name without its ending.
    name: str
    #: What it shows, for those who can't see it.
    text: str
    png: bytes
    svg: str

    def inline_svg(self) -> str:
        """Return the SVG as a part of a page: its colours (D1), fonts and names are the page's."""
        body = self.svg[self.svg.index("<svg") :]
        for colour, of_the_page in _IN_A_PAGE.items():
            body = body.replace(colour, of_the_page)
        body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
        body = body.replace("'DejaVu Sans'", "inherit")
        # Two decimals of a point are enough, and make it a third smaller.
        body = re.sub(r"(\d\.\d\d)\d+", r"\1", body)
        # Names are unique within a figure only.
        body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", body)
        body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
        # As wide as the page, but not wider than it was drawn.
        return re.sub(r'(<svg[^>]*?) width="([^"]*)"', r'\1 style="max-width: \2"', body, count=1)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Have everything within look alike.

    Raises:  NoMatplotlibError.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise NoMatplotlibError from None
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure; within `style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def finish(figure: Figure, name: str, text: str, footer: str) -> Picture:
    """Write a line under a figure and return what it has become; within `style`."""
    import matplotlib as mpl

    figure.supxlabel(footer, fontsize=7, color=MUTED, x=0.01, ha="left")
    # Laid out once, not for each of the files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=PNG_DOTS_PER_INCH)
    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Picture(name, text, png.getvalue(), svg.getvalue().decode("utf-8"))


def plain_log(axes: Axes) -> None:
    """Have a logarithmic axis for latencies, with ticks at powers of ten alone."""
    from matplotlib.ticker import NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _at: tick_duration(value))


def hide_frame(axes: Axes) -> None:
    """Leave the left spine alone: a bar's foot."""
    for side in ("bottom", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
