"""The end of a run: calibration and final numbers in fp32, and the files of the contract;
`FINISHED.json` last."""

import json
import platform
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import timm
import torch
from timm.models import save_for_hf

from finetune.augment.picture import normalise
from finetune.data import dataset
from finetune.data.loader import Source, epochs_done, evaluation_batches, steps_per_epoch
from finetune.evaluation import calibrate, predictions
from finetune.evaluation.calibrate import Calibrated, Subject
from finetune.evaluation.choices import Place, Wish
from finetune.evaluation.predictions import Answers
from finetune.machine import device as devices
from finetune.machine import disk_space, distributed
from finetune.plan import Plan
from finetune.run_folder import checkpoint, events
from zoo.contract import decision, run_pictures, rundir
from zoo.files import fields
from zoo.host import console, disk
from zoo.host.errors import UserError
from zoo.host.text import shell, shell_path
from zoo.network import class_maps
from zoo.network.build import load
from zoo.network.forward import forward
from zoo.picture.preprocess import Preprocessing
from zoo.publish import card

REWRITTEN = (
    rundir.DECISION,
    rundir.BANK,
    rundir.PREDICTIONS,
    rundir.REPORT,
    rundir.PAGE,
    rundir.FIGURES,
    rundir.CARD,
)
"""What `python -m finetune.decide` writes, decision.json first."""


def write_run(plan: Plan, best: checkpoint.Best, *, seconds: float) -> None:
    """Calibrate the best weights, write every file of the run folder, and finish it; the processes
    of a run share the passes over pictures, and rank 0 does the rest."""
    folder = plan.folder
    began = perf_counter()
    distributed.wait()  # the best weights are on disk once rank 0 is here
    checkpoint.load_best(folder, plan.model, best)
    subject = Subject(plan.model, plan.data, plan.source)
    calibrated = calibrate.calibrate(subject, Wish())
    if not distributed.first():
        return
    numbers = training_numbers(plan, best) | answer_numbers(subject, calibrated)
    numbers["seconds"] = round(seconds + perf_counter() - began, 1)
    write_model(plan)
    rundir.write_json(folder / rundir.RECIPE, plan.resolved.to_json())
    write_answers(folder, plan.data.root, calibrated, numbers)
    plan.claim.lock.release()
    shutil.rmtree(folder / rundir.RESUME, ignore_errors=True)
    say_result(folder, numbers, seconds=numbers["seconds"])


def decide_again(place: Place, wish: Wish) -> None:
    """`python -m finetune.decide`: calibrate a finished run anew and rewrite the files that follow
    from it.

    `FINISHED.json` is replaced last: killed before, the run is refused as changed until this is
    done again. Of the processes that torchrun started, rank 0 writes.
    """
    with distributed.joined():
        _decide_again(place, wish)


def _decide_again(place: Place, wish: Wish) -> None:
    folder = place.run
    began = perf_counter()
    subject = finished_subject(place)
    calibrated = calibrate.calibrate(subject, wish)
    if not distributed.first():
        return
    before = rundir.read_json(folder / rundir.REPORT, kind=dict)
    numbers = before | answer_numbers(subject, calibrated)
    with disk_space.room_needed(folder):
        write_answers(folder, subject.data.root, calibrated, numbers)
    say_result(folder, numbers, seconds=perf_counter() - began)
    if bundles := [name for name in rundir.ADDED_LATER if (folder / name).exists()]:
        console.warn(
            f"{folder / bundles[0]} was made with the former decision: run python -m export again."
        )


def finished_subject(place: Place) -> Subject:
    """Model and pictures of a finished run; `UserError` if any of its files has changed, or for a
    published copy.

    Where decision.json has, an earlier `decide` was killed: then the files that it writes may have
    changed as well.
    """
    files = rundir.open_finished(place.run)["files"]
    made = place.run / rundir.DECISION
    stopped = not made.is_file() or rundir.digest(made) != files.get(rundir.DECISION)
    fixed = [name for name in files if name.split("/")[0] not in REWRITTEN]
    rundir.open_finished(place.run, verify=fixed if stopped else True)
    if not (place.run / rundir.FILES).is_file():
        # other pictures would do harm unseen: who does not know which were trained on may fit on
        # these, and the card would count what the network has learned by heart
        raise UserError(
            f"{place.run} has no {rundir.FILES}: it is a published copy, and which pictures it was "
            "not trained on stayed at home. Decide where it was trained, and push it again; or "
            "make a run of your own pictures from it: python -m finetune --data FOLDER --base "
            f"{shell_path(place.run)} --probe-only"
        )
    device = devices.choose(place.device)
    model = load(place.run).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with fields.of(place.run / rundir.RECIPE):
        torch.set_num_threads(
            fields.whole(rundir.read_json(place.run / rundir.RECIPE)["threads"]["value"], 1, 1024)
        )
    with fields.of(place.run / rundir.CONFIG):
        pre = Preprocessing.from_config(
            rundir.read_json(place.run / rundir.CONFIG)["pretrained_cfg"]
        )
    root = place.data or run_pictures.data_root(place.run)
    workers = devices.decoders(-1, device)
    return Subject(
        model,
        dataset.of_run(place.run, root),
        Source(root, pre, workers, pin=device.type == "cuda"),
    )


def write_answers(
    folder: Path, data_root: Path, calibrated: Calibrated, numbers: dict[str, Any]
) -> None:
    """The files that follow from the calibration, and the manifest."""
    calibrate.write(folder, calibrated)
    rundir.write_json(folder / rundir.REPORT, numbers)
    write_report(folder, data_root)
    rundir.write_text(folder / rundir.CARD, card.text(folder))
    rundir.finish(folder)


