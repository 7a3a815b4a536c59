"""What the data and the answers advise: pure functions of a run's findings."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import median

from finetune.report.advice import Advice, changes
from finetune.report.history import standard_error
from zoo.contract.report import ClassNumbers

CONFIDENT = 0.95
"""A wrong answer with at least this deployed probability is a confident one."""


@dataclass(frozen=True)
class Findings:
    """Holds what the numbers of a finished run are, apart from its curves; the split is the
    headline's."""

    split: str
    pictures: int
    top1: float
    interval: tuple[float, float]
    """95 % confidence interval of top-1."""
    has_test: bool
    train_counts: Mapping[str, int]
    """Class -> training pictures."""
    per_class: Sequence[ClassNumbers]
    """As in report.json."""
    confusion: Counter[tuple[str, str]]
    """(true class, answer) -> pictures, right answers included."""
    confident_wrong: int
    """Wrong answers given with a deployed probability of at least CONFIDENT."""
    image_size: int
    median_short_side: int | None = None
    """Of the evaluated pictures, in pixels."""
    small_slice: tuple[float, float] | None = None
    """Top-1 of the quarter of the pictures with the shortest sides, and the upper end of its
    interval."""
    val: tuple[float, float] | None = None
    """Top-1 of val and the lower end of its interval, where there is also a test."""
    size_step: int | None = 32
    """What --image-size must be a multiple of (`zoo.network.build.allowed_size_step`); None: the
    base has one size only."""


def data(findings: Findings) -> list[Advice]:
    """Say what the findings advise about data and input size, the most useful first."""
    return list(filter(None, (rule(findings) for rule in DATA_RULES)))


def label_errors(f: Findings) -> Advice | None:
    """Confident mistakes are often wrong labels (Northcutt et al., Pervasive Label Errors in Test
    Sets, 2021: 3.4 % of ten known test sets). At least 5, and a tenth of all mistakes."""
    wrong = sum(n for (true, answer), n in f.confusion.items() if true != answer)
    if f.confident_wrong < 5 or f.confident_wrong < 0.1 * wrong:
        return None
    return Advice(
        f"{f.confident_wrong:,} of {wrong:,} wrong answers on {f.split} were given with "
        f"{CONFIDENT:.0%} confidence or more.",
        "Look through the most wrong pictures first: many such pictures turn out to "
        "have a wrong label, and training on corrected labels is the cheapest gain.",
    )


def confused(f: Findings) -> Advice | None:
    """Find two classes that are taken for each other, both ways: one way only would be a bias, both
    ways is an overlap.

    Each way at least 5 pictures and a twentieth of the class, so that neither a few pictures nor a
    large class decide.
    """
    totals: Counter[str] = Counter()
    for (true, _), n in f.confusion.items():
        totals[true] += n

    def often(true: str, answer: str) -> bool:
        return f.confusion[true, answer] >= max(5, totals[true] / 20)

    pairs = []
    for a, b in f.confusion:
        # each pair once, though the counts hold both directions
        if a < b and often(a, b) and often(b, a):
            # negative, so that sorting puts the most frequent first
            pairs.append((-f.confusion[a, b] - f.confusion[b, a], a, b))
    if not pairs:
        return None
    named = "; ".join(f"{a} and {b} ({-n} pictures)" for n, a, b in sorted(pairs)[:3])
    return Advice(
        f"Taken for each other, both ways: {named}.",
        "Check the labels of these classes, and whether the "
        "pictures tell them apart; if not, merge the two folders.",
    )


def weak_classes(f: Findings) -> Advice | None:
    """Find classes with a recall clearly (15 points, two standard errors) below the median class,
    and with fewer training pictures than it."""
    recalls = [row.recall for row in f.per_class if row.recall is not None]
    # `median` refuses an empty list
    usual = median(recalls or [0.0])
    few = median(f.train_counts.values() or [0])
    weak = []
    for row in f.per_class:
        count = f.train_counts.get(row.name, 0)
        if row.recall is None or count >= few:
            continue
        if row.recall + max(0.15, 2 * standard_error(row.recall, row.pictures)) < usual:
            named = f"{row.name} ({row.recall:.0%}, {count:,} training pictures)"
            weak.append((row.recall, named))
    if not weak:
        return None
    weakest = ", ".join(named for _, named in sorted(weak, key=itemgetter(0))[:3])
    return Advice(
        f"Far below the median recall of {usual:.0%}: {weakest}.",
        f"Collect pictures of these classes, up to the median of {few:,.0f}: they have fewer "
        "to learn from than the others.",
    )


