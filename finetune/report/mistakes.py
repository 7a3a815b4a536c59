"""The report's third question, "Where does it fail?": confusions, most wrong pictures, picture
sizes and brightness."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.evaluation import metrics
from finetune.evaluation.metrics import Slice
from finetune.evaluation.predictions import most_wrong
from finetune.figures import confusion
from finetune.figures.drawing import Drawing
from finetune.report.page import (
    Html,
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
    table,
)
from finetune.report.quality import ALL_ROWS, scale_floor
from finetune.report.run_files import Finished
from finetune.report.thumbnails import SMALL, thumbnail, with_heat
from zoo.files.same_paths import located

MOST_CONFUSIONS = 20
WITH_PICTURES = 8
"""So many of the most frequent confusions are shown with EXAMPLES pictures."""
EXAMPLES = 3


def mistakes_section(run: Finished, matrix: Drawing | None, data_root: Path) -> Html:
    """What is taken for what, the most wrong pictures, and the kinds of picture that fail more
    often."""
    return section(
        "fails",
        "Where does it fail?",
        confusion_part(run, matrix, data_root),
        wrong_part(run, data_root),
        slices_part(run),
    )


def shown_classes(run: Finished) -> list[int]:
    """Labels in the confusion matrix: all, or of many classes those of the most frequent
    confusions."""
    if len(run.classes) <= ALL_ROWS:
        return list(range(len(run.classes)))
    chosen: set[int] = set()
    for pair, _ in frequent_confusions(run):
        if len(chosen | set(pair)) > confusion.MOST_NUMBERED:
            break
        chosen |= set(pair)
    return sorted(chosen)


def frequent_confusions(run: Finished) -> list[tuple[tuple[int, int], int]]:
    """((true, predicted), pictures) of wrong answers, the most frequent first."""
    wrong = [(pair, n) for pair, n in run.confusion.items() if pair[0] != pair[1]]
    return sorted(wrong, key=lambda item: (-item[1], item[0]))


def confusion_figure(run: Finished) -> Drawing | None:
    """The matrix of the headline's split; None if there are too many classes and no confusion."""
    shown = shown_classes(run)
    if not shown:
        return None
    place = {label: i for i, label in enumerate(shown)}
    cells = {
        (place[t], place[p]): n for (t, p), n in run.confusion.items() if t in place and p in place
    }
    return confusion.confusion(
        [run.classes[c] for c in shown], cells, [run.pictures_of[c] for c in shown]
    )


def confusion_part(run: Finished, matrix: Drawing | None, data_root: Path) -> Html:
    """What is taken for what: the matrix, and the most frequent confusions with pictures."""
    parts = [matrix_text(run, matrix)] if matrix else []
    pairs = frequent_confusions(run)
    rows = [
        [
            bdi(run.classes[true]),
            bdi(run.classes[said]),
            f"{n:,}",
            percent(n / run.pictures_of[true], 0),
            examples(run, (true, said), data_root) if i < WITH_PICTURES else "",
        ]
        for i, ((true, said), n) in enumerate(pairs[:MOST_CONFUSIONS])
    ]
    if rows:
        title = "Most frequent confusions" if len(rows) < len(pairs) else "All confusions"
        columns = {"Is": "", "Said": "", "Pictures": "num", "Of class": "num", "Surest": "shots"}
        parts.append(
            fill('<div class="grow"><h4>{}</h4>{}</div>', title, table(columns, rows, css="pairs"))
        )
    else:
        parts.append(
            fill(
                "<p>No wrong answer among the {} pictures of {}.</p>",
                f"{len(run.answers):,}",
                run.split,
            )
        )
    return part("What is taken for what", fill('<div class="beside">{}</div>', join(parts)))


def examples(run: Finished, pair: tuple[int, int], data_root: Path) -> Html:
    """Pictures of one confusion, the surest answers first."""
    own = run.answers
    found = np.flatnonzero((own.label == pair[0]) & (own.predicted == pair[1])).tolist()
    found.sort(key=lambda i: (-own.confidence[i], own.path[i]))
    return fill(
        '<div class="shots">{}</div>',
        join(
            thumbnail(located(data_root, str(own.path[i])), run.sha256(i), SMALL)
            for i in found[:EXAMPLES]
        ),
    )


