"""The report's sections on mistakes: what is taken for what, how good each class is, the most wrong pictures."""

import base64
import io
from collections import Counter
from pathlib import Path

from finetune import figures
from finetune.finished import Answer, Finished
from finetune.page import Drawing, Html, bdi, fill, image, join, meter, percent, section, table
from zoo.errors import BadImage
from zoo.preprocess import decode

ALL_ROWS = 100
"""Up to this many classes the confusion matrix and the table of classes show every class."""
WORST_ROWS = 50
MOST_CONFUSIONS = 20
MOST_WRONG = 24
THUMBNAIL = 192
"""Longest side of an embedded picture in pixels, twice what is shown (for dense screens)."""


def shown_classes(run: Finished) -> list[int]:
    """Labels in the confusion matrix: all, or of many classes those of the most frequent confusions."""
    if len(run.classes) <= ALL_ROWS:
        return list(range(len(run.classes)))
    chosen: set[int] = set()
    for pair, _ in frequent_confusions(run):
        if len(chosen | set(pair)) > figures.MOST_NUMBERED:
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
    totals = Counter(true for true, _ in run.confusion.elements())
    cells = {(place[t], place[p]): n for (t, p), n in run.confusion.items() if t in place and p in place}
    return figures.confusion([run.classes[c] for c in shown], cells, [totals[c] for c in shown])


def confusion_section(run: Finished, matrix: Drawing | None) -> Html:
    """What is taken for what: the matrix, and the most frequent confusions."""
    parts = [matrix_part(run, matrix)] if matrix else []
    pairs, totals = frequent_confusions(run), Counter(a.label for a in run.answers)
    rows = [[bdi(run.classes[true]), bdi(run.classes[said]), f"{n:,}", percent(n / totals[run.classes[true]], 0)]
            for (true, said), n in pairs[:MOST_CONFUSIONS]]
    if rows:
        title = "Most frequent confusions" if len(rows) < len(pairs) else "All confusions"
        columns = {"Is": "", "Said": "", "Pictures": "num", "Of class": "num"}
        parts.append(fill('<div class="grow"><h3>{}</h3>{}</div>', title, table(columns, rows)))
    else:
        parts.append(fill("<p>No wrong answer among the {} pictures of {}.</p>", f"{len(run.answers):,}", run.split))
    return section("Confusions", fill('<div class="beside">{}</div>', join(parts)))


def matrix_part(run: Finished, matrix: Drawing) -> Html:
    """The matrix with its explanation. On a narrow screen it shrinks a little, then scrolls."""
    figure = image(matrix, f"width:100%;min-width:{0.8 * matrix.width:.0f}px;max-width:{matrix.width}px")
    shown = len(shown_classes(run))
    scope = (f"Only the {shown} classes (of {len(run.classes):,}) of the most frequent confusions. "
             if shown < len(run.classes) else "")
    return fill('<div class="matrix" style="width:{}px"><div class="scroll">{}</div><p class="soft">{}Rows are the '
                "true class. Blue is right, orange wrong; the deeper, the larger its share of the row.</p></div>",
                max(300, matrix.width), figure, scope)


def per_class_section(run: Finished) -> Html:
    """Precision, recall and F1 of each class, the worst first."""
    order = sorted(run.report["per_class"], key=lambda row: (row["f1"] is None, row["f1"], row["class"]))
    shown = order if len(order) <= ALL_ROWS else order[:WORST_ROWS]
    scope = (f"the {WORST_ROWS} classes (of {len(order):,}) with the lowest F1" if len(shown) < len(order)
             else "lowest F1 first")
    rows = [[bdi(row["class"]), meter(row["f1"], percent(row["f1"])), percent(row["precision"]), percent(row["recall"]),
             f"{row['pictures']:,}"] for row in shown]
    columns = {"Class": "", "F1": "num", "Precision": "num", "Recall": "num", "Pictures": "num"}
    return section("Classes", fill('<p class="soft">On {}; {}.</p>', run.split, scope),
                   table(columns, rows, css="fit classes"))


def wrong_section(run: Finished, data_root: Path) -> Html:
    """The wrong answers that were given with most confidence."""
    wrong = sorted((a for a in run.answers if a.label != a.predicted), key=lambda a: (-a.confidence, a.path))
    if not wrong:
        return section("Most wrong pictures", fill("<p>None: every picture of {} is right.</p>", run.split))
    shown = wrong[:MOST_WRONG]
    scope = f"; here the {len(shown)} with the highest confidence" if len(shown) < len(wrong) else ""
    note = fill('<p class="soft prose">{} of {} pictures of {} are wrong{}. High confidence often means a wrong label, '
                "or two classes that overlap.</p>", f"{len(wrong):,}", f"{len(run.answers):,}", run.split, scope)
    pictures = join(wrong_picture(answer, data_root) for answer in shown)
    return section("Most wrong pictures", note, fill('<div class="wrong">{}</div>', pictures))


def wrong_picture(answer: Answer, data_root: Path) -> Html:
    """One wrong answer with its picture; its file name if the picture cannot be read any more."""
    return fill('<figure><div class="frame">{}</div><figcaption>is <b>{}</b>, said <b>{}</b> {}<code>{}</code>'
                "</figcaption></figure>\n", thumbnail(data_root / answer.path), bdi(answer.label),
                bdi(answer.predicted), percent(answer.confidence, 0), bdi(answer.path))


def thumbnail(path: Path) -> Html:
    """A picture as an embedded WebP of at most THUMBNAIL pixels."""
    try:
        picture = decode(path)
    except BadImage:
        return fill('<span class="gone">{}<br>cannot be read any more</span>', bdi(path.name))
    tiny = max(picture.size) < THUMBNAIL // 2
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, lossless=tiny)
    return fill('<img class="{}" src="data:image/webp;base64,{}" alt="">', "tiny" if tiny else "",
                base64.b64encode(buffer.getvalue()).decode())
