"""The end of a run: final numbers in fp32, and the files of the contract; `FINISHED.json` last."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf

from finetune import evaluate, events, progress, report, resume
from finetune.dataset import Picture
from finetune.loader import evaluation_batches, steps_per_epoch
from finetune.plan import Plan
from zoo import card, rundir


def write_run(plan: Plan, best: resume.Best, *, seconds: float) -> None:
    """Evaluate the best weights, write every file of the run folder, and finish it."""
    folder, classes = plan.folder, plan.data.classes
    resume.load_best(folder, plan.model, best)
    parts = {split: (pictures, split_logits(plan, split, pictures)) for split in ("val", "test")
             if (pictures := plan.data.of(split))}
    evaluate.write_predictions(folder / rundir.PREDICTIONS, list(parts.values()), classes)
    numbers = final_numbers(plan, best, parts) | {"seconds": round(seconds, 1)}
    write_model(plan)
    rundir.write_json(folder / rundir.RECIPE, plan.resolved.to_json())
    rundir.write_json(folder / rundir.DECISION, rundir.TRIVIAL_DECISION)
    rundir.write_json(folder / rundir.REPORT, numbers)
    report.write(folder, plan.data.root)
    rundir.write_text(folder / rundir.CARD, card.text(folder))
    rundir.finish(folder)
    plan.claim.lock.release()
    shutil.rmtree(folder / rundir.RESUME, ignore_errors=True)
    say_result(folder, numbers)


def split_logits(plan: Plan, split: str, pictures: Sequence[Picture]) -> torch.Tensor:
    """float32 [N, classes] of one split, in its order."""
    batches = evaluation_batches(pictures, plan.source)
    return evaluate.logits(plan.model, batches, plan.source.pre, total=len(pictures), title=f"evaluating {split}")[0]


def final_numbers(plan: Plan, best: resume.Best, parts: Mapping[str, evaluate.Part]) -> dict[str, Any]:
    """The content of report.json."""
    data, recipe = plan.data, plan.resolved.recipe
    halved = data.halved(data.of("val"))
    splits = dict(parts)
    for half in ("select", "calibrate") if halved else ():
        wanted = {p.path for p in data.of(half)}
        rows = [i for i, p in enumerate(parts["val"][0]) if p.path in wanted]
        splits[half] = ([parts["val"][0][i] for i in rows], parts["val"][1][rows])
    headline = "test" if "test" in parts else "calibrate" if halved else "val"
    note = {"test": "read once, at the end", "calibrate": "half of val that took no part in choosing the epoch",
            "val": "the epoch was chosen on these pictures, so the number is optimistic: add a test folder"}[headline]
    pictures, logits_NC = splits[headline]
    predicted = logits_NC.argmax(1).tolist()
    per_class = evaluate.per_class(predicted, [p.label for p in pictures], data.classes)
    f1 = [row["f1"] for row in per_class if row["f1"] is not None]
    history = events.read(plan.folder)
    per_epoch = steps_per_epoch(len(data.of("train")), recipe.batch_size)
    return {
        "headline": {"split": headline, "note": note, "macro_f1": sum(f1) / len(f1),
                     **split_numbers(pictures, logits_NC)},
        "splits": {name: split_numbers(*part) for name, part in splits.items()},
        "probe": {"select_top1": history["select/top1"][0][1], "kept": best.step == 0 and not recipe.probe_only}
        if recipe.probe == "on" else None,
        "best": {"epoch": best.step // per_epoch, "step": best.step, **best.scores.to_json()},
        "per_class": per_class,
        "base": {"name": plan.base.folder.name if plan.base.folder else plan.base.alias,
                 "architecture": plan.base.architecture, "hub_id": plan.base.hub_id,
                 "licence": plan.base.licence, "pretrained_on": plan.base.pretrained_on},
        "device": str(next(plan.model.parameters()).device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__},
    }


def split_numbers(pictures: Sequence[Picture], logits_NC: torch.Tensor) -> dict[str, Any]:
    """Scores of one split, with the 95 % interval of top-1."""
    scores = evaluate.score(logits_NC, torch.tensor([p.label for p in pictures]))
    right = round(scores.top1 * scores.pictures)
    return scores.to_json() | {"top1_interval": evaluate.wilson_interval(right, scores.pictures)}


def write_model(plan: Plan) -> None:
    """config.json and model.safetensors in timm's layout: `timm.create_model("local-dir:RUN", pretrained=True)`."""
    model = plan.model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_for_hf(model, str(plan.folder), {"label_names": list(plan.data.classes)}, safe_serialization=True,
                data_config=plan.source.pre.to_config())
    config = rundir.read_json(plan.folder / rundir.CONFIG)
    # timm takes the number of classes from the top level; a second copy breaks transformers' TimmWrapper
    config.get("model_args", {}).pop("num_classes", None)
    config["pretrained_cfg"]["license"] = plan.base.licence  # the Hub's card may know what timm does not
    rundir.write_json(plan.folder / rundir.CONFIG, config)


def say_result(folder: Path, numbers: dict[str, Any]) -> None:
    """The headline, and what to type next."""
    head, probe = numbers["headline"], numbers["probe"]
    low, high = head["top1_interval"]
    progress.say(f"{head['split']} top-1 {head['top1']:.2%} (95 % interval {low:.1%} to {high:.1%}, {head['pictures']} "
                 f"pictures, {head['note']}); {numbers['seconds']:.0f} s", style="bold green")
    if probe and probe["kept"]:
        progress.warn("no epoch was better on select than the linear probe, so the probe is the result: try more "
                      "--epochs or another --lr.")
    next_commands(folder)


def next_commands(folder: Path) -> None:
    """What a user does with a finished run."""
    progress.say(f"""next:
  open {folder / rundir.PAGE} in a browser
  python -m finetune --data MORE_PICTURES --base {folder}
  python -c 'import timm; timm.create_model("local-dir:{folder}", pretrained=True)'""")
