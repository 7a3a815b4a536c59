"""The model card of a run: `README.md` of the folder, which is a Hub repository.

    text(run)          the card of a run folder, as `finetune` writes it
    text(run, place)   the card of its published copy

`model_cards/template.md` holds the prose; the numbers come from report.json, data.json,
recipe.json, decision.json and config.json of the run, and from the bundles. Whatever a user chose
as a name is escaped (`code`, `plain`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from zoo.bases.catalog import OWN_ARCHITECTURES, forbids_commercial_use
from zoo.contract import bundle as bundles
from zoo.contract import recipe_rows, rundir
from zoo.contract.bundle import Bundle
from zoo.contract.figures import Figures, figures
from zoo.contract.finished_run import FinishedRun
from zoo.files import fields
from zoo.host.text import code, plain
from zoo.publish.front_matter import metadata
from zoo.publish.limits import MOST_NAMED, limits
from zoo.publish.place import Place

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "template.md"
FITS = {
    "squash": "the whole picture squeezed into a square",
    "center": "the middle square of the picture",
    "border": "the whole picture with borders",
}


def text(run: Path, place: Place | None = None) -> str:
    """Front matter and Markdown of a run's card, or of its published copy."""
    files = place.files if place else {}
    facts = FinishedRun(run, files)
    opened = list(bundles.of_run(run)) if place else []
    with fields.of(
        f"a file of {run} that its card is made of", "Copy the run folder again, or train it again."
    ):
        return _text(facts, opened, place)


def _text(facts: FinishedRun, opened: Sequence[Bundle], place: Place | None) -> str:
    run = facts.folder
    parts = (
        about(facts)
        | usage(facts, place)
        | {
            "results": results(facts),
            "results_note": results_note(facts),
            "per_class": per_class(facts),
            "calibration": calibration(facts)
            if (run / rundir.FIGURES / "reliability.svg").is_file()
            else "",
            "exports": exports(facts, opened, place),
            "data": data_summary(facts),
            "limits": limits(facts),
            "recipe": recipe_table(facts.recipe),
        }
    )
    return (
        str(
            ModelCard.from_template(
                metadata(facts, place, opened), template_str=TEMPLATE.read_text("utf-8"), **parts
            )
        ).rstrip()
        + "\n"
    )


def about(facts: FinishedRun) -> dict[str, Any]:
    """What the model is."""
    base, head, names = facts.report.base, facts.report.headline, facts.data["classes"]
    listed = ", ".join(code(name) for name in names[:MOST_NAMED])
    low, high = head.numbers.top1_interval
    config = facts.config["pretrained_cfg"]
    return {
        "title": plain(facts.name),
        "licence": plain(base.licence or "unknown"),
        "no_commerce": forbids_commercial_use(base.licence),
        "class_count": len(names),
        "classes": listed
        + (f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""),
        "top1": f"{head.numbers.top1:.2%}",
        "interval": f"{low:.1%} to {high:.1%}",
        "pictures": f"{head.numbers.pictures:,}",
        "split": plain(head.split),
        "note": plain(head.note),
        "base": code(base.name),
        "architecture": code(facts.config["architecture"]),
        "pretrained_on": plain(base.pretrained_on or "unknown data"),
        "own_architecture": facts.config["architecture"] in OWN_ARCHITECTURES,
        "side": config["input_size"][-1],
        "fit": FITS[config["crop_mode"]],
    }


def usage(facts: FinishedRun, place: Place | None) -> dict[str, Any]:
    """Names and notes of the section that shows how to use it."""
    here = "PATH_OF_THIS_FOLDER"
    files = place.files if place else {}
    crop_mode = facts.config["pretrained_cfg"]["crop_mode"]
    preprocessor = (
        "`preprocessor_config.json` is timm's own evaluation transform in transformers; "
        "transformers.js resizes with another filter, so that its probabilities differ a little."
        if "preprocessor_config.json" in files
        else f"There is no `preprocessor_config.json`: crop_mode {code(crop_mode)} "
        "has no equivalent in other libraries; transformers in Python reads timm's "
        "`config.json` instead."
    )
    return {
        "repo": place.repo if place else here,
        "timm_name": f"hf-hub:{place.repo}" if place else f"local-dir:{here}",
        "deployed": "bundles/onnx/model.onnx" in files,
        "plain": "onnx/model.onnx" in files,
        "repo_files": place is not None,
        "preprocessor": preprocessor,
        "processor_note": " (it needs timm too)",
    }


def results(facts: FinishedRun) -> str:
    """As deployed, and without views and calibration."""
    numbers, decision = facts.report.headline.numbers, facts.decision
    rows = []
    for name, row in (
        (
            f"as deployed: views {decision['views']}, temperature {decision['temperature']:.2f}",
            numbers,
        ),
        ("one view, temperature 1 (timm, transformers)", numbers.plain),
    ):
        low, high = row.top1_interval
        rows.append(
            [
                name,
                f"{row.top1:.2%}",
                f"{low:.1%} to {high:.1%}",
                f"{row.loss:.3f}",
                f"{row.ece:.1%}",
            ]
        )
    return table(["answer", "top-1", "95 % interval", "loss", "calibration error"], rows)


