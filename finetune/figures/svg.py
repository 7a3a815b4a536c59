"""How figures become SVG: transparent, with text as text (so that any script's letters
show), light and dark.

Colours stand in the SVG as mid-tones that can be read on white and on black; a style sheet inside
sharpens them where the viewer knows the reader's colour scheme. Drawn with matplotlib's objects,
without pyplot and its global state.
"""

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune.figures.drawing import Drawing
from zoo.comparison.plot_text import DRAWING_ERRORS, name_legend, plain_text
from zoo.host.errors import first_line

INK, BLUE, ORANGE, GREEN = "#757b84", "#3f86c9", "#d0763c", "#3f9168"
THEMES = {
    "light": {INK: "#555c66", BLUE: "#2a69ab", ORANGE: "#b95a1c", GREEN: "#2b7a53"},
    "dark": {INK: "#a4acb6", BLUE: "#74b0ea", ORANGE: "#eb9a62", GREEN: "#6fc79b"},
}
"""Colour scheme -> what the mid-tones become."""
FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif'
MOST_POINTS = 240
"""A longer series is averaged in bins before it is drawn."""
LONGEST_LABEL = 20
"""Characters of a class name in a figure."""
NAMED = "\u200b"
"""Stands before a label that is somebody's name: matplotlib leaves one that begins with `_` out of
a legend."""
Series = Sequence[tuple[float, float]]
"""(x, y) points."""
Parameters = ParamSpec("Parameters")


def named_if_it_fails(
    name: str,
) -> Callable[[Callable[Parameters, Drawing]], Callable[Parameters, Drawing]]:
    """Turn a figure that cannot be drawn into a `Drawing` without a picture that says why, so that
    the run goes on."""

    def guarded(draw: Callable[Parameters, Drawing]) -> Callable[Parameters, Drawing]:
        @wraps(draw)
        def attempt(*values: Parameters.args, **named: Parameters.kwargs) -> Drawing:
            try:
                return draw(*values, **named)
            except DRAWING_ERRORS as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
                return Drawing(str(named.get("name", name)), "", 0, 0, reason)

        return attempt

    return guarded


@contextmanager
def style() -> Iterator[None]:
    """Set matplotlib's defaults, whatever the user's own settings are, and then ours."""
    ours = {
        "svg.fonttype": "none",
        # else ids are random, and equal figures differ in their bytes
        "svg.hashsalt": "zootune",
        "font.size": 8.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "axes.titleweight": "bold",
    }
    with plain_text(ours):
        yield


def panel(title: str) -> tuple[Figure, Axes]:
    """Make a small figure against epochs, with its title."""
    figure = Figure(figsize=(3.5, 2.3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=9, pad=8)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def legend(axes: Axes) -> None:
    """Write the names of the lines within the axes."""
    axes.legend(frameon=False, fontsize=8, handlelength=1.6, borderaxespad=0.2)


LONGEST_OF_TWO = 22
"""Characters of the names of which two stand beside each other in a small figure."""
LEGEND_LINE = 0.16
"""Height of a line of a legend, in inches."""


def legend_above(figure: Figure, axes: Axes, *, small: bool = False) -> None:
    """Write the names of the lines above the axes, in two columns; in a small figure below each
    other where a name is long, and the figure grows."""
    handles, labels = axes.get_legend_handles_labels()
    ncols = 2
    if small and max(map(len, labels)) > LONGEST_OF_TWO:
        ncols = 1
        figure.set_figheight(figure.get_figheight() + LEGEND_LINE * (len(labels) // 2))
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=ncols,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        borderaxespad=0,
        columnspacing=1.5,
    )
    name_legend(legend, [label.removeprefix(NAMED) for label in labels])
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([20])


def columns(series: Series) -> tuple[list[float], list[float]]:
    """Give x and y of the finite points, averaged in bins where there are many."""
    points = [point for point in series if math.isfinite(point[1])]
    size = math.ceil(len(points) / MOST_POINTS) or 1
    x_means, y_means = [], []
    for start in range(0, len(points), size):
        x, y = zip(*points[start : start + size], strict=True)
        x_means.append(sum(x) / len(x))
        y_means.append(sum(y) / len(y))
    return x_means, y_means


def to_drawing(figure: Figure, name: str, alt: str, *, tight: bool = False) -> Drawing:
    """Turn the figure into SVG that follows the reader's colour scheme; `alt` says what it
    shows."""
    buffer = io.StringIO()
    # no date and no version, so that equal figures have equal bytes
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # text stays text, so the viewer's fonts draw it; matplotlib's own font is only used to measure
    figure.savefig(
        buffer,
        format="svg",
        transparent=True,
        bbox_inches="tight" if tight else None,
        pad_inches=0.03,
        metadata=no_metadata,
    )
    svg = buffer.getvalue()
    # without the XML declaration, and with the style sheet as the first child
    svg = svg[svg.index("<svg ") :].replace(">", f"><style>{_style_sheet()}</style>", 1)
    return Drawing(name, svg, _css_pixels(svg, "width"), _css_pixels(svg, "height"), alt)


def _css_pixels(svg: str, side: str) -> int:
    """Convert the width or height of a figure, which the SVG has in points."""
    points = re.search(rf' {side}="([\d.]+)pt"', svg)
    if points is None:
        raise LookupError(f"expected the {side} of matplotlib's SVG in points, seen none")
    return round(float(points[1]) / 0.75)


def _style_sheet() -> str:
    """Write the style sheet: the fonts, and what the mid-tones become in each colour scheme."""
    sheet = [f"text {{ font-family: {FONTS} !important; }}"]
    for theme, colours in THEMES.items():
        rules = []
        for old, new in colours.items():
            for kind in ("fill", "stroke"):
                rules.append(f'[style*="{kind}: {old}"] {{ {kind}: {new} !important; }}')
        sheet.append(f"@media (prefers-color-scheme: {theme}) {{ {' '.join(rules)} }}")
    return " ".join(sheet)
