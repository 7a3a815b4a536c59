"""`report.html`: the page a person reads. Made only from the run folder's other files, and the pictures themselves.

`finished.read` reads the files; each section is a function from them to HTML (here, and in mistakes.py); `write` writes
the page, and its figures as `figures/*.svg`.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune import figures, finished, mistakes
from finetune.finished import Finished
from finetune.page import (
    Drawing,
    Html,
    bdi,
    breakable,
    details,
    document,
    duration,
    file_size,
    fill,
    image,
    join,
    meter,
    percent,
    section,
    table,
)
from finetune.recipe import Recipe, field_docs
from zoo import catalog, rundir

IMBALANCE = 10
"""The page warns when the largest class of train has this many times the pictures of the smallest."""
FEW_CLASSES = 30
"""Up to this many classes the counts are shown, above they are folded away."""
MOST_COUNTED = 1000
MOST_LEFT_OUT = 100


def write(folder: Path, data_root: Path) -> None:
    """Write `report.html` and `figures/` of a run from its other files; `data_root` is where the pictures lie.

    The page needs nothing else: pictures and figures are inside. Raises `UserError` if a file of the run is missing.
    """
    run = finished.read(folder)
    curves, matrix = curve_figures(run), mistakes.confusion_figure(run)
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    for drawing in (*curves, *([matrix] if matrix else [])):
        rundir.write_text(folder / rundir.FIGURES / f"{drawing.name}.svg", drawing.svg)
    body = join((headline(run), data_section(run), curves_section(run, curves),
                 mistakes.confusion_section(run, matrix), mistakes.per_class_section(run),
                 mistakes.wrong_section(run, data_root), recipe_section(run), foot(run)))
    rundir.write_text(folder / rundir.PAGE, document(f"{run_name(run)}: {top1_text(run)}", body))


def run_name(run: Finished) -> str:
    """The run folder's name."""
    return run.folder.resolve().name


def top1_text(run: Finished) -> str:
    """Top-1 of the headline as it is shown everywhere."""
    return percent(run.report["headline"]["top1"], 2)


def headline(run: Finished) -> Html:
    """The numbers a reader came for."""
    head = run.report["headline"]
    low, high = head["top1_interval"]
    return fill("""<header><h1>{name}</h1>
<div class="hero"><div><p class="label">{split} top-1</p><p class="big" id="top1">{top1}</p>
<p>95 % interval {low} to {high}</p><p class="soft">{pictures} pictures; {note}</p></div>
<dl class="tiles">{tiles}</dl></div>{notices}
<h3>All splits</h3>{splits}</header>
""", name=bdi(run_name(run)), split=run.split, top1=Html(top1_text(run).replace("\u00a0%", "<small>%</small>")),
                low=percent(low), high=percent(high), pictures=f"{head['pictures']:,}", note=head["note"],
                tiles=join(tiles(run)), notices=join(notices(run)), splits=splits_table(run))


def tiles(run: Finished) -> list[Html]:
    """The lesser numbers of the headline."""
    head, best, base, probe = (run.report[key] for key in ("headline", "best", "base", "probe"))
    largest = max(Counter(a.label for a in run.answers).values(), default=0) / max(1, len(run.answers))
    shown: list[tuple[str, object, object]] = [
        ("Top-5", percent(head["top5"], 2), "") if len(run.classes) > 5 else ("", "", ""),
        ("Macro F1", percent(head["macro_f1"], 2), "mean over classes"),
        ("Loss", f"{head['loss']:.4f}", "cross-entropy, nats"),
        ("Largest class", percent(largest), "always answering it"),
        ("Best epoch", best["epoch"] if best["step"] else "none", f"top-1 {percent(best['top1'], 2)} on select"),
        ("Linear probe", percent(probe["select_top1"], 2) if probe else "none", "top-1 on select" if probe else ""),
        ("Time", duration(run.report["seconds"]), f"on {run.report['device']}"),
        ("Base", breakable(base["name"]), licence(base)),
    ]
    return [fill("<div><dt>{}</dt><dd>{}{}</dd></div>", title, value, fill("<small>{}</small>", small) if small else "")
            for title, value, small in shown if title]


def licence(base: Mapping[str, Any]) -> Html:
    """The base's licence, red if it forbids commercial use."""
    forbids = catalog.forbids_commercial_use(base["licence"])
    return fill('<span class="{}">licence {}</span>', "bad" if forbids else "", base["licence"] or "not known")


