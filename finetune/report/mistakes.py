"""The report's third question, "Where does it fail?": confusions, most wrong pictures, picture
sizes and brightness."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from finetune.evaluation import metrics
from finetune.evaluation.metrics import Slice
from finetune.evaluation.predictions import most_wrong
from finetune.figures import confusion
from finetune.figures.drawing import Drawing
from finetune.report.page import (
    bdi,
    fill,
    image,
    interval_bar,
    interval_text,
    join,
    part,
    percent,
    section,
    soft,
    table_html,
)
from finetune.report.quality import ALL_ROWS, scale_floor
from finetune.report.run_files import Finished
from finetune.report.thumbnails import SMALL, thumbnail, with_heat
from zoo.files.same_paths import located

MOST_CONFUSIONS = 20
WITH_PICTURES = 8
"""So many of the most frequent confusions are shown with EXAMPLES pictures."""
EXAMPLES = 3


def mistakes_section(run: Finished, matrix: Drawing | None, data_root: Path) -> Markup:
    """Show what is taken for what, the most wrong pictures, and the kinds of picture that fail more
    often."""
    return section(
        "fails",
        "Where does it fail?",
        confusion_part(run, matrix, data_root),
        wrong_part(run, data_root),
        slices_part(run),
    )


def shown_classes(run: Finished) -> list[int]:
    """Give the labels in the confusion matrix: all, or of many classes those of the most frequent
    confusions."""
    if len(run.classes) <= ALL_ROWS:
        return list(range(len(run.classes)))
    chosen: set[int] = set()
    for pair, _ in frequent_confusions(run):
        # a class without the one it is taken for would show nothing
        if len(chosen | set(pair)) > confusion.MOST_NUMBERED:
            break
        chosen |= set(pair)
    return sorted(chosen)


def frequent_confusions(run: Finished) -> list[tuple[tuple[int, int], int]]:
    """List ((true, predicted), pictures) of the wrong answers, the most frequent first."""
    wrong = [item for item in run.confusion.items() if item[0][0] != item[0][1]]
    # then by label, so that the page is the same each time
    return sorted(wrong, key=lambda item: (-item[1], item[0]))


def confusion_figure(run: Finished) -> Drawing | None:
    """Draw the matrix of the headline's split; None if there are too many classes and no
    confusion."""
    shown = shown_classes(run)
    if not shown:
        return None
    place = {label: i for i, label in enumerate(shown)}
    cells = {}
    for (true, predicted), pictures in run.confusion.items():
        if true in place and predicted in place:
            cells[place[true], place[predicted]] = pictures
    names = list(map(run.classes.__getitem__, shown))
    return confusion.confusion(names, cells, [run.pictures_of[label] for label in shown])


def confusion_part(run: Finished, matrix: Drawing | None, data_root: Path) -> Markup:
    """Show what is taken for what: the matrix, and the most frequent confusions with pictures."""
    parts = []
    if matrix:
        parts.append(matrix_text(run, matrix))
    parts.append(confusions_text(run, data_root))
    return part("What is taken for what", fill('<div class="beside">{}</div>', join(parts)))


def confusions_text(run: Finished, data_root: Path) -> Markup:
    """List the most frequent confusions, the first of them with pictures."""
    pairs = frequent_confusions(run)
    if not pairs:
        sentence = "<p>No wrong answer among the {} pictures of {}.</p>"
        return fill(sentence, f"{len(run.answers):,}", run.split)
    rows: list[list[object]] = []
    for (true, answer), pictures in pairs[:MOST_CONFUSIONS]:
        shots = Markup("")
        if len(rows) < WITH_PICTURES:
            shots = examples(run, (true, answer), data_root)
        share = percent(pictures / run.pictures_of[true], 0)
        names = (bdi(run.classes[true]), bdi(run.classes[answer]))
        rows.append([*names, f"{pictures:,}", share, shots])
    title = "Most frequent confusions" if len(rows) < len(pairs) else "All confusions"
    columns = {"Is": "", "Said": "", "Pictures": "num", "Of class": "num", "Surest": "shots"}
    listed = table_html(columns, rows, css="pairs")
    return fill('<div class="grow"><h4>{}</h4>{}</div>', title, listed)


def examples(run: Finished, pair: tuple[int, int], data_root: Path) -> Markup:
    """Show pictures of one confusion, the surest answers first."""
    own = run.answers
    rows = np.flatnonzero((own.label == pair[0]) & (own.predicted == pair[1])).tolist()
    # then by path, so that the page is the same each time
    rows.sort(key=lambda i: (-own.confidence[i], own.path[i]))
    shots = []
    for i in rows[:EXAMPLES]:
        file = located(data_root, str(own.path[i]))
        shots.append(thumbnail(file, run.sha256(i), SMALL))
    return fill('<div class="shots">{}</div>', join(shots))


def matrix_text(run: Finished, matrix: Drawing) -> Markup:
    """Explain the matrix below it. On a narrow screen it shrinks a little, then scrolls."""
    size = f"width:100%;min-width:{0.8 * matrix.width:.0f}px;max-width:{matrix.width}px"
    figure = image(matrix, size)
    shown, scope = len(shown_classes(run)), ""
    if shown < len(run.classes):
        scope = (
            f"Only the {shown} classes (of {len(run.classes):,}) of the most frequent confusions. "
        )
    return fill(
        '<div class="matrix" style="width:{}px"><div class="scroll">{}</div><p class="soft">'
        "{}Rows are the true class. Blue is right, orange wrong; the deeper, the larger its share "
        "of the row.</p></div>",
        max(300, matrix.width),
        figure,
        scope,
    )


def wrong_part(run: Finished, data_root: Path) -> Markup:
    """Show the wrong answers that were given with most confidence."""
    own, title = run.answers, "Most wrong pictures"
    shown, wrong = most_wrong(own), int((~own.right).sum())
    if not wrong:
        return part(title, fill("<p>None: every picture of {} is right.</p>", run.split))
    scope, heat, css = "", "", ""
    if len(shown) < wrong:
        scope = f"; here the {len(shown)} with the highest confidence"
    if run.report.heatmaps:
        css = "heated"
        heat = (
            " The second picture is what the network saw; warm colours mark the places that spoke "
            "for the class it answered."
        )
    note = soft(
        "{} of {} pictures of {} are wrong{}. High confidence often means a wrong label, or two "
        "classes that overlap.{}",
        f"{wrong:,}",
        f"{len(own):,}",
        run.split,
        scope,
        heat,
    )
    cards = [wrong_picture(run, i, data_root) for i in shown.tolist()]
    return part(title, note, fill('<div class="wrong {}">{}</div>', css, join(cards)))


def wrong_picture(run: Finished, i: int, data_root: Path) -> Markup:
    """Show one wrong answer with its picture, and its heat map if there is one."""
    own, path = run.answers, str(run.answers.path[i])
    heat = (run.report.heatmaps or {}).get(path)
    # by its digest, so that no other picture is shown if the file was replaced since
    file, sha256 = located(data_root, path), run.sha256(i)
    shown = with_heat(file, sha256, heat, run.pre) if heat else thumbnail(file, sha256)
    return fill(
        '<figure><div class="frame">{}</div><figcaption>is <b>{}</b>, said <b>{}</b> '
        "{}<code>{}</code>"
        "</figcaption></figure>\n",
        shown,
        bdi(run.classes[own.label[i]]),
        bdi(run.classes[own.predicted[i]]),
        percent(own.confidence[i], 0),
        bdi(path),
    )


def slices_part(run: Finished) -> Markup:
    """Show top-1 by size and by brightness of the picture."""
    own = run.answers
    short = np.minimum(own.width, own.height)
    by_side = metrics.slices(short, own.right)
    by_brightness = metrics.slices(100 * own.brightness, own.right)
    return part(
        "Which kinds of picture fail?",
        slices_table(run, "Short side of the picture", by_side, "px"),
        slices_table(run, "Brightness, black 0 to white 100", by_brightness, ""),
        soft(
            "Up to four parts of about equal size. A part is marked if its whole interval lies "
            "below the top-1 of all pictures, {}.",
            percent(run.numbers.top1),
        ),
    )


def slices_table(run: Finished, title: str, slices: Sequence[Slice], unit: str) -> Markup:
    """Show top-1 by parts of one property; a sentence if the pictures hardly differ in it."""
    if len(slices) < 2:
        # one part means that the lowest quartile is the highest value: most pictures have just that
        share = "All" if slices[0].low == slices[0].high else "Nearly all"
        most = span(slices[0]._replace(low=slices[0].high), unit)
        sentence = "<h4>{}</h4><p>{} pictures have {}, so there is nothing to compare.</p>"
        return fill(sentence, title, share, most)
    floor = scale_floor([each.interval[0] for each in slices])
    rows = [_slice_row(each, unit, floor, run.numbers.top1) for each in slices]
    columns = {
        "Part": "",
        "Pictures": "num",
        "Top-1": "num",
        "95 % interval": "num",
        f"{100 * floor:.0f} to 100\u00a0%, line: all pictures": "wide",
        "": "",
    }
    # without a heading of its own: the column of the warnings
    return fill("<h4>{}</h4>{}", title, table_html(columns, rows, css="fit splits slices"))


def _slice_row(part: Slice, unit: str, floor: float, overall: float) -> list[object]:
    """Compare a part of the pictures with top-1 of all, on a scale from `floor` to 1."""
    low, high = part.interval
    top1, warning = part.right / part.pictures, Markup("")
    if worse(part, overall):
        warning = Markup('<b class="bad">worse than the rest</b>')
    return [
        span(part, unit),
        f"{part.pictures:,}",
        percent(top1),
        interval_text(part.interval),
        interval_bar(low, top1, high, floor=floor, mark=overall),
        warning,
    ]


def worse(part: Slice, overall: float) -> bool:
    """Tell whether the whole interval lies below top-1 of all. (Rounding may put the upper end of
    100 % a hair below it.)"""
    return part.interval[1] < overall and part.right < overall * part.pictures


def span(part: Slice, unit: str) -> str:
    """Print the range of a part: '32 px', '32 to 48 px'; without a unit to one digit more."""
    digits = 0 if unit else 1
    low, high = f"{part.low:.{digits}f}", f"{part.high:.{digits}f}"
    values = low
    if low != high:
        values = f"{low} to {high}"
    return f"{values} {unit}".rstrip()
