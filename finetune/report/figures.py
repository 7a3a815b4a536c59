"""The figures of a report as SVG: transparent, with text as text (so that any script's letters
show), light and dark.

Colours stand in the SVG as mid-tones that can be read on white and on black; a style sheet inside
sharpens them where the viewer knows the reader's colour scheme. Drawn with matplotlib's objects,
without pyplot and its global state.
"""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from typing import ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, MaxNLocator

from finetune.evaluation.lr_curve import Curve
from finetune.evaluation.metrics import Bin, wilson_interval
from finetune.report.page import Drawing, printable
from zoo.comparison.drawing import DRAWING_ERRORS, name_legend, plain_text
from zoo.host.errors import first_line

INK, BLUE, ORANGE, GREEN = "#757b84", "#3f86c9", "#d0763c", "#3f9168"
THEMES = {
    "light": {INK: "#555c66", BLUE: "#2a69ab", ORANGE: "#b95a1c", GREEN: "#2b7a53"},
    "dark": {INK: "#a4acb6", BLUE: "#74b0ea", ORANGE: "#eb9a62", GREEN: "#6fc79b"},
}
"""Colour scheme -> what the mid-tones become."""
RIGHT, WRONG, ON_DEEP = "#2f6fae", "#cc6427", "#fefefe"
"""Cells of the confusion matrix and the numbers on deep cells, the same in both colour schemes."""
FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif'
LINES = (
    (ORANGE, "o"),
    (BLUE, "s"),
    (GREEN, "^"),
    (INK, "D"),
    (ORANGE, "v"),
    (BLUE, "P"),
    (GREEN, "X"),
    (INK, "*"),
)
"""Colour and marker of the lines of a figure with several."""
MOST_POINTS = 240
"""A longer series is averaged in bins before it is drawn."""
MOST_NUMBERED = 30
"""Up to this many classes a confusion matrix has numbers in its cells and every label."""
LONGEST_LABEL = 20
"""Characters of a class name in a figure."""
NAMED = "\u200b"
"""Stands before a label that is somebody's name: matplotlib leaves one that begins with `_` out of
a legend."""

Series = Sequence[tuple[float, float]]
"""(x, y) points."""
Parameters = ParamSpec("Parameters")


def _named_if_it_fails(
    name: str,
) -> Callable[[Callable[Parameters, Drawing]], Callable[Parameters, Drawing]]:
    """A figure that cannot be drawn becomes a `Drawing` without a picture that says why: the run
    goes on."""

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


@_named_if_it_fails("loss")
def losses(train: Series, select: Series) -> Drawing:
    """Training loss and loss on select against epochs."""
    with _style():
        figure, axes = _panel("Loss")
        axes.plot(*_columns(train), color=BLUE, linewidth=1.3, label="training")
        axes.plot(
            *_columns(select), color=ORANGE, linewidth=1.3, marker="o", markersize=3, label="select"
        )
        axes.set_ylim(bottom=0)
        _legend(axes)
        return _drawing(figure, "loss", "Training loss and loss on select by epoch")


@_named_if_it_fails("top1")
def accuracy(select: Series, *, probe: float | None, best: tuple[float, float]) -> Drawing:
    """Top-1 on select against epochs, the probe's level, and the best epoch as (epoch, top-1)."""
    with _style():
        figure, axes = _panel("Top-1 on select")
        axes.plot(
            *_columns(select), color=ORANGE, linewidth=1.3, marker="o", markersize=3, label="select"
        )
        axes.plot(
            [best[0]],
            [best[1]],
            "o",
            markersize=8,
            markerfacecolor="none",
            markeredgecolor=ORANGE,
            linestyle="none",
            label=f"best, {best[1]:.1%}",
        )
        if probe is not None:
            axes.axhline(
                probe,
                color=BLUE,
                linewidth=1.1,
                linestyle=(0, (5, 3)),
                label=f"linear probe, {probe:.1%}",
            )
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
        _legend(axes)
        return _drawing(
            figure, "top1", "Top-1 on select by epoch, with the level of the linear probe"
        )