def notices(run: Finished) -> list[Html]:
    """What a reader must not overlook: the licence, and a run in which fine-tuning gained nothing."""
    base, probe = run.report["base"], run.report["probe"]
    found = []
    started_from = catalog.Base(base["name"], base["architecture"], "", base["hub_id"], licence=base["licence"],
                                folder=None if base["hub_id"] else Path(base["name"]))
    if note := catalog.licence_note(started_from):
        red = "bad" if catalog.forbids_commercial_use(base["licence"]) else ""
        found.append(fill('<p class="notice {}">{}</p>', red, note))
    if probe and probe["kept"] and not value_of(run, "probe_only"):
        found.append(fill('<p class="notice">No epoch was better on select than the linear probe, so the probe is the '
                          "result: try more epochs or another learning rate.</p>"))
    return found


def value_of(run: Finished, field: str) -> Any:
    """A value of the recipe, None if this version of the recipe lacks it."""
    return run.recipe.get(field, {}).get("value")


def splits_table(run: Finished) -> Html:
    """Every evaluated split, with its interval drawn on one scale."""
    splits = run.report["splits"]
    floor = min(part["top1_interval"][0] for part in splits.values()) // 0.1 * 0.1
    top5 = {"Top-5": "num"} if len(run.classes) > 5 else {}
    columns = {"Split": "", "Pictures": "num", "Top-1": "num", "95 % interval": "num", **top5, "Loss": "num wide",
               f"{100 * floor:.0f} to 100\u00a0%": "wide"}

    def row(name: str, part: Mapping[str, Any]) -> list[object]:
        low, high, top1 = ((x - floor) / (1 - floor) * 100 for x in (*part["top1_interval"], part["top1"]))
        drawn = fill('<span class="range"><i style="left:{}%;width:{}%"></i><b style="left:{}%"></b></span>',
                     f"{low:.1f}", f"{high - low:.1f}", f"{top1:.1f}")
        interval = " – ".join(f"{100 * x:.1f}" for x in part["top1_interval"])
        return [name, f"{part['pictures']:,}", percent(part["top1"], 2), interval,
                *([percent(part["top5"], 2)] if top5 else []), f"{part['loss']:.4f}", drawn]
    return table(columns, [row(*item) for item in sorted(splits.items(), key=lambda item: item[0] != run.split)],
                 css="fit splits")


def data_section(run: Finished) -> Html:
    """Counts, findings, pictures left out, balance."""
    data = run.data
    totals = {split: sum(counts.values()) for split, counts in data["counts"].items()}
    left_out = data["left_out"]
    parts: list[object] = [
        fill("<p>{} pictures in {} classes: {}.</p>", f"{sum(totals.values()):,}", f"{len(run.classes):,}",
             ", ".join(f"{n:,} {split}" for split, n in totals.items())),
        fill('<p class="soft">Validation: {}; {}.</p>', data["val"],
             "halved by hash: select chooses the epoch, calibrate takes no part" if data["halved"]
             else "it chooses the epoch"),
        *(fill('<p class="notice">{}</p>', finding) for finding in (*imbalance(run), *data["findings"]))]
    if left_out:
        rows = [[fill("<code>{}</code>", bdi(path)), reason] for path, reason in left_out[:MOST_LEFT_OUT]]
        more = len(left_out) - len(rows)
        parts.append(details(f"Pictures left out ({len(left_out):,})", join((
            table({"File": "", "Reason": ""}, rows),
            fill('<p class="soft">and {} more, in data.json</p>', f"{more:,}") if more else ""))))
    counts = counts_table(run)
    parts.append(counts if len(run.classes) <= FEW_CLASSES else
                 details("Pictures of each class, fewest first", counts))
    return section("Data", *parts)


def imbalance(run: Finished) -> list[str]:
    """A sentence if the classes of train differ much in size."""
    counts = run.data["counts"]["train"]
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    ratio = counts[many] / max(1, counts[few])
    if ratio < IMBALANCE:
        return []
    return [f"Strong imbalance: {many} has {counts[many]:,} training pictures, {few} has {counts[few]:,} "
            f"({ratio:.0f} times fewer; the median is {statistics.median(counts.values()):,.0f}). Look at macro F1 and "
            "at the rarest classes rather than at top-1."]