def matrix_text(run: Finished, matrix: Drawing) -> Html:
    """The matrix with its explanation. On a narrow screen it shrinks a little, then scrolls."""
    figure = image(
        matrix, f"width:100%;min-width:{0.8 * matrix.width:.0f}px;max-width:{matrix.width}px"
    )
    shown = len(shown_classes(run))
    scope = (
        f"Only the {shown} classes (of {len(run.classes):,}) of the most frequent confusions. "
        if shown < len(run.classes)
        else ""
    )
    return fill(
        '<div class="matrix" style="width:{}px"><div class="scroll">{}</div><p '
        'class="soft">{}Rows are the '
        "true class. Blue is right, orange wrong; the deeper, the larger its share of the "
        "row.</p></div>",
        max(300, matrix.width),
        figure,
        scope,
    )


def wrong_part(run: Finished, data_root: Path) -> Html:
    """The wrong answers that were given with most confidence."""
    own, title = run.answers, "Most wrong pictures"
    shown, wrong = most_wrong(own), int((~own.right).sum())
    if not wrong:
        return part(title, fill("<p>None: every picture of {} is right.</p>", run.split))
    scope = f"; here the {len(shown)} with the highest confidence" if len(shown) < wrong else ""
    heat = (
        " The second picture is what the network saw; warm colours mark the places that spoke for "
        "the class it answered."
        if run.report.heatmaps
        else ""
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
    cards = join(wrong_picture(run, i, data_root) for i in shown.tolist())
    return part(
        title, note, fill('<div class="wrong {}">{}</div>', "heated" if heat else "", cards)
    )


def wrong_picture(run: Finished, i: int, data_root: Path) -> Html:
    """One wrong answer with its picture, and its heat map if there is one."""
    own, path = run.answers, str(run.answers.path[i])
    heat = (run.report.heatmaps or {}).get(path)
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


def slices_part(run: Finished) -> Html:
    """Top-1 by size and by brightness of the picture."""
    own = run.answers
    short = np.minimum(own.width, own.height)
    return part(
        "Which kinds of picture fail?",
        slices_table(run, "Short side of the picture", metrics.slices(short, own.right), "px"),
        slices_table(
            run,
            "Brightness, black 0 to white 100",
            metrics.slices(100 * own.brightness, own.right),
            "",
        ),
        soft(
            "Up to four parts of about equal size. A part is marked if its whole interval lies "
            "below the top-1 of all pictures, {}.",
            percent(run.numbers.top1),
        ),
    )


def slices_table(run: Finished, title: str, slices: Sequence[Slice], unit: str) -> Html:
    """One property, in parts; a sentence if the pictures hardly differ in it."""
    if len(slices) < 2:
        share = "All" if slices[0].low == slices[0].high else "Nearly all"
        most = span(slices[0]._replace(low=slices[0].high), unit)
        return fill(
            "<h4>{}</h4><p>{} pictures have {}, so there is nothing to compare.</p>",
            title,
            share,
            most,
        )
    overall = run.numbers.top1
    floor = scale_floor([s.interval[0] for s in slices])
    rows = [
        [
            span(s, unit),
            f"{s.pictures:,}",
            percent(s.right / s.pictures),
            interval_text(s.interval),
            interval_bar(
                s.interval[0], s.right / s.pictures, s.interval[1], floor=floor, mark=overall
            ),
            fill('<b class="bad">worse than the rest</b>') if worse(s, overall) else "",
        ]
        for s in slices
    ]
    columns = {
        "Part": "",
        "Pictures": "num",
        "Top-1": "num",
        "95 % interval": "num",
        f"{100 * floor:.0f} to 100\u00a0%, line: all pictures": "wide",
        "": "",
    }
    return fill("<h4>{}</h4>{}", title, table(columns, rows, css="fit splits slices"))


def worse(part: Slice, overall: float) -> bool:
    """Whether the whole interval lies below top-1 of all. (Rounding may put the upper end of 100 %
    a hair below it.)"""
    return part.interval[1] < overall and part.right < overall * part.pictures


def span(of: Slice, unit: str) -> str:
    """The range of a part: '32 px', '32 to 48 px'."""
    low, high = (f"{x:.0f}" if unit else f"{x:.1f}" for x in (of.low, of.high))
    return " ".join(filter(None, (low if low == high else f"{low} to {high}", unit)))