@_named_if_it_fails("error")
def errors(
    curves: Mapping[str, Mapping[str, Series]], *, name: str = "error", title: str = "Error"
) -> Drawing:
    """`curves["top-1"]["training"]`: share of wrong answers against epochs, of training (dashed)
    and select.

    The keys are top-1 and top-5 of a run, or the names of runs.
    """
    with _style():
        figure, axes = _panel(title)
        figure.set_figheight(2.7)  # the legend stands above
        for (line, of), (colour, marker) in zip(curves.items(), cycle(LINES), strict=False):
            for split, series in of.items():
                train = split == "training"
                axes.plot(
                    *_columns(series),
                    color=colour,
                    linewidth=1.1 if train else 1.5,
                    marker=marker,
                    markersize=2 if train else 3.5,
                    linestyle=(0, (4, 2)) if train else "-",
                    label=f"{NAMED}{printable(line)[:LONGEST_LABEL]}, {split}",
                    gid=f"{name}-{split}",
                )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
        _legend_above(figure, axes)
        return _drawing(
            figure, name, f"{title} of {', '.join(curves)} by epoch, of training and select"
        )


@_named_if_it_fails("precision-recall")
def precision_recall(curves: Mapping[str, tuple[Sequence[float], float]]) -> Drawing:
    """Precision at even steps of recall of each line, with its average precision; the first line is
    the mean."""
    return _square("precision-recall", "Precision against recall", ("recall", "precision"), curves)


@_named_if_it_fails("roc")
def roc(curves: Mapping[str, tuple[Sequence[float], float]]) -> Drawing:
    """True positive rate at even steps of the false positive rate, with the area; the first line is
    the mean."""
    return _square("roc", "ROC", ("false positive rate", "true positive rate"), curves)