def counts_table(run: Finished) -> Html:
    """Pictures of each class and split; of many classes those with the fewest."""
    counts = run.data["counts"]
    train, most = counts["train"], max(counts["train"].values())
    order = run.classes if len(run.classes) <= FEW_CLASSES else sorted(run.classes, key=train.__getitem__)
    rows = [[bdi(name), *(meter(part[name] / most, f"{part[name]:,}") if split == "train" else f"{part[name]:,}"
                          for split, part in counts.items())] for name in order[:MOST_COUNTED]]
    return table({"Class": "", **dict.fromkeys(counts, "num")}, rows, css="fit")


def curve_figures(run: Finished) -> list[Drawing]:
    """Loss, top-1 and learning rate against epochs; none if no epoch was trained."""
    ends = [step for step, _ in run.series.get("select/top1", []) if step]
    if not ends:
        return []

    def by_epoch(name: str) -> list[tuple[float, float]]:
        return [(step / ends[0], value) for step, value in run.series.get(name, [])]
    best, probe = run.report["best"], run.report["probe"]
    return [figures.losses(by_epoch("train/loss"), by_epoch("select/loss")),
            figures.accuracy(by_epoch("select/top1"), probe=probe["select_top1"] if probe else None,
                             best=(best["step"] / ends[0], best["top1"])),
            figures.learning_rate(by_epoch("train/lr"))]


def curves_section(run: Finished, curves: Sequence[Drawing]) -> Html:
    """How the training went."""
    if not curves:
        return section("Training", fill("<p>No epoch was trained: the result is the linear probe.</p>"
                                        if run.report["probe"] else "<p>No epoch was trained.</p>"))
    smoothing = value_of(run, "label_smoothing")
    note = fill('<p class="soft prose">Epoch 0 is the model before the first step. Training loss is measured on '
                "augmented pictures{}, so it can lie above the loss on select.</p>",
                f" and includes label smoothing of {smoothing:g}" if smoothing else "")
    return section("Training", fill('<div class="panels">{}</div>', join(map(image, curves))), note)


def recipe_section(run: Finished) -> Html:
    """Every value of the recipe with its reason; what a field means is its tooltip."""
    docs = field_docs(Recipe)
    rows = [[fill('<abbr title="{}">{}</abbr>', docs.get(field, ""), field.replace("_", "-")),
             {True: "yes", False: "no", "": "–"}.get(row["value"], row["value"])
             if isinstance(row["value"], bool | str) else f"{row['value']:g}", row["why"]]
            for field, row in run.recipe.items()]
    return section("Recipe", table({"Setting": "", "Value": "value", "Why": "why"}, rows), css="recipe")


CONTENTS = {
    rundir.CONFIG: "architecture, class names, preprocessing (timm's layout)", rundir.WEIGHTS: "the weights",
    rundir.DECISION: "how logits become an answer", rundir.RECIPE: "the recipe",
    rundir.DATA: "classes, counts, findings",
    rundir.FILES: "path, class, split and sha256 of each picture", rundir.LOCAL: "where the pictures lay",
    rundir.METRICS: "the curves", rundir.REPORT: "the numbers of this page",
    rundir.PREDICTIONS: "the answer to each picture of val and test",
}
"""File of a run -> what it holds."""


def foot(run: Finished) -> Html:
    """Where the numbers come from."""
    report = run.report
    base = report["base"]
    trained = f"pretrained on {base['pretrained_on']}" if base["pretrained_on"] else None
    facts = {
        "Base": ", ".join(filter(None, (base["name"], base["architecture"], trained))),
        "Weights": base["hub_id"] or "–", "Device": report["device"],
        "Versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "Data digest": fill("<code>{}</code>", run.data["digest"]),
    }
    files = [[fill("<code>{}</code>", name), file_size((run.folder / name).stat().st_size), what]
             for name, what in CONTENTS.items() if (run.folder / name).is_file()]
    listed = join(fill("<dt>{}</dt><dd>{}</dd>", *item) for item in facts.items())
    return section("About this run", fill('<dl class="facts">{}</dl>', listed),
                   fill("<h3>Files</h3>"), table({"File": "", "Size": "num", "Content": ""}, files, css="fit files"))
