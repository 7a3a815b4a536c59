"""The model card of a run: `README.md` of the folder, which is a Hub repository."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from zoo import rundir
from zoo.catalog import forbids_commercial_use


def text(folder: Path) -> str:
    """Front matter and Markdown, from report.json, recipe.json, data.json and config.json of the run."""
    report, recipe, data, config = (rundir.read_json(folder / name)
                                    for name in (rundir.REPORT, rundir.RECIPE, rundir.DATA, rundir.CONFIG))
    base, head = report["base"], report["headline"]
    front = ModelCardData(library_name="timm", pipeline_tag="image-classification", license=base["licence"],
                          base_model=base["hub_id"] and base["hub_id"].partition("@")[0],
                          tags=["image-classification", "timm"])
    low, high = head["top1_interval"]
    counts = {split: sum(by_class.values()) for split, by_class in data["counts"].items()}
    cfg = config["pretrained_cfg"]
    warning = ("\n**The licence of the base forbids commercial use.**\n"
               if forbids_commercial_use(base["licence"]) else "")
    return f"""---
{front.to_yaml()}
---
# {config["architecture"]}, fine-tuned
{warning}
Image classifier with {len(data["classes"])} classes: {", ".join(code(name) for name in data["classes"][:50])}\
{", and more" if len(data["classes"]) > 50 else ""}.

| {head["split"]} ({head["pictures"]} pictures: {head["note"]}) | |
| --- | --- |
| top-1 | {head["top1"]:.2%} (95 % interval {low:.1%} to {high:.1%}) |
| macro F1 | {head["macro_f1"]:.3f} |

Base: {code(base["name"])} ({base["pretrained_on"] or "pretraining data unknown"}; licence \
{base["licence"] or "unknown"}).
Pictures: {", ".join(f"{n:,} {split}" for split, n in counts.items())}.
Input: {cfg["input_size"][-1]} px, `crop_mode` {cfg["crop_mode"]}, mean {cfg["mean"]}, std {cfg["std"]}.

```python
import timm
model = timm.create_model("local-dir:PATH_OF_THIS_FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```

## Recipe

| setting | value | why |
| --- | --- | --- |
{table(recipe)}
"""


def table(recipe: dict[str, dict[str, Any]]) -> str:
    """Rows of the recipe as Markdown."""
    return "\n".join(f"| {name} | {code(str(row['value']))} | {row['why'].replace('|', ' ')} |"
                     for name, row in recipe.items())


def code(name: str) -> str:
    """A name as inline code that no backtick, pipe or line break in it can end."""
    cleaned = " ".join(name.split()).replace("`", "'").replace("|", "\\|")
    return f"`{cleaned}`" if cleaned else "(empty)"
