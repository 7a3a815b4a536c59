"""The confusion matrix: which classes are taken for which."""

import math
from collections.abc import Mapping, Sequence
from itertools import product, starmap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from finetune.figures.drawing import Drawing, printable
from finetune.figures.svg import INK, LONGEST_LABEL, named_if_it_fails, style, to_drawing

RIGHT, WRONG, ON_DEEP = "#2f6fae", "#cc6427", "#fefefe"
"""Cells of the confusion matrix and the numbers on deep cells, the same in both colour schemes."""
MOST_NUMBERED = 30
"""Up to this many classes a confusion matrix has numbers in its cells and every label."""


@named_if_it_fails("confusion")
def confusion(
    names: Sequence[str], cells: Mapping[tuple[int, int], int], totals: Sequence[int]
) -> Drawing:
    """Draw the confusion matrix of some classes: `cells[true, predicted]` pictures, of
    `totals[true]` pictures of the class.

    Blue is right, orange wrong; depth is the share of the true class (its square root for errors,
    which are rare).
    """
    count = len(names)
    numbered = count <= MOST_NUMBERED
    side = 6.2
    if numbered:
        side = count * min(0.7, max(0.27, 3.7 / count))
    with style():
        figure = Figure(figsize=(side, side))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
        if numbered:
            _numbered_cells(axes, cells, totals)
        else:
            _pixels(axes, cells, totals)
        _class_labels(axes, names)
        for spine in axes.spines.values():
            spine.set_visible(not numbered)
        return to_drawing(figure, "confusion", f"Confusion matrix of {count} classes", tight=True)


def _numbered_cells(
    axes: Axes, cells: Mapping[tuple[int, int], int], totals: Sequence[int]
) -> None:
    """Draw every cell as a faint square; those with pictures coloured, with their number."""
    every = list(starmap(_square, product(range(len(totals)), repeat=2)))
    axes.add_collection(PatchCollection(every, facecolor=(*to_rgb(INK), 0.08), edgecolor="none"))
    patches, colours = [], []
    fontsize = 8.5 if len(totals) <= 12 else 7
    for (true, predicted), pictures in cells.items():
        colour = _colour(true, predicted, pictures / totals[true])
        patches.append(_square(true, predicted))
        colours.append(colour)
        axes.text(
            predicted,
            true,
            _short(pictures),
            ha="center",
            va="center_baseline",
            color=ON_DEEP if colour[3] > 0.65 else INK,
            fontsize=fontsize,
        )
    axes.add_collection(PatchCollection(patches, facecolor=colours, edgecolor="none"))


def _square(true: int, predicted: int) -> Rectangle:
    return Rectangle((predicted - 0.46, true - 0.46), 0.92, 0.92)


def _short(pictures: int) -> str:
    """Print a number so that it fits into a cell: 12345 -> '12k'."""
    return f"{pictures / 1000:.0f}k" if pictures >= 10_000 else str(pictures)


def _pixels(axes: Axes, cells: Mapping[tuple[int, int], int], totals: Sequence[int]) -> None:
    """Draw every cell as one pixel, where there are too many for numbers."""
    image = np.zeros((len(totals), len(totals), 4))
    image[:] = (*to_rgb(INK), 0.06)
    for (true, predicted), pictures in cells.items():
        image[true, predicted] = _colour(true, predicted, pictures / totals[true])
    axes.imshow(image, interpolation="none", aspect="auto")


def _colour(true: int, predicted: int, share: float) -> tuple[float, float, float, float]:
    """Give red, green, blue and opacity of a cell, 0 to 1."""
    # a floor of 0.15, so that a single picture of a large class can be seen
    if true == predicted:
        return (*to_rgb(RIGHT), 0.15 + 0.85 * share)
    return (*to_rgb(WRONG), 0.15 + 0.85 * math.sqrt(share))


def _class_labels(axes: Axes, names: Sequence[str]) -> None:
    """Write the names of the classes along both sides; of many classes every second, third, ..."""
    every = math.ceil(len(names) / MOST_NUMBERED)
    shown = range(0, len(names), every)
    labels = [_shortened(printable(names[i])) for i in shown]
    axes.set_xticks(shown, labels, rotation=90)
    axes.set_yticks(shown, labels)
    axes.tick_params(length=0 if every == 1 else 3, pad=3)
    axes.set_xlabel("predicted", labelpad=8)
    axes.set_ylabel("true", labelpad=8)


def _shortened(label: str) -> str:
    if len(label) <= LONGEST_LABEL:
        return label
    return label[: LONGEST_LABEL - 1] + "…"
