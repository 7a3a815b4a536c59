"""What confidence is worth: reliability, unknown scores, precision against recall, and ROC."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finetune.evaluation.metrics import Bin, wilson_interval
from finetune.figures.drawing import Drawing, printable
from finetune.figures.svg import (
    BLUE,
    GREEN,
    INK,
    LONGEST_LABEL,
    NAMED,
    ORANGE,
    legend_above,
    named_if_it_fails,
    style,
    to_drawing,
)

COLOURS = (BLUE, ORANGE, GREEN, INK)
"""Of the lines of a figure; the first is of what the others are compared with."""


@named_if_it_fails("reliability")
def reliability(before: Sequence[Bin], after: Sequence[Bin]) -> Drawing:
    """Draw the share of right answers against confidence, before and after calibration, over the
    pictures of each bin.

    Bars are 95 % intervals, points are larger where there are more pictures. On the diagonal a
    probability means what it says; below it, answers are over-confident.
    """
    with style():
        figure = Figure(figsize=(4.1, 3.9), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 3)), gid="diagonal")
        _bins(axes, before, "before", colour=ORANGE, width=1.0)
        _bar_chart(counts, before, colour=ORANGE, alpha=0.4)
        _bins(axes, after, "after", colour=BLUE, width=1.5)
        _bar_chart(counts, after, colour=BLUE, alpha=0.9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share right")
        counts.set(xlabel="confidence", ylabel="pictures")
        counts.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        counts.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.grid(color=INK, alpha=0.16, linewidth=0.6)
        legend_above(figure, axes)
        return to_drawing(
            figure,
            "reliability",
            "Reliability diagram: share of right answers against confidence, before "
            "and after calibration, with the number of pictures at each confidence",
        )


def _bins(axes: Axes, bins: Sequence[Bin], label: str, *, colour: str, width: float) -> None:
    """Draw the bins as points with their intervals, joined by a line."""
    spans = [wilson_interval(round(b.right * b.pictures), b.pictures) for b in bins]
    x, y = [b.confidence for b in bins], [b.right for b in bins]
    pictures = sum(b.pictures for b in bins)
    axes.vlines(x, *zip(*spans, strict=True), color=colour, linewidth=width, alpha=0.25)
    axes.plot(x, y, color=colour, linewidth=0.7 * width, alpha=0.35, gid=f"reliability-{label}")
    # the root, so that bins of few pictures can be seen beside large ones
    axes.scatter(
        x,
        y,
        [6 + 70 * math.sqrt(b.pictures / pictures) for b in bins],
        color=colour,
        linewidths=0,
        zorder=3,
        label=f"{label} calibration",
    )


def _bar_chart(axes: Axes, bins: Sequence[Bin], *, colour: str, alpha: float) -> None:
    """Draw the number of pictures in each bin."""
    x, pictures = [b.confidence for b in bins], [b.pictures for b in bins]
    axes.bar(x, pictures, 0.022, color=colour, alpha=alpha)


@named_if_it_fails("unknown")
def unknown_scores(
    shares: Mapping[str, Sequence[float]], edges: Sequence[float], threshold: float
) -> Drawing:
    """Draw a histogram of unknown scores: `shares[set][i]` of its pictures lie between `edges[i]`
    and `edges[i + 1]`.

    The first set is filled: the pictures of the known classes.
    """
    with style():
        figure = Figure(figsize=(4.1, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, heights) in enumerate(shares.items()):
            known = i == 0
            axes.stairs(
                heights,
                edges,
                fill=known,
                color=COLOURS[min(i, 3)],
                alpha=0.55 if known else 1,
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
        legend_above(figure, axes)
        return to_drawing(
            figure,
            "unknown",
            f"Histogram of the unknown score of {', '.join(shares)}, with the threshold",
        )


@named_if_it_fails("precision-recall")
def precision_recall(curves: Mapping[str, tuple[Sequence[float], float]]) -> Drawing:
    """Draw the precision at even steps of recall of each line, with its average precision; the
    first line is the mean."""
    return _square("precision-recall", "Precision against recall", ("recall", "precision"), curves)


@named_if_it_fails("roc")
def roc(curves: Mapping[str, tuple[Sequence[float], float]]) -> Drawing:
    """Draw the true positive rate at even steps of the false positive rate, with the area; the
    first line is the mean."""
    return _square("roc", "ROC", ("false positive rate", "true positive rate"), curves)


def _square(
    name: str,
    title: str,
    labels: tuple[str, str],
    curves: Mapping[str, tuple[Sequence[float], float]],
) -> Drawing:
    """Draw lines within the unit square."""
    with style():
        figure = Figure(figsize=(3.7, 3.5), layout="constrained")
        axes = figure.add_subplot()
        # the mean stands out, in front of the others
        widths, layers = (1.7, 1, 1, 1), (3, 2, 2, 2)
        for (line, (values, area)), colour, width, layer in zip(
            curves.items(), COLOURS, widths, layers, strict=False
        ):
            axes.plot(
                np.linspace(0, 1, len(values)),
                values,
                color=colour,
                linewidth=width,
                label=f"{NAMED}{printable(line)[:LONGEST_LABEL]}, {area:.3f}",
                zorder=layer,
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=labels[0], ylabel=labels[1])
        axes.grid(color=INK, alpha=0.16, linewidth=0.6)
        legend_above(figure, axes)
        return to_drawing(figure, name, f"{title} of {', '.join(curves)}")
