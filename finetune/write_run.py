"""The end of a run: calibration and final numbers in fp32, and the files of the contract;
`FINISHED.json` last."""

import dataclasses
import json
import shutil
from pathlib import Path
from time import perf_counter

import torch
from filelock import FileLock
from timm.models import save_for_hf

from finetune.data import dataset
from finetune.data.loader import PictureSource
from finetune.evaluation import calibrate
from finetune.evaluation.calibrate import Calibrated
from finetune.evaluation.choices import Place, Wish
from finetune.evaluation.subject import Subject
from finetune.final_numbers import answer_numbers, training_numbers
from finetune.machine import device as devices
from finetune.machine import disk_space, distributed
from finetune.plan import Plan
from finetune.prediction.finished_network import finished_network
from finetune.run_folder import checkpoint
from zoo.bases.rows import OWN_ARCHITECTURES
from zoo.contract import decision, report, run_pictures, rundir
from zoo.contract.finished_run import FinishedRun
from zoo.contract.report import Report
from zoo.files import checks
from zoo.host import console, disk
from zoo.host.errors import UserError
from zoo.host.text import shell, shell_path
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


def write_run(plan: Plan, best: checkpoint.Best, *, lock: FileLock, seconds: float) -> None:
    """Calibrate the best weights, write every file of the run folder, and finish it; the processes
    of a run share the passes over pictures, and rank 0 does the rest.

    `lock` is the folder's lock; it is released when everything is written, and its file removed
    with the checkpoints. `seconds`: how long the run took so far.
    """
    folder = plan.folder
    began = perf_counter()
    # the best weights are on disk once rank 0 is here
    distributed.wait()
    checkpoint.load_best(folder, plan.model, best)
    subject = Subject(plan.model, plan.data, plan.source)
    calibrated = calibrate.calibrate(subject, Wish())
    # the other processes have no part in what follows
    if not distributed.first():
        return
    trained, answers = training_numbers(plan, best), answer_numbers(subject, calibrated)
    numbers = trained.report(answers, seconds=round(seconds + perf_counter() - began, 1))
    write_model(plan)
    rundir.write_json(folder / rundir.RECIPE, plan.resolved.to_json())
    write_answers(folder, plan.data.root, calibrated, numbers)
    # the file of the lock is removed with the checkpoints
    lock.release()
    shutil.rmtree(folder / rundir.RESUME, ignore_errors=True)
    say_result(folder, numbers, seconds=numbers.seconds)


def decide_again(place: Place, wish: Wish) -> None:
    """`python -m finetune.decide`: calibrate a finished run anew and rewrite the files that follow
    from it.

    `FINISHED.json` is replaced last. If this is killed before that, every reader refuses the run as
    changed until `decide` is called again. Of the processes that torchrun started, rank 0 writes.
    """
    with distributed.joined_processes():
        _decide_again(place, wish)


def _decide_again(place: Place, wish: Wish) -> None:
    folder = place.run
    began = perf_counter()
    subject = finished_subject(place)
    calibrated = calibrate.calibrate(subject, wish)
    if not distributed.first():
        return
    before = FinishedRun(folder).report
    numbers = dataclasses.replace(before, **answer_numbers(subject, calibrated)._asdict())
    with disk_space.room_needed(folder):
        write_answers(folder, subject.data.root, calibrated, numbers)
    say_result(folder, numbers, seconds=perf_counter() - began)
    if bundles := [name for name in rundir.ADDED_LATER if (folder / name).exists()]:
        console.warn(
            f"{folder / bundles[0]} was made with the former decision: run python -m export again."
        )


