"""The report's account of the data: counts, findings, pictures left out, balance."""

import statistics

from markupsafe import Markup

from finetune.report.page import bdi, details, fill, join, meter, notice, part, table_html
from finetune.report.run_files import Finished

IMBALANCE = 10
"""The page warns when the largest class of train has this many times the pictures of the
smallest."""
FEW_CLASSES = 12
"""Up to this many classes the counts are shown, above they are folded away."""
MOST_COUNTED = 1000
MOST_LEFT_OUT = 100


def data_part(run: Finished) -> Markup:
    """Show what was trained and measured on, and what was wrong with it."""
    data = run.data
    totals = {split: sum(counts.values()) for split, counts in data["counts"].items()}
    role = "it chooses the weights"
    if data["halved"]:
        role = "halved by hash: select chooses the weights, calibrate takes no part"
    counts = counts_table(run)
    if len(run.classes) > FEW_CLASSES:
        counts = details("Pictures of each class, fewest first", counts)
    return part(
        "The data",
        fill(
            "<p>{} pictures in {} classes: {}.</p>",
            f"{sum(totals.values()):,}",
            f"{len(run.classes):,}",
            ", ".join(f"{n:,} {split}" for split, n in totals.items()),
        ),
        fill('<p class="soft">Validation: {}; {}.</p>', data["val"], role),
        *map(notice, (*imbalance(run), *data["findings"])),
        left_out_table(run),
        counts,
    )


def left_out_table(run: Finished) -> Markup:
    """List the pictures that were not used, folded away; nothing if all were."""
    left_out = run.data["left_out"]
    if not left_out:
        return Markup("")
    # data.json lists only the first of many
    total = run.data.get("left_out_total", len(left_out))
    rows = []
    for path, reason in left_out[:MOST_LEFT_OUT]:
        rows.append([fill("<code>{}</code>", bdi(path)), reason])
    content = table_html({"File": "", "Reason": ""}, rows)
    if total > len(rows):
        more = fill('<p class="soft">and {} more, in left_out.csv</p>', f"{total - len(rows):,}")
        content = join((content, more))
    return details(f"Pictures left out ({total:,})", content)


def imbalance(run: Finished) -> list[str]:
    """Say in a sentence if the classes of train differ much in size."""
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


def counts_table(run: Finished) -> Markup:
    """Count the pictures of each class and split; of many classes those with the fewest."""
    counts = run.data["counts"]
    train, most = counts["train"], max(counts["train"].values())
    order = run.classes
    # few classes keep the order of the other tables
    if len(order) > FEW_CLASSES:
        order = sorted(order, key=train.__getitem__)
    rows = []
    for name in order[:MOST_COUNTED]:
        cells: dict[str, object] = {split: f"{of[name]:,}" for split, of in counts.items()}
        cells["train"] = meter(train[name] / most, f"{train[name]:,}")
        rows.append([bdi(name), *cells.values()])
    return table_html({"Class": "", **dict.fromkeys(counts, "num")}, rows, css="fit")
