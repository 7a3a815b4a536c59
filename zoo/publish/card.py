"""The model card of a run: `README.md` of the folder, which is a Hub repository.

    text(run)          the card of a run folder, as `finetune` writes it
    text(run, place)   the card of its published copy

`model_cards/template.md` holds the prose; the numbers come from report.json, data.json,
recipe.json, decision.json and config.json of the run, and from the bundles. Whatever a user chose
as a name is escaped (`code`, `plain`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from zoo.bases.catalog import OWN_ARCHITECTURES, PERMISSIVE, forbids_commercial_use
from zoo.contract import bundle as bundles
from zoo.contract import recipe_rows, rundir
from zoo.contract.bundle import Bundle
from zoo.contract.finished_run import FinishedRun
from zoo.files import fields
from zoo.host.errors import UserError
from zoo.host.text import code, plain
from zoo.hub.listing import REPOSITORY

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "template.md"
MOST_NAMED = 50
"""Classes at most in the list and in the table."""
FEW_TRAINED, FEW_EVALUATED = 20, 10
"""Fewer training or evaluated pictures of a class than this are told under limits."""
HUB_LICENCES = PERMISSIVE | {
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "apple-amlr",
    "apple-ascl",
    "gemma",
}
"""Licences that the Hub knows by this identifier (hf.co/docs/hub/repositories-licenses)."""
FITS = {
    "squash": "the whole picture squeezed into a square",
    "center": "the middle square of the picture",
    "border": "the whole picture with borders",
}


@dataclass(frozen=True)
class Place:
    """Where a published copy will lie."""

    repo: str
    """`user/name`."""
    files: Mapping[str, Path]
    """Name in it -> file that will be there; read instead of the run's own, so that only what is
    published is told."""
    cut: Callable[[str], str] = str
    """Takes out of a bundle's words what must not leave this machine."""

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repo):  # it stands in commands of the card
            raise UserError(f"{self.repo}: expected user/name of a repository on the Hub.")


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


def metadata(
    facts: FinishedRun, place: Place | None, opened: Sequence[Bundle] = ()
) -> ModelCardData:
    """The front matter. Values of metrics are fractions."""
    base, name = facts.report.base, facts.name
    head = facts.report.headline
    repository = base.hub_id.partition("@")[0] if base.hub_id else None
    values = {"accuracy": head.numbers.top1, "f1": head.macro_f1}
    index = [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=name,
            dataset_split=head.split,
            metric_type=kind,
            metric_value=round(value, 4),
        )
        for kind, value in values.items()
    ]
    widget = (
        [
            {
                "src": f"https://huggingface.co/{place.repo}/resolve/main/{path}",
                "example_title": title,
            }
            for path, title in example_pictures(place, opened)
        ]
        if place
        else []
    )
    return ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        **licence(base.licence, repository),
        base_model=repository,
        base_model_relation="finetune" if repository else None,
        metrics=list(values),
        tags=["image-classification", "timm", "transformers", *(["onnx"] if opened else [])],
        model_name=place.repo.partition("/")[2] if place else name,
        eval_results=index,
        widget=widget or None,
    )


def licence(identifier: str | None, repository: str | None) -> dict[str, Any]:
    """`license` of the front matter; one that the Hub does not know goes by name and link."""
    if identifier is None or identifier in ("unknown", "other"):
        return {"license": "unknown" if repository is None else "other"} | (
            {
                "license_name": "see-base-model",
                "license_link": f"https://huggingface.co/{repository}",
            }
            if repository
            else {}
        )
    if identifier.lower() in HUB_LICENCES:
        return {"license": identifier.lower()}
    link = {"license_link": f"https://huggingface.co/{repository}"} if repository else {}
    return {
        "license": "other",
        "license_name": re.sub(r"[^a-z0-9.-]+", "-", identifier.lower()),
        **link,
    }


def example_pictures(place: Place, opened: Sequence[Bundle]) -> list[tuple[str, str]]:
    """(path in the repository, expected class) of the pictures that are published."""
    found = []
    for one in opened:
        there = f"{bundles.BUNDLES}/{one.folder.name}/{bundles.EXAMPLES}/"
        if there + bundles.EXPECTED in place.files:
            found += [
                (there + name, label)
                for name, (label, _) in bundles.expected(one).items()
                if there + name in place.files
            ]
    return list({path.rpartition("/")[2]: (path, title) for path, title in found}.values())


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
        shown = bundles.figures(one)
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


def accuracy_text(shown: bundles.Figures, top1: float) -> str:
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


def limits(facts: FinishedRun) -> str:
    """What not to expect."""
    trained = facts.data["counts"].get("train", {})
    few = [name for name in facts.data["classes"] if 0 < trained.get(name, 0) < FEW_TRAINED]
    unseen = [row.name for row in facts.report.per_class if row.pictures < FEW_EVALUATED]
    lines = [
        "It knows its classes only, and pictures like those it was trained on.",
        *unknown_limits(facts),
    ]
    lines += [plain(warning) for warning in facts.decision["fitted"]["warnings"]]
    for names, what in (
        (few, f"fewer than {FEW_TRAINED} training pictures"),
        (unseen, f"fewer than {FEW_EVALUATED} evaluated pictures, so their numbers mean little"),
    ):
        if names:
            lines.append(
                f"{len(names)} of {len(facts.data['classes'])} classes have {what}: "
                + ", ".join(code(name) for name in names[:MOST_NAMED])
                + "."
            )
    lines.append(
        "The pictures of the base's pretraining have terms of their own, which this licence does "
        "not cover."
    )
    return "\n".join(f"- {line}" for line in lines)


def unknown_limits(facts: FinishedRun) -> list[str]:
    """How well pictures of none of the classes are told."""
    unknown = facts.report.unknown
    if not facts.decision["unknown"] or not unknown:
        return ["There is no `unknown` answer: every picture gets a class."]
    foreign = "; ".join(
        f"{plain(name)} {row.auroc:.2f} ({row.rejected:.0%} called unknown)"
        for name, row in unknown.foreign.items()
    )
    return [
        "The deployed model calls a picture `unknown` when it is far from the training pictures; "
        f"it does so for {unknown.rejected:.1%} of {facts.report.headline.split}. timm and "
        "transformers always give a class.",
        *([f"How well foreign pictures are told apart (AUROC): {foreign}."] if foreign else []),
    ]


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