def results_note(facts: FinishedRun) -> str:
    """Numbers beside the table's."""
    head, probe = facts.report.headline, facts.report.probe
    numbers = head.numbers
    said = [f"As deployed: top-5 {numbers.top5:.2%}, macro F1 {head.macro_f1:.3f}."]
    if sets := facts.decision.get("sets"):
        said.append(
            f"Prediction sets fitted to hold the true class in {sets['coverage']:.0%} do so in "
            f"{numbers.covered:.1%}, with {numbers.mean_set_size:.2f} classes on average."
        )
    if probe:
        said.append(
            f"A linear probe on the base's frozen features: {probe.select_top1:.2%} on the "
            "pictures by which the weights are chosen."
        )
    return " ".join(said)


def per_class(facts: FinishedRun) -> str:
    """The table of classes, the worst first where there are many."""
    rows = facts.report.per_class
    shown = (
        rows
        if len(rows) <= MOST_NAMED
        else sorted(rows, key=lambda row: row.f1 or 0.0)[:MOST_NAMED]
    )
    more = "" if shown is rows else f"\nThe {MOST_NAMED} classes with the lowest F1 of {len(rows)}."
    return (
        table(
            ["class", "pictures", "precision", "recall", "F1"],
            [
                [
                    code(row.name),
                    str(row.pictures),
                    *map(share, (row.precision, row.recall, row.f1)),
                ]
                for row in shown
            ],
        )
        + more
    )


def share(value: float | None) -> str:
    """A share in percent; - where it is undefined."""
    return "-" if value is None else f"{value:.1%}"


def calibration(facts: FinishedRun) -> str:
    """What the picture shows, in numbers."""
    numbers, fitted = facts.report.headline.numbers, facts.decision["fitted"]
    return (
        f"Calibration error {numbers.plain.ece:.1%} before and {numbers.ece:.1%} after one "
        f"temperature ({facts.decision['temperature']:.2f}), fitted on {fitted['pictures']:,} "
        f"pictures of {fitted['split']}."
    )


def exports(facts: FinishedRun, opened: Sequence[Bundle], place: Place | None) -> str:
    """What each bundle says of itself: accuracy, size and latency."""
    rows, machines = [], set()
    cut = place.cut if place else str
    for one in opened:
        shown = figures(one)
        described = f"{bundles.BUNDLES}/{one.folder.name}/{bundles.BUNDLE}"
        where = "" if place and described in place.files else " (not here)"
        rows.append(
            [
                code(one.target) + where,
                accuracy_text(shown, facts.report.headline.numbers.top1),
                plain(cut(shown.proved_on)),
                f"{shown.model_mb:.1f}",
                "-" if shown.latency_ms is None else f"{shown.latency_ms:.1f}",
                plain(cut(shown.status)),
            ]
        )
        machines |= {cut(shown.measured_on)} if shown.measured_on else set()
    if not rows:
        return ""
    note = (
        f"\n\nMilliseconds for one picture, measured on {plain('; '.join(sorted(machines)))}."
        if machines
        else ""
    )
    return (
        table(
            [
                "target",
                f"top-1 on {facts.report.headline.split}",
                "proved on",
                "MB",
                "ms",
                "status",
            ],
            rows,
        )
        + note
    )


def accuracy_text(shown: Figures, top1: float) -> str:
    """What is known of an exported model's accuracy, in words."""
    if shown.lost_points is None:
        return f"{top1:.2%}, as trained: the same class for all {shown.compared} compared pictures"
    return (
        f"{top1:.2%} as trained; {-shown.lost_points:+.2f} points on {shown.compared} compared "
        "pictures"
    )


def data_summary(facts: FinishedRun) -> str:
    """How many pictures, how they were split, and what the scan found."""
    counts = facts.data["counts"]
    lines = [
        table(
            ["split", "pictures", "classes", "smallest class", "largest class"],
            [
                [
                    name,
                    f"{sum(row.values()):,}",
                    str(sum(map(bool, row.values()))),
                    f"{min(row.values()):,}",
                    f"{max(row.values()):,}",
                ]
                for name, row in counts.items()
                if row
            ],
        )
    ]
    lines.append(
        f"\nValidation: {plain(facts.data['val'])}. Digest of paths, labels and bytes: "
        f"`{facts.data['digest']}`. Every picture was decoded before training."
    )
    if findings := facts.data["findings"]:
        lines += ["\nFound in the data:", *(f"- {plain(finding)}" for finding in findings)]
    return "\n".join(lines)


def recipe_table(recipe: Mapping[str, Mapping[str, Any]]) -> str:
    """What was chosen or set by hand, with its reason; the rest folded away."""
    shown, folded = recipe_rows.parted(recipe)
    rows = [
        table(
            ["setting", "value", "why"],
            [[plain(name), code(str(row["value"])), plain(row["why"])] for name, row in of.items()],
        )
        for of in (shown, folded)
        if of
    ]
    return f"\n\n<details><summary>{recipe_rows.folded_title(folded)}</summary>\n\n".join(rows) + (
        "\n\n</details>" if len(rows) > 1 else ""
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped already."""
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)
    )