def finished_subject(place: Place) -> Subject:
    """Return model and pictures of a finished run; `UserError` if any of its files has changed, or
    for a published copy.

    If decision.json has changed, an earlier `decide` was killed. Then the other files that `decide`
    writes may differ from the manifest too.
    """
    files = rundir.open_finished(place.run)["files"]
    decided = place.run / rundir.DECISION
    stopped = not decided.is_file() or rundir.digest(decided) != files.get(rundir.DECISION)
    fixed = [name for name in files if name.split("/")[0] not in REWRITTEN]
    rundir.open_finished(place.run, verify=fixed if stopped else True)
    if not (place.run / rundir.FILES).is_file():
        # without the list nobody knows which pictures were trained on: fitted on those, a decision
        # would look too good, and the card would count what the network has learned by heart
        raise UserError(
            f"{place.run} has no {rundir.FILES}: it is a published copy, without the list of "
            "the pictures that it was trained on. Decide where it was trained, and push it again; "
            "or make a run of your own pictures from it: python -m finetune --data FOLDER --base "
            f"{shell_path(place.run)} --probe-only"
        )
    model, device = finished_network(place.run, place.device)
    run = FinishedRun(place.run)
    with checks.of(place.run / rundir.RECIPE):
        torch.set_num_threads(checks.whole(run.recipe["threads"]["value"], 1, 1024))
    root = place.data or run_pictures.data_root(place.run)
    workers = devices.decoders(-1, device)
    return Subject(
        model,
        dataset.of_run(place.run, root),
        PictureSource(root, run.pre, workers, pin=device.type == "cuda"),
    )


def write_answers(folder: Path, data_root: Path, calibrated: Calibrated, numbers: Report) -> None:
    """The files that follow from the calibration, and the manifest."""
    calibrate.write_calibration(folder, calibrated)
    report.write_report_json(folder, numbers)
    # the page and the card are made from the files that are written by now
    write_report(folder, data_root)
    rundir.write_text(folder / rundir.CARD, card.text(folder))
    rundir.finish(folder)


def write_report(folder: Path, data_root: Path) -> None:
    """`finetune.report.write.write_report`; its figures load matplotlib, which a run needs only at
    its end."""
    from finetune.report import write

    write.write_report(folder, data_root)


def write_model(plan: Plan) -> None:
    """config.json and model.safetensors in timm's layout: `timm.create_model("local-dir:RUN",
    pretrained=True)`."""
    # safetensors refuses tensors in channels_last memory
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


def say_result(folder: Path, numbers: Report, *, seconds: float) -> None:
    """Print the headline, and what to type next."""
    split, note, head = numbers.headline.split, numbers.headline.note, numbers.headline.numbers
    fitted, (low, high) = decision.read_decision(folder), head.top1_interval
    foreign = numbers.unknown.foreign if numbers.unknown else {}
    console.say(
        f"{split} top-1 {head.top1:.2%} (95 % interval {low:.1%} to {high:.1%}, "
        f"{head.pictures} pictures, {note}); {seconds:.0f} s",
        style="bold green",
    )
    console.say(
        f"views {fitted.views}, temperature {fitted.temperature:.2f}: calibration error "
        f"{head.ece:.1%} (before {head.plain.ece:.1%}); sets of "
        f"{head.mean_set_size:.2f} classes hold the true one in {head.covered:.1%}; unknown: "
        + ", ".join(f"AUROC {row.auroc:.2f} on {name}" for name, row in foreign.items())
    )
    if numbers.probe and numbers.probe.kept:
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
    run = run_files.read_run(folder)
    for advice in next_steps.advices(run):
        if advice.changes:
            console.say(
                f"advice: {advice.finding} {advice.do}\n  {next_steps.own_command(run, advice)}"
            )
            return


def next_commands(folder: Path) -> None:
    """Print the commands that a user may type with a finished run."""
    quoted = shell_path(folder)
    opened = (
        f"{_imports(folder)}; "
        f"timm.create_model({json.dumps(f'local-dir:{folder}', ensure_ascii=False)}, "
        "pretrained=True)"
    )
    console.say(f"""next:
  open {shell_path(folder / rundir.PAGE)} in a browser
  python -m export {quoted}
  python -m finetune --data MORE_PICTURES --base {quoted}
  python -c {shell(opened)}""")
    # a published copy has no events
    if (folder / rundir.TENSORBOARD).is_dir():
        console.say(f"  tensorboard --logdir {quoted}")


def _imports(folder: Path) -> str:
    """What Python must import before timm knows the network of a run."""
    config = folder / rundir.CONFIG
    own = config.is_file() and rundir.read_json(config)["architecture"] in OWN_ARCHITECTURES
    return "import timm, zoo.network.build" if own else "import timm"