def write_report(folder: Path, data_root: Path) -> None:
    """`finetune.report.write.write_report`; its figures load matplotlib, which a run needs only at
    its end."""
    from finetune.report import write

    write.write_report(folder, data_root)


def answer_numbers(subject: Subject, calibrated: Calibrated) -> dict[str, Any]:
    """The part of report.json that follows from the answers."""
    table, unknown = calibrated.answers, calibrated.decision.unknown
    assert unknown is not None
    return predictions.report(table, unknown.threshold) | {
        "heatmaps": heatmaps(subject, table),
        "curves": calibrated.curves,
    }


@torch.inference_mode()
def heatmaps(subject: Subject, table: Answers) -> dict[str, list[list[float]]]:
    """Path -> heat map of the answer, for the most wrong pictures; empty where the architecture has
    no such map."""
    head = table.of(predictions.headline(table)[0])
    wanted = head.where(predictions.most_wrong(head))
    pictures = {p.path: p for p in subject.data.of("val") + subject.data.of("test")}
    if not len(wanted) or not class_maps.has_map(subject.model, subject.source.pre.size):
        return {}
    device, start = next(subject.model.parameters()).device, 0
    found: dict[str, list[list[float]]] = {}
    for images, label in evaluation_batches(
        [pictures[path] for path in wanted.path], subject.source
    ):
        rows = wanted.where(np.arange(start, start + len(label)))
        seen = forward(subject.model, normalise(images.to(device), subject.source.pre))
        maps = class_maps.heatmap(
            subject.model, seen.feature_map, torch.from_numpy(rows.predicted).to(device)
        )
        found |= {
            path: [[round(x, 2) for x in line] for line in one]
            for path, one in zip(rows.path.tolist(), maps.tolist(), strict=True)
        }
        start += len(label)
    return found


def training_numbers(plan: Plan, best: checkpoint.Best) -> dict[str, Any]:
    """The part of report.json that follows from the training."""
    recipe = plan.resolved.recipe
    history = events.read(plan.folder)
    per_epoch = steps_per_epoch(len(plan.data.of("train")), recipe.batch_size)
    return {
        "probe": {
            "select_top1": history["select/top1"][0][1],
            "kept": best.step == 0 and not recipe.probe_only,
        }
        if recipe.probe == "on"
        else None,
        "best": {
            "epoch": epochs_done(best.step, per_epoch),
            "step": best.step,
            **best.scores.to_json(),
        },
        "base": {
            "name": plan.base.folder.name if plan.base.folder else plan.base.alias,
            "architecture": plan.base.architecture,
            "hub_id": plan.base.hub_id,
            "licence": plan.base.licence,
            "pretrained_on": plan.base.pretrained_on,
        },
        "device": str(next(plan.model.parameters()).device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
    }


def write_model(plan: Plan) -> None:
    """config.json and model.safetensors in timm's layout: `timm.create_model("local-dir:RUN",
    pretrained=True)`."""
    model = plan.model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_for_hf(
        model,
        str(plan.folder),
        {"label_names": list(plan.data.classes)},
        safe_serialization=True,
        data_config=plan.source.pre.to_config(),
    )
    disk.share_as_usual(plan.folder / rundir.WEIGHTS)
    config = rundir.read_json(plan.folder / rundir.CONFIG)
    # timm takes the number of classes from the top level; a second copy breaks transformers'
    # TimmWrapper
    config.get("model_args", {}).pop("num_classes", None)
    # the Hub's card may know what timm does not
    config["pretrained_cfg"]["license"] = plan.base.licence
    rundir.write_json(plan.folder / rundir.CONFIG, config)


def say_result(folder: Path, numbers: dict[str, Any], *, seconds: float) -> None:
    """The headline, and what to type next."""
    head, probe, made = numbers["headline"], numbers["probe"], decision.read(folder)
    low, high = head["top1_interval"]
    console.say(
        f"{head['split']} top-1 {head['top1']:.2%} (95 % interval {low:.1%} to {high:.1%}, "
        f"{head['pictures']} pictures, {head['note']}); {seconds:.0f} s",
        style="bold green",
    )
    console.say(
        f"views {made.views}, temperature {made.temperature:.2f}: calibration error "
        f"{head['ece']:.1%} (before {head['plain']['ece']:.1%}); sets of "
        f"{head['mean_set_size']:.2f} classes hold the true one in {head['covered']:.1%}; unknown: "
        + ", ".join(
            f"AUROC {row['auroc']:.2f} on {name}"
            for name, row in numbers["unknown"]["foreign"].items()
        )
    )
    if probe and probe["kept"]:
        console.warn(
            "no epoch was better on select than the linear probe, so the probe is the result: try "
            "more --epochs or another --lr."
        )
    say_advice(folder)
    next_commands(folder)


def say_advice(folder: Path) -> None:
    """The first advice of the report that a command can follow, with that command."""
    from finetune.report import next_steps, run_files

    # a published copy, which does not know where the pictures lie
    if not (folder / rundir.LOCAL).is_file():
        return
    run = run_files.read(folder)
    for advice in next_steps.advices(run):
        if advice.flags:
            console.say(
                f"advice: {advice.finding} {advice.do}\n  {next_steps.own_command(run, advice)}"
            )
            return


def next_commands(folder: Path) -> None:
    """What a user does with a finished run."""
    quoted = shell_path(folder)
    opened = (
        "import timm; "
        f"timm.create_model({json.dumps(f'local-dir:{folder}', ensure_ascii=False)}, "
        "pretrained=True)"
    )
    console.say(f"""next:
  open {shell_path(folder / rundir.PAGE)} in a browser
  python -m export {quoted}
  python -m finetune --data MORE_PICTURES --base {quoted}
  python -c {shell(opened)}""")
