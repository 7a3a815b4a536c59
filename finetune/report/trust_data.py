"""The report's account of the data: counts, findings, pictures left out, balance."""

import statistics

from finetune.report.page import Html, bdi, details, fill, join, meter, part, table
from finetune.report.run_files import Finished

IMBALANCE = 10
"""The page warns when the largest class of train has this many times the pictures of the
smallest."""
FEW_CLASSES = 12
"""Up to this many classes the counts are shown, above they are folded away."""
MOST_COUNTED = 1000
MOST_LEFT_OUT = 100


def data_part(run: Finished) -> Html:
    """What was trained and measured on, and what was wrong with it."""
    data = run.data
    totals = {split: sum(counts.values()) for split, counts in data["counts"].items()}
    left_out = data["left_out"]
    parts: list[object] = [
        fill(
            "<p>{} pictures in {} classes: {}.</p>",
            f"{sum(totals.values()):,}",
            f"{len(run.classes):,}",
            ", ".join(f"{n:,} {split}" for split, n in totals.items()),
        ),
        fill(
            '<p class="soft">Validation: {}; {}.</p>',
            data["val"],
            "halved by hash: select chooses the weights, calibrate takes no part"
            if data["halved"]
            else "it chooses the weights",
        ),
        *(
            fill('<p class="notice">{}</p>', finding)
            for finding in (*imbalance(run), *data["findings"])
        ),
    ]
    if left_out:
        rows = [
            [fill("<code>{}</code>", bdi(path)), reason]
            for path, reason in left_out[:MOST_LEFT_OUT]
        ]
        total = data.get("left_out_total", len(left_out))
        more = fill('<p class="soft">and {} more, in left_out.csv</p>', f"{total - len(rows):,}")
        parts.append(
            details(
                f"Pictures left out ({total:,})",
                join((table({"File": "", "Reason": ""}, rows), more if total > len(rows) else "")),
            )
        )
    counts = counts_table(run)
    parts.append(
        counts
        if len(run.classes) <= FEW_CLASSES
        else details("Pictures of each class, fewest first", counts)
    )
    return part("The data", *parts)


def imbalance(run: Finished) -> list[str]:
    """A sentence if the classes of train differ much in size."""
    counts = run.data["counts"]["train"]
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    ratio = counts[many] / max(1, counts[few])
    if ratio < IMBALANCE:
        return []
    return [
        f"Strong imbalance: {many} has {counts[many]:,} training pictures, {few} has "
        f"{counts[few]:,} ({ratio:.0f} times fewer; the median is "
        f"{statistics.median(counts.values()):,.0f}). Look at macro F1 and at the rarest classes "
        "rather than at top-1."
    ]


def counts_table(run: Finished) -> Html:
    """Pictures of each class and split; of many classes those with the fewest."""
    counts = run.data["counts"]
    train, most = counts["train"], max(counts["train"].values())
    order = (
        run.classes
        if len(run.classes) <= FEW_CLASSES
        else sorted(run.classes, key=train.__getitem__)
    )
    rows = [
        [
            bdi(name),
            *(
                meter(of[name] / most, f"{of[name]:,}") if split == "train" else f"{of[name]:,}"
                for split, of in counts.items()
            ),
        ]
        for name in order[:MOST_COUNTED]
    ]
    return table({"Class": "", **dict.fromkeys(counts, "num")}, rows, css="fit")