def larger_input(f: Findings) -> Advice | None:
    """Small pictures are worse, so detail counts; and most pictures lose some of theirs on the way
    to the input."""
    if (
        f.small_slice is None
        or f.median_short_side is None
        or f.size_step is None
        # unless the whole interval lies below, their size may not be the cause
        or f.small_slice[1] >= f.top1
    ):
        return None
    # at most 1.5 times the side (2.25 times the cost), and no more than the pictures have
    most = min(3 * f.image_size // 2, f.median_short_side + f.size_step - 1)
    size = most // f.size_step * f.size_step
    larger = changes({"image_size": f.image_size}, image_size=size)
    if size <= f.image_size or f.median_short_side <= f.image_size or not larger:
        return None
    return Advice(
        f"The smallest pictures are worse ({f.small_slice[0]:.1%} against {f.top1:.1%}), and most "
        f"pictures (median short side {f.median_short_side} px) are larger than the input "
        f"({f.image_size} px).",
        "Train with a larger input, which keeps more detail; it takes about "
        f"{(size / f.image_size) ** 2:.1f} times as long.",
        larger,
    )


def more_test_pictures(f: Findings) -> Advice | None:
    """The headline is known to 5 points or worse, or comes from a split that training has used."""
    # half of its width, in points
    half = 50 * (f.interval[1] - f.interval[0])
    if f.has_test and half <= 5:
        return None
    # of so many pictures, 1.96 standard errors are 2 points; rounded up to two digits
    exact = (1.96 / 0.02 * standard_error(f.top1, f.pictures)) ** 2 * (f.pictures + 2)
    unit = 10 ** max(0, math.floor(math.log10(exact)) - 1)
    # 200 is what `Data.halved` asks of a half of val
    wanted = f"about {max(200, math.ceil(exact / unit) * unit):,} pictures, for ±2 points or better"
    known = f"±{half:.1f} points from {f.pictures:,} pictures"
    if f.has_test:
        return Advice(f"Top-1 on {f.split} is known to {known} only.", f"Bring test/ to {wanted}.")
    return Advice(
        f"There is no test split; the headline, {known}, is that of {f.split}.",
        f"Add a test/ folder, best of {wanted}: training never sees it.",
    )


def flattering_val(f: Findings) -> Advice | None:
    """Val is better than test by more than chance: their 95 % intervals do not meet."""
    if f.val is None or f.val[1] <= f.interval[1]:
        return None
    return Advice(
        f"Top-1 is {f.val[0]:.1%} on val, but {f.top1:.1%} on test, more than chance explains.",
        "Val is more like train than test is: the same objects, days or cameras. Give --val a "
        "folder of pictures as new as those of test: epoch, views, temperature and sets are chosen "
        "on val.",
    )


def imbalanced(f: Findings) -> Advice | None:
    """Clear losses begin at a ratio of 10 (Buda, Maki and Mazurowski, Class Imbalance in CNNs,
    2018)."""
    most = max(f.train_counts.values(), default=0)
    rare = sorted((n, name) for name, n in f.train_counts.items() if 10 * n <= most)
    if not rare:
        return None
    named = ", ".join(f"{name} ({n:,})" for n, name in rare[:3])
    return Advice(
        f"Classes with at most a tenth of the largest one's {most:,} training pictures: "
        f"{len(rare):,}; the rarest: {named}.",
        f"Collect pictures of the rarest, more than {most // 10:,} of each, and judge "
        "by macro F1: top-1 hardly shows rare classes.",
    )


DATA_RULES: tuple[Callable[[Findings], Advice | None], ...] = (
    flattering_val,
    label_errors,
    confused,
    weak_classes,
    larger_input,
    more_test_pictures,
    imbalanced,
)
"""The most useful first."""
