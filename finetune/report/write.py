"""`report.html`: the page a person reads. Made only from the run folder's other files, and the
pictures themselves.

`run_files.read_run` reads the files; each of the page's four questions is a module of functions
from them to HTML (quality.py, trust.py, mistakes.py, next_steps.py), the details are here;
`write_report` writes the page, and its figures as `figures/*.svg`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from finetune.evaluation import lr_curve
from finetune.figures import learning
from finetune.figures.drawing import Drawing
from finetune.recipe.field_docs import field_docs
from finetune.recipe.fields import Recipe
from finetune.report import (
    mistakes,
    next_steps,
    quality,
    ranking,
    run_files,
    trust,
    trust_unknown,
)
from finetune.report.history import epoch_means
from finetune.report.page import (
    bdi,
    breakable,
    details,
    document,
    duration,
    file_size,
    fill,
    join,
    panels,
    part,
    section,
    soft,
    table_html,
)
from finetune.report.run_files import Finished
from zoo.bases import licences
from zoo.contract import recipe_rows, rundir
from zoo.contract.report import BaseSummary
from zoo.files import checks
from zoo.host import console

QUESTIONS = {
    "good": "How good is it?",
    "trust": "Can I trust it?",
    "fails": "Where does it fail?",
    "next": "What next?",
    "details": "Details",
}
"""Section of the page -> its name in the list at the top."""


def write_report(folder: Path, data_root: Path) -> None:
    """Write `report.html` and `figures/` of a run from its other files; `data_root` is where the
    pictures lie.

    The page needs nothing else: pictures and figures are inside. Raises `UserError` if a file of
    the run is missing.
    """
    run = run_files.read_run(folder)
    with checks.of(
        f"a file of {folder} that its report is made of",
        "Copy the run folder again, or train it again.",
    ):
        # a copied run may have lost or changed a file, which is named instead of a traceback
        _write_report(run, data_root)


def _write_report(run: Finished, data_root: Path) -> None:
    folder = run.folder
    curves, matrix = curve_figures(run), mistakes.confusion_figure(run)
    diagram, scores = trust.reliability_figure(run), trust_unknown.scores_figure(run)
    ranked = ranking.ranking_figures(run)
    # a figure that could not be drawn is a notice on the page, and the run is finished all the same
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    for drawing in filter(None, (*curves, matrix, diagram, scores, *ranked)):
        if drawing.svg:
            rundir.write_text(folder / rundir.FIGURES / f"{drawing.name}.svg", drawing.svg)
        else:
            console.warn(
                f"the figure {drawing.name} could not be drawn and is left out of the report "
                f"({drawing.alt})"
            )
    advices = next_steps.advices(run)
    good = quality.quality_section(
        run, next_steps.summary(advices), ranking.ranking_part(run, ranked)
    )
    body = join(
        (
            header(run),
            good,
            trust.trust_section(run, diagram, scores),
            mistakes.mistakes_section(run, matrix, data_root),
            next_steps.next_section(run, advices),
            details_section(run, curves),
        )
    )
    rundir.write_text(folder / rundir.PAGE, document(f"{run.name}: {quality.top1_text(run)}", body))


def header(run: Finished) -> Markup:
    """Say what this page is about, and lead to its sections."""
    base = run.report.base
    origin = fill(
        "Trained from {} in {} on {}; {}",
        breakable(base.name),
        duration(run.report.seconds),
        run.report.device,
        licence_part(base),
    )
    links = [fill('<a href="#{}">{}</a>', key, name) for key, name in QUESTIONS.items()]
    return fill(
        '<header><h1>{}</h1><p class="soft">{}</p><nav>{}</nav></header>\n',
        bdi(run.name),
        origin,
        join(links),
    )


def licence_part(base: BaseSummary) -> Markup:
    """Name the base's licence, red if it forbids commercial use."""
    css = "bad" if licences.forbids_commercial_use(base.licence) else ""
    return fill('<span class="{}">licence {}</span>', css, base.licence or "not known")


def details_section(run: Finished, curves: Sequence[Drawing]) -> Markup:
    """Show how it was trained, and what lies in the folder."""
    return section(
        "details", "Details", curves_part(run, curves), recipe_part(run), about_part(run)
    )


def curve_figures(run: Finished) -> list[Drawing]:
    """Draw loss, top-1, error and learning rate against epochs; none if no epoch was trained."""
    ends = [step for step, _ in run.series.get("select/top1", []) if step]
    if not ends:
        return []

    def epoch_of(step: int) -> float:
        # between ends that are known, as epochs differ by a step in length
        return float(np.interp(step, [0, *ends], range(len(ends) + 1)))

    def by_epoch(name: str) -> list[tuple[float, float]]:
        return [(epoch_of(step), value) for step, value in run.series.get(name, [])]

    best, probe_top1, training = run.report.best, None, []
    # an earlier version did not record it
    if "train/top1" in run.series:
        training = list(enumerate(epoch_means(run.series, "train/top1"), 1))
    if run.report.probe:
        probe_top1 = run.report.probe.select_top1
    drawings = [
        learning.losses(by_epoch("train/loss"), by_epoch("select/loss")),
        learning.accuracy(
            by_epoch("select/top1"),
            probe=probe_top1,
            best=(epoch_of(best.step), best.top1),
            train=training,
        ),
    ]
    if wrong := error_curves(run):
        drawings.append(learning.errors(wrong))
    drawings.append(learning.learning_rate(by_epoch("train/lr")))
    if tested := lr_curve.recorded_curve(run.series):
        drawings.append(learning.lr_range(tested, run.value_of("lr")))
    return drawings


