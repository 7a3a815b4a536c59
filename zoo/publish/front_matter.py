"""The front matter of the model card: what the Hub reads of a run (licence, base, numbers)."""

import re
from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from zoo.bases.catalog import PERMISSIVE
from zoo.contract import bundle as bundles
from zoo.contract.bundle import Bundle
from zoo.contract.finished_run import FinishedRun
from zoo.publish.place import Place

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