def _square(
    name: str,
    title: str,
    labels: tuple[str, str],
    curves: Mapping[str, tuple[Sequence[float], float]],
) -> Drawing:
    with _style():
        figure = Figure(figsize=(3.7, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for (line, (values, area)), colour in zip(
            curves.items(), (BLUE, ORANGE, GREEN, INK), strict=False
        ):
            first = colour == BLUE
            axes.plot(
                np.linspace(0, 1, len(values)),
                values,
                color=colour,
                linewidth=1.7 if first else 1,
                label=f"{NAMED}{printable(line)[:LONGEST_LABEL]}, {area:.3f}",
                zorder=3 if first else 2,
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=labels[0], ylabel=labels[1])
        axes.grid(color=INK, alpha=0.16, linewidth=0.6)
        _legend_above(figure, axes)
        return _drawing(figure, name, f"{title} of {', '.join(curves)}")


@_named_if_it_fails("lr")
def learning_rate(lr: Series) -> Drawing:
    """Learning rate against epochs."""
    with _style():
        figure, axes = _panel("Learning rate")
        axes.plot(*_columns(lr), color=BLUE, linewidth=1.3)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        axes.yaxis.get_offset_text().set_fontsize(8)
        return _drawing(figure, "lr", "Learning rate by epoch")


@_named_if_it_fails("lr-range")
def lr_range(curve: Curve, suggested: float) -> Drawing:
    """Loss against the learning rate of a range test, as measured and smoothed, with the suggested
    rate."""
    with _style():
        figure, axes = _panel("Learning-rate range test")
        axes.plot(curve.lr, curve.loss, color=BLUE, linewidth=0.8, alpha=0.4, label="each step")
        axes.plot(curve.lr, curve.smooth, color=BLUE, linewidth=1.5, label="smoothed")
        axes.axvline(
            suggested,
            color=ORANGE,
            linewidth=1.1,
            linestyle=(0, (5, 3)),
            label=f"suggested, {suggested:g}",
        )
        axes.set_xscale("log")
        # the usual one of this scale writes formulas
        axes.xaxis.set_major_formatter(LogFormatter())
        axes.xaxis.set_minor_formatter(LogFormatter())
        # the end, where the loss runs away, is cut off
        top = 2 * float(np.median(curve.loss)) + min(curve.loss)
        axes.set(xlabel="learning rate", ylim=(0, max(top, 1.5 * float(curve.smooth[0]))))
        _legend(axes)
        return _drawing(
            figure,
            "lr-range",
            "Training loss against a rising learning rate, with the suggested rate",
        )


@_named_if_it_fails("reliability")
def reliability(before: Sequence[Bin], after: Sequence[Bin]) -> Drawing:
    """Share of right answers against confidence, before and after calibration, over the pictures of
    each bin.

    Bars are 95 % intervals, points are larger where there are more pictures. On the diagonal a
    probability means what it says; below it, answers are over-confident.
    """
    with _style():
        figure = Figure(figsize=(4.1, 3.9), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 3)), gid="diagonal")
        for bins, colour, label, width in (
            (before, ORANGE, "before", 1.0),
            (after, BLUE, "after", 1.5),
        ):
            x, y, size = (
                [b.confidence for b in bins],
                [b.right for b in bins],
                [b.pictures for b in bins],
            )
            spans = [wilson_interval(round(b.right * b.pictures), b.pictures) for b in bins]
            axes.vlines(x, *zip(*spans, strict=True), color=colour, linewidth=width, alpha=0.25)
            axes.plot(
                x, y, color=colour, linewidth=0.7 * width, alpha=0.35, gid=f"reliability-{label}"
            )
            axes.scatter(
                x,
                y,
                [6 + 70 * math.sqrt(n / sum(size)) for n in size],
                color=colour,
                linewidths=0,
                zorder=3,
                label=f"{label} calibration",
            )
            counts.bar(x, size, 0.022, color=colour, alpha=0.4 if label == "before" else 0.9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share right")
        counts.set(xlabel="confidence", ylabel="pictures")
        counts.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        counts.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.grid(color=INK, alpha=0.16, linewidth=0.6)
        _legend_above(figure, axes)
        return _drawing(
            figure,
            "reliability",
            "Reliability diagram: share of right answers against confidence, before "
            "and after calibration, with the number of pictures at each confidence",
        )


@_named_if_it_fails("unknown")
def unknown_scores(
    shares: Mapping[str, Sequence[float]], edges: Sequence[float], threshold: float
) -> Drawing:
    """Histogram of unknown scores: `shares[set][i]` of its pictures lie between `edges[i]` and
    `edges[i + 1]`.

    The first set is filled: the pictures of the known classes.
    """
    with _style():
        figure = Figure(figsize=(4.1, 2.5), layout="constrained")
        axes = figure.add_subplot()
        colours = (BLUE, ORANGE, GREEN, INK)
        for i, (name, heights) in enumerate(shares.items()):
            axes.stairs(
                heights,
                edges,
                fill=not i,
                color=colours[min(i, 3)],
                alpha=1 if i else 0.55,
                linewidth=1.3,
                label=f"{NAMED}{printable(name)}",
                gid=f"scores-{i}",
            )
        axes.axvline(
            threshold,
            color=INK,
            linewidth=1,
            linestyle=(0, (5, 3)),
            label=f"threshold, {threshold:.3f}",
            gid="threshold",
        )
        axes.set(xlabel="unknown score", ylabel="share of pictures", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
        axes.set_axisbelow(True)
        _legend_above(figure, axes)
        return _drawing(
            figure,
            "unknown",
            f"Histogram of the unknown score of {', '.join(shares)}, with the threshold",
        )


@_named_if_it_fails("confusion")
def confusion(
    names: Sequence[str], cells: Mapping[tuple[int, int], int], totals: Sequence[int]
) -> Drawing:
    """Confusion matrix of some classes: `cells[true, predicted]` pictures, of `totals[true]`
    pictures of the class.

    Blue is right, orange wrong; depth is the share of the true class (its square root for errors,
    which are rare).
    """
    count = len(names)
    numbered = count <= MOST_NUMBERED
    side = count * min(0.7, max(0.27, 3.7 / count)) if numbered else 6.2
    with _style():
        figure = Figure(figsize=(side, side))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
        (_numbered_cells if numbered else _pixels)(axes, cells, totals)
        _class_labels(axes, names)
        for spine in axes.spines.values():
            spine.set_visible(not numbered)
        return _drawing(figure, "confusion", f"Confusion matrix of {count} classes", tight=True)


def _numbered_cells(
    axes: Axes, cells: Mapping[tuple[int, int], int], totals: Sequence[int]
) -> None:
    every = [
        Rectangle((p - 0.46, t - 0.46), 0.92, 0.92)
        for t in range(len(totals))
        for p in range(len(totals))
    ]
    axes.add_collection(PatchCollection(every, facecolor=(*to_rgb(INK), 0.08), edgecolor="none"))
    patches, colours = [], []
    for (true, predicted), pictures in cells.items():
        depth = _depth(true, predicted, pictures / totals[true])
        patches.append(Rectangle((predicted - 0.46, true - 0.46), 0.92, 0.92))
        colours.append((*to_rgb(RIGHT if true == predicted else WRONG), depth))
        shown = str(pictures) if pictures < 10_000 else f"{pictures / 1000:.0f}k"
        axes.text(
            predicted,
            true,
            shown,
            ha="center",
            va="center_baseline",
            color=ON_DEEP if depth > 0.65 else INK,
            fontsize=8.5 if len(totals) <= 12 else 7,
        )
    axes.add_collection(PatchCollection(patches, facecolor=colours, edgecolor="none"))


def _pixels(axes: Axes, cells: Mapping[tuple[int, int], int], totals: Sequence[int]) -> None:
    image = np.zeros((len(totals), len(totals), 4))
    image[:] = (*to_rgb(INK), 0.06)
    for (true, predicted), pictures in cells.items():
        depth = _depth(true, predicted, pictures / totals[true])
        image[true, predicted] = (*to_rgb(RIGHT if true == predicted else WRONG), depth)
    axes.imshow(image, interpolation="none", aspect="auto")


def _depth(true: int, predicted: int, share: float) -> float:
    """Opacity of a cell."""
    return 0.15 + 0.85 * (share if true == predicted else math.sqrt(share))


def _class_labels(axes: Axes, names: Sequence[str]) -> None:
    every = math.ceil(len(names) / MOST_NUMBERED)
    shown = range(0, len(names), every)
    labels = [
        label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
        for label in (printable(names[i]) for i in shown)
    ]
    axes.set_xticks(shown, labels, rotation=90)
    axes.set_yticks(shown, labels)
    axes.tick_params(length=0 if every == 1 else 3, pad=3)
    axes.set_xlabel("predicted", labelpad=8)
    axes.set_ylabel("true", labelpad=8)


@contextmanager
def _style() -> Iterator[None]:
    """matplotlib's defaults, whatever the user's own settings are, and ours."""
    ours = {
        "svg.fonttype": "none",
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


def _panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.5, 2.3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=9, pad=8)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8, handlelength=1.6, borderaxespad=0.2)


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=2,
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


def _columns(series: Series) -> tuple[list[float], list[float]]:
    """x and y of the finite points, averaged in bins where there are many."""
    points = [(x, y) for x, y in series if math.isfinite(y)]
    size = math.ceil(len(points) / MOST_POINTS) or 1
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    return tuple([sum(p[k] for p in b) / len(b) for b in bins] for k in (0, 1))  # type: ignore[return-value]


def _drawing(figure: Figure, name: str, alt: str, *, tight: bool = False) -> Drawing:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # text stays text, so the viewer's fonts draw it; matplotlib's own font is only used to measure
    figure.savefig(
        buffer,
        format="svg",
        transparent=True,
        bbox_inches="tight" if tight else None,
        pad_inches=0.03,
        metadata=nothing,
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :].replace(">", f"><style>{_style_sheet(name)}</style>", 1)
    width, height = (
        round(float(re.search(rf' {side}="([\d.]+)pt"', svg)[1]) / 0.75)  # type: ignore[index]
        for side in ("width", "height")
    )
    return Drawing(name, svg, width, height, alt)


def _style_sheet(name: str) -> str:
    def rules(theme: str) -> str:
        return " ".join(
            f'[style*="{kind}: {old}"] {{ {kind}: {new} !important; }}'
            for old, new in THEMES[theme].items()
            for kind in ("fill", "stroke")
        )

    schemes = " ".join(
        f"@media (prefers-color-scheme: {theme}) {{ {rules(theme)} }}" for theme in THEMES
    )
    return f"text {{ font-family: {FONTS} !important; }} {schemes}"
