"""How a run learned: losses, top-1, errors and learning rate by epoch, and the range test."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.ticker import LogFormatter, NullFormatter

from finetune.evaluation.lr_curve import Curve
from finetune.figures.drawing import Drawing, printable
from finetune.figures.svg import (
    BLUE,
    GREEN,
    INK,
    LONGEST_LABEL,
    NAMED,
    ORANGE,
    Series,
    columns,
    legend,
    legend_above,
    named_if_it_fails,
    panel,
    style,
    to_drawing,
)

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

DASHES = ("-", (0, (4, 2)), "-.", (0, (1, 1.5)), (0, (8, 2)))
"""Lines of schedules, which may lie on each other: seen through the gaps of the upper one."""

SPLITS: dict[str, dict[str, Any]] = {
    "training": {"linewidth": 1.1, "markersize": 2, "linestyle": (0, (4, 2))},
    "select": {"linewidth": 1.5, "markersize": 3.5, "linestyle": "-"},
}
"""Split -> how its line is drawn."""


@named_if_it_fails("loss")
def losses(train: Series, select: Series) -> Drawing:
    """Draw training loss and loss on select against epochs."""
    with style():
        figure, axes = panel("Loss")
        axes.plot(*columns(train), color=BLUE, linewidth=1.3, label="training")
        axes.plot(
            *columns(select), color=ORANGE, linewidth=1.3, marker="o", markersize=3, label="select"
        )
        axes.set_ylim(bottom=0)
        legend(axes)
        return to_drawing(figure, "loss", "Training loss and loss on select by epoch")


@named_if_it_fails("top1")
def accuracy(
    select: Series, *, probe: float | None, best: tuple[float, float], train: Series = ()
) -> Drawing:
    """Draw top-1 on select against epochs, the probe's level, the best epoch as (epoch, top-1), and
    top-1 in training, of augmented pictures."""
    with style():
        figure, axes = panel("Top-1 on select")
        if train:
            axes.plot(*columns(train), color=GREEN, **SPLITS["training"], label="training")
        axes.plot(
            *columns(select), color=ORANGE, linewidth=1.3, marker="o", markersize=3, label="select"
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
        legend(axes)
        return to_drawing(
            figure, "top1", "Top-1 on select by epoch, with the level of the linear probe"
        )


@named_if_it_fails("error")
def errors(
    curves: Mapping[str, Mapping[str, Series]], *, name: str = "error", title: str = "Error"
) -> Drawing:
    """Draw `curves["top-1"]["training"]`, the share of wrong answers, against epochs, of training
    (dashed) and select.

    The keys are top-1 and top-5 of a run, or the names of runs.
    """
    with style():
        figure, axes = panel(title)
        # room for the legend above
        figure.set_figheight(2.7)
        for (line, by_split), (colour, marker) in zip(curves.items(), cycle(LINES), strict=False):
            for split, series in by_split.items():
                axes.plot(
                    *columns(series),
                    color=colour,
                    marker=marker,
                    **SPLITS[split],
                    label=f"{NAMED}{printable(line)[:LONGEST_LABEL]}, {split}",
                    gid=f"{name}-{split}",
                )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
        legend_above(figure, axes, small=True)
        return to_drawing(
            figure, name, f"{title} of {', '.join(curves)} by epoch, of training and select"
        )


@named_if_it_fails("lr")
def learning_rate(lr: Series) -> Drawing:
    """Draw the learning rate against epochs."""
    with style():
        figure, axes = panel("Learning rate")
        axes.plot(*columns(lr), color=BLUE, linewidth=1.3)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        axes.yaxis.get_offset_text().set_fontsize(8)
        return to_drawing(figure, "lr", "Learning rate by epoch")


MOST_APART = 5
"""Peak rates further apart than by this factor are drawn on a logarithmic axis."""


@named_if_it_fails("schedules")
def schedules(rates: Mapping[str, Series]) -> Drawing:
    """Draw the learning rates of several runs, by name, against epochs."""
    with style():
        figure, axes = panel("Learning rate")
        # room for the legend above, and the height of the errors beside it
        figure.set_figheight(2.7)
        for (name, series), (colour, _), dashes in zip(
            rates.items(), cycle(LINES), cycle(DASHES), strict=False
        ):
            axes.plot(
                *columns(series),
                color=colour,
                linewidth=1.5,
                linestyle=dashes,
                label=f"{NAMED}{printable(name)[:LONGEST_LABEL]}",
                gid="schedule",
            )
        peaks = [max(rate for _, rate in series) for series in rates.values()]
        if max(peaks) > MOST_APART * min(peaks):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            # the end of a cosine is 0, which this axis does not have
            axes.set_ylim(bottom=min(peaks) / 100)
        else:
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
            axes.yaxis.get_offset_text().set_fontsize(8)
        legend_above(figure, axes, small=True)
        return to_drawing(figure, "schedules", f"Learning rate of {', '.join(rates)} by epoch")


@named_if_it_fails("lr-range")
def lr_range(curve: Curve, suggested: float) -> Drawing:
    """Draw the loss against the learning rate of a range test, as measured and smoothed, with the
    suggested rate."""
    with style():
        figure, axes = panel("Learning-rate range test")
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
        legend(axes)
        return to_drawing(
            figure,
            "lr-range",
            "Training loss against a rising learning rate, with the suggested rate",
        )