Curves = dict[str, dict[str, list[tuple[float, float]]]]
"""top-1 and top-5 -> training and select -> (epoch, share of wrong answers)."""


def error_curves(run: Finished) -> Curves:
    """Compute the errors of a run, top-5 only with more than five classes; empty if an earlier
    version did not record them."""
    if "train/top1" not in run.series:
        return {}
    curves = {"top-1": _errors(run, "top1")}
    # all of five classes are among the best five
    if len(run.classes) > 5:
        curves["top-5"] = _errors(run, "top5")
    return curves


def _errors(run: Finished, top: str) -> dict[str, list[tuple[float, float]]]:
    """Give for each split (epoch, share of wrong answers), from the shares of right ones."""
    # from epoch 1, as nothing was trained before it
    training = epoch_means(run.series, f"train/{top}")
    select = run.series[f"select/{top}"]
    return {
        "training": [(epoch, 1 - share) for epoch, share in enumerate(training, 1)],
        "select": [(epoch, 1 - share) for epoch, (_, share) in enumerate(select)],
    }


def curves_part(run: Finished, curves: Sequence[Drawing]) -> Markup:
    """Show how the training went."""
    if not curves and run.report.probe:
        text = "No epoch was trained: the result is the linear probe."
        return part("Training", fill("<p>{}</p>", text))
    if not curves:
        return part("Training", fill("<p>No epoch was trained.</p>"))
    # smoothed targets cannot be met exactly, so this loss never falls to 0
    smoothed = ""
    if smoothing := run.value_of("label_smoothing"):
        smoothed = f" and includes label smoothing of {smoothing:g}"
    note = soft(
        "Epoch 0 is the model before the first step. Training loss is measured on augmented "
        "pictures{}, so it can lie above the loss on select; training top-1 likewise below.",
        smoothed,
    )
    return part("Training", panels(curves), note)


def recipe_part(run: Finished) -> Markup:
    """Show what was chosen or set by hand, with its reason, and the rest folded away; what a field
    means is its tooltip."""
    docs = field_docs(Recipe)
    columns = {"Setting": "", "Value": "value", "Why": "why"}

    def listed(rows: recipe_rows.Rows) -> Markup:
        lines = [_recipe_row(field, row, docs) for field, row in rows.items()]
        return table_html(columns, lines, css="recipe")

    shown, folded = recipe_rows.parted(run.recipe)
    rest = Markup("")
    if folded:
        rest = details(recipe_rows.folded_title(folded), listed(folded))
    return part("Recipe", listed(shown), rest)


def _recipe_row(field: str, row: Mapping[str, Any], docs: Mapping[str, str]) -> list[object]:
    name = fill('<abbr title="{}">{}</abbr>', docs.get(field, ""), field.replace("_", "-"))
    value = row["value"]
    # by type first: 1 and 0 equal True and False
    if isinstance(value, bool | str):
        shown = {True: "yes", False: "no", "": "–"}.get(value, value)
    else:
        shown = f"{value:g}"
    return [name, shown, row["why"]]


CONTENTS = {
    rundir.CONFIG: "architecture, class names, preprocessing (timm's layout)",
    rundir.WEIGHTS: "the weights",
    rundir.DECISION: "how logits become an answer",
    rundir.BANK: "embeddings that tell foreign pictures",
    rundir.RECIPE: "the recipe",
    rundir.DATA: "classes, counts, findings",
    rundir.FILES: "path, class, split and sha256 of each picture",
    rundir.LEFT_OUT: "what was not used of the data folder, and why",
    rundir.LOCAL: "where the pictures lay",
    rundir.METRICS: "the curves",
    rundir.REPORT: "the numbers of this page",
    rundir.PREDICTIONS: "the answer to each picture of val, test and the foreign sets",
}
"""File of a run -> what it holds."""


def about_part(run: Finished) -> Markup:
    """Show where the numbers come from."""
    report, base = run.report, run.report.base
    origin = [base.name]
    if base.architecture:
        origin.append(base.architecture)
    if base.pretrained_on:
        origin.append(f"pretrained on {base.pretrained_on}")
    facts = {
        "Base": ", ".join(origin),
        "Weights": base.hub_id or "–",
        "Device": report.device,
        "Versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "Data digest": fill("<code>{}</code>", run.data["digest"]),
    }
    files = []
    for name, content in CONTENTS.items():
        path = run.folder / name
        # not every run has all of them: left_out.csv stands only where something was left out
        if path.is_file():
            size = file_size(path.stat().st_size)
            files.append([fill("<code>{}</code>", name), size, content])
    listed = [fill("<dt>{}</dt><dd>{}</dd>", *item) for item in facts.items()]
    return part(
        "About this run",
        fill('<dl class="facts">{}</dl>', join(listed)),
        fill("<h4>Files</h4>"),
        table_html({"File": "", "Size": "num", "Content": ""}, files, css="fit files"),
    )
