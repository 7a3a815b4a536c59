"""The front matter of the model card: what the Hub reads of a run (licence, base, numbers)."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from zoo.bases.licences import PERMISSIVE
from zoo.contract import bundle as bundles
from zoo.contract.bundle import Bundle
from zoo.contract.examples import expected
from zoo.contract.finished_run import FinishedRun
from zoo.publish.destination import Destination

HUB_LICENCES = PERMISSIVE | {
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "apple-amlr",
    "apple-ascl",
    "gemma",
}
"""Licences that the Hub knows by this identifier (hf.co/docs/hub/repositories-licenses)."""


def metadata(
    facts: FinishedRun, destination: Destination | None, opened: Sequence[Bundle] = ()
) -> ModelCardData:
    """The front matter. Values of metrics are fractions."""
    base, name = facts.report.base, facts.name
    head = facts.report.headline
    # the Hub takes no revision as a base
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
    tags = ["image-classification", "timm", "transformers"]
    if opened:
        tags.append("onnx")
    model_name, widget = name, None
    if destination:
        model_name = destination.repo.partition("/")[2]
        widget = list(_widget(destination, opened)) or None
    return ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        **licence_fields(base.licence, repository),
        base_model=repository,
        base_model_relation="finetune" if repository else None,
        metrics=list(values),
        tags=tags,
        model_name=model_name,
        eval_results=index,
        widget=widget,
    )


def licence_fields(identifier: str | None, repository: str | None) -> dict[str, Any]:
    """`license` of the front matter; one that the Hub does not know goes by name and link."""
    link = {}
    if repository:
        link["license_link"] = f"https://huggingface.co/{repository}"
    if identifier is None or identifier in ("unknown", "other"):
        if not repository:
            return {"license": "unknown"}
        return {"license": "other", "license_name": "see-base-model", **link}
    # any other identifier is refused by the Hub
    if identifier.lower() in HUB_LICENCES:
        return {"license": identifier.lower()}
    name = re.sub(r"[^a-z0-9.-]+", "-", identifier.lower())
    return {"license": "other", "license_name": name, **link}


def _widget(destination: Destination, opened: Sequence[Bundle]) -> Iterator[dict[str, str]]:
    """The pictures that the Hub's page offers to try."""
    for path, title in example_pictures(destination, opened):
        # always the public Hub: the widget runs there
        address = f"https://huggingface.co/{destination.repo}/resolve/main/{path}"
        yield {"src": address, "example_title": title}


def example_pictures(destination: Destination, opened: Sequence[Bundle]) -> list[tuple[str, str]]:
    """(path in the repository, expected class) of the pictures that are published."""
    by_name = {}  # the bundles have the same examples: each is shown once
    for bundle in opened:
        there = f"{bundles.BUNDLES}/{bundle.place.name}/{bundles.EXAMPLES}/"
        if there + bundles.EXPECTED not in destination.files:
            continue
        for name, (label, _) in expected(bundle).items():
            path = there + name
            if path in destination.files:
                by_name[path.rpartition("/")[2]] = (path, label)
    return list(by_name.values())
