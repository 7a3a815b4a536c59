"""The model card of a run: `README.md` of the folder, which is a Hub repository.

    text(run)                the card of a run folder, as `finetune` writes it
    text(run, destination)   the card of its published copy

`model_cards/template.md` holds the prose; the numbers come from report.json, data.json,
recipe.json, decision.json and config.json of the run, and from the bundles. Whatever a user chose
as a name is escaped (`code`, `plain`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from zoo.bases.licences import forbids_commercial_use
from zoo.bases.rows import OWN_ARCHITECTURES
from zoo.contract import bundle as bundles
from zoo.contract import rundir
from zoo.contract.bundle import Bundle
from zoo.contract.finished_run import FinishedRun
from zoo.files import checks
from zoo.host.text import code, plain
from zoo.publish import card_sections as sections
from zoo.publish.destination import Destination
from zoo.publish.front_matter import metadata
from zoo.publish.limits import MOST_NAMED, limits

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "template.md"
FITS = {
    "squash": "the whole picture squeezed into a square",
    "center": "the middle square of the picture",
    "border": "the whole picture with borders",
}


def text(run: Path, destination: Destination | None = None) -> str:
    """Front matter and Markdown of a run's card, or of its published copy."""
    if destination:
        facts, opened = FinishedRun(run, destination.files), list(bundles.of_run(run))
    else:
        facts, opened = FinishedRun(run, {}), []
    with checks.of(
        f"a file of {run} that its card is made of", "Copy the run folder again, or train it again."
    ):
        return _text(facts, opened, destination)


def _text(facts: FinishedRun, opened: Sequence[Bundle], destination: Destination | None) -> str:
    calibrated = (facts.folder / rundir.FIGURES / "reliability.svg").is_file()
    parts = {
        **about(facts),
        **usage(facts, destination),
        "results": sections.results(facts),
        "results_note": sections.results_note(facts),
        "per_class": sections.per_class(facts),
        "calibration": sections.calibration(facts) if calibrated else "",
        "exports": sections.exports(facts, opened, destination),
        "data": sections.data_summary(facts),
        "limits": limits(facts),
        "recipe": sections.recipe_table(facts.recipe),
    }
    # the Hub's own class, so that it reads the front matter as it was meant
    card = ModelCard.from_template(
        metadata(facts, destination, opened), template_str=TEMPLATE.read_text("utf-8"), **parts
    )
    return str(card).rstrip() + "\n"


def about(facts: FinishedRun) -> dict[str, Any]:
    """The values of the template that say what the model is."""
    base, head, names = facts.report.base, facts.report.headline, facts.data["classes"]
    listed = ", ".join(map(code, names[:MOST_NAMED]))
    if len(names) > MOST_NAMED:
        listed += f", and {len(names) - MOST_NAMED} more"
    low, high = head.numbers.top1_interval
    config = facts.config["pretrained_cfg"]
    return {
        "title": plain(facts.name),
        "licence": plain(base.licence or "unknown"),
        "no_commerce": forbids_commercial_use(base.licence),
        "class_count": len(names),
        "classes": listed,
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


def usage(facts: FinishedRun, destination: Destination | None) -> dict[str, Any]:
    """The values of the section that shows how to use the model, here or as published."""
    if destination:
        files, repo, timm_name = destination.files, destination.repo, f"hf-hub:{destination.repo}"
    else:
        files, repo = {}, "PATH_OF_THIS_FOLDER"
        timm_name = f"local-dir:{repo}"
    return {
        "repo": repo,
        "timm_name": timm_name,
        "deployed": "bundles/onnx/model.onnx" in files,
        "plain": "onnx/model.onnx" in files,
        "repo_files": destination is not None,
        "preprocessor": _preprocessor_note(facts, files),
        "processor_note": " (it needs timm too)",
    }


def _preprocessor_note(facts: FinishedRun, files: Mapping[str, Path]) -> str:
    if "preprocessor_config.json" in files:
        return (
            "`preprocessor_config.json` is timm's own evaluation transform in transformers; "
            "transformers.js resizes with another filter, so that its probabilities differ a "
            "little."
        )
    crop_mode = facts.config["pretrained_cfg"]["crop_mode"]
    return (
        f"There is no `preprocessor_config.json`: crop_mode {code(crop_mode)} "
        "has no equivalent in other libraries; transformers in Python reads timm's "
        "`config.json` instead."
    )
