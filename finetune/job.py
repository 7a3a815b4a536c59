"""One run from pictures to a finished folder: scan, recipe, probe, loop, final numbers."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from finetune import (
    dataset,
    evaluate,
    finish,
    fitting,
    going_on,
    joint,
    left_out,
    loop,
    lr_range,
    memory,
    probe,
    ranks,
    recipes,
    resume,
    shared_memory,
    signals,
)
from finetune import device as devices
from finetune.augment import seed_everything
from finetune.dataset import Data
from finetune.distill import Teacher
from finetune.events import Events
from finetune.folder import Claim, claim, held, record, recorded_order
from finetune.loader import Source, evaluation_batches, planned_workers, steps_per_epoch
from finetune.plan import Plan
from finetune.recipe import Resolved
from finetune.run import Run
from finetune.schedule import schedule
from finetune.scratch import has_zero_gamma, initialise
from finetune.teacher import teacher_of
from finetune.tree import read_tree
from zoo import catalog, console, fields, minimum, recipe_rows, rundir, weights
from zoo.errors import UserError, first_line
from zoo.model import Description, build, describe, head
from zoo.model_trial import Trial
from zoo.preprocess import Preprocessing
from zoo.same_paths import nfc
from zoo.text import shell_path

CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}
"""Recipe.fit -> timm's crop_mode."""


def start(run: Run, given: Mapping[str, Any]) -> None:
    """Carry out one run, or go on with it, in as many processes as torchrun started. `UserError` for everything the
    user can put right."""
    with ranks.joined():
        carry_out(run, given)


def carry_out(run: Run, given: Mapping[str, Any]) -> None:
    """`start`, in each of the processes."""
    began = perf_counter()
    device, claimed = claim_checked(run, given)
    if claimed.finished:
        if ranks.first():
            shutil.rmtree(claimed.folder / rundir.RESUME, ignore_errors=True)  # killed after its last file was written
        if run.data is not None:
            check_unchanged(claimed)
        console.say(f"{claimed.folder} is already finished: nothing to do.")
        return finish.next_commands(claimed.folder)
    with working_on(claimed, device):
        plan, best = fine_tune(make_plan(run, claimed, device))
        finish.write_run(plan, best, seconds=perf_counter() - began)


def prepare(run: Run, given: Mapping[str, Any]) -> Path:
    """The run up to its first training step (recipe, probe, range test): the same as `start`, which then goes on."""
    device, claimed = claim_checked(run, given)
    if not claimed.finished:
        with working_on(claimed, device):
            plan = make_plan(run, claimed, device)
            begin(plan, teacher_of(plan))
    return claimed.folder


def claim_checked(run: Run, given: Mapping[str, Any]) -> tuple[torch.device, Claim]:
    """The device and the folder of a run, after what can be said before the data is read."""
    minimum.require(*minimum.TRAIN)
    device = devices.choose(run.device)
    recipes.check(lr_range.without_find(given))
    return device, claim(run, given)


@contextmanager
def working_on(claimed: Claim, device: torch.device) -> Iterator[None]:
    """Errors of a full disk or memory told, Ctrl-C answered by how to go on, and the folder let go at the end."""
    try:
        with held(claimed), resume.room_needed(claimed.folder), shared_memory.lost_named(), signals.raised():
            yield
    except RuntimeError as error:
        if not memory.is_full(error):
            raise
        raise UserError(f"{device} is out of memory ({str(error).splitlines()[0]}): start again with a smaller "
                        "--batch-size or --image-size.") from None
    except (KeyboardInterrupt, signals.Stopped):
        unread = not (claimed.folder / rundir.DATA).is_file()
        console.say(f"stopped; to go on: python -m finetune --resume {shell_path(claimed.folder)}"
                    + (f" --data {shell_path(claimed.order.data)}" if unread else ""))
        raise
    except BrokenProcessPool:
        raise UserError("a process that reads the pictures died; the system ends one when memory runs out: give the "
                        "machine or the container more memory, and start again.") from None
    finally:
        claimed.lock.release()


def make_plan(run: Run, claimed: Claim, device: torch.device) -> Plan:
    """Read the data, resolve the recipe, build the model. A run that goes on takes its recipe from recipe.json."""
    given = claimed.order.given
    tree = read_tree(claimed.order.data, val=claimed.order.val_folder)
    base = claimed.order.find_base()
    with ranks.first_before_others():
        fetched = weights.RANDOM if recipes.from_scratch(given) else weights.fetch(base)
    base = dataclasses.replace(base, licence=fetched.licence or base.licence)
    if note := catalog.licence_note(base):
        console.say(f"licence of {base.alias}: {note}", style="bold red")
    described, trial = describe(base, fetched), Trial(base, fetched)
    fitting.check_given(given, trial, device=device.type)
    limit = bad_limit(run, claimed)
    names = claimed.folder / rundir.LEFT_OUT
    if claimed.goes_on:
        places = [str(place) for place in (claimed.order.data, claimed.order.val_folder) if place]
        console.say(f"pictures: {' and '.join(places)}")
    states = going_on.file_states(tree) if ranks.first() else ""
    scanned = dataset.scan(tree, processes=devices.cpu_cores(), bad_limit=limit,
                           names_in=None if ranks.of_first(claimed.same_pictures) else names)
    if claimed.goes_on and (claimed.folder / rundir.RECIPE).is_file():
        with fields.of(claimed.folder / rundir.RECIPE, "Start a new run."):
            resolved = Resolved.from_json(rundir.read_json(claimed.folder / rundir.RECIPE, kind=dict))
    else:
        resolved = lr_range.resolve(facts(scanned, described, trial, device), given)
    resolved = Resolved.from_json(ranks.of_first(resolved.to_json()))
    data = dataset.split(scanned, resolved.recipe.val)
    per_epoch = steps_per_epoch(len(data.of("train")), resolved.recipe.batch_size)
    schedule(resolved.recipe, steps_per_epoch=per_epoch)  # a wrong duration is told now, not after the probe
    fitting.check(resolved.recipe, trial, pictures=len(data.of("train")), device=device.type)
    joint.check_batch(min(len(data.of("train")), resolved.recipe.batch_size), resolved.recipe)
    data = with_recorded_names(claimed, data)
    if ranks.first():
        check_same_data(claimed.folder, data, limit, same=claimed.same_pictures)
        left_out.write_left_out(names, data.unused)  # not before: the pictures may be the wrong ones
        record(claimed, states)
    for finding in data.findings:
        console.warn(finding)
    if data.unused:
        console.say(left_out.summary(data.unused, names))
    torch.set_num_threads(resolved.recipe.threads)
    seed_everything(resolved.recipe.seed, "head")
    model = build(base, data.classes, image_size=resolved.recipe.image_size, drop_path=resolved.recipe.drop_path,
                  dropout=resolved.recipe.dropout, fetched=fetched)
    if resolved.recipe.from_scratch:
        resolved = with_known_gamma(model, resolved, given)
        initialise(model, resolved.recipe)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    workers = planned_workers(devices.decoders(run.workers, device), len(data.of("train")), resolved.recipe,
                              pinned=device.type == "cuda")
    source = Source(data.root, preprocessing(model, resolved), workers, pin=device.type == "cuda")
    return Plan(claimed, base, data, resolved, model, source)


def with_known_gamma(model: nn.Module, resolved: Resolved, given: Mapping[str, Any]) -> Resolved:
    """The recipe without zero gamma where the architecture has none; `UserError` if it was asked for by hand."""
    if not resolved.recipe.zero_gamma or has_zero_gamma(model):
        return resolved
    if "zero_gamma" in given:
        raise UserError(f"--zero-gamma has no effect: timm names no residual block of {type(model).__name__} that ends "
                        "in a batch norm, as those of ResNets do. Leave it away.")
    return resolved.replace("this architecture has no residual blocks that end in a batch norm", zero_gamma=False)


def facts(data: Data, base: Description, trial: Trial, device: torch.device) -> recipes.Facts:
    """What the recipe depends on."""
    train = [p for p in data.pictures if p.split == "train"]
    has_val = any(p.split == "val" for p in data.pictures)
    return recipes.Facts(
        pictures=len(train), class_counts=tuple(Counter(p.label for p in train).values()), has_val=has_val,
        short_side=dataset.median_short_side(train), base=base, device=device.type, cores=devices.compute_threads(),
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
        takes=lambda side: trial.refused(side) is None)


def preprocessing(model: nn.Module, resolved: Resolved) -> Preprocessing:
    """The base's own, at the recipe's size and fit; squash and pad show the whole picture (crop_pct 1)."""
    own = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    mode = CROP_MODES[resolved.recipe.fit]
    return dataclasses.replace(own, size=resolved.recipe.image_size, crop_mode=mode,
                               crop_pct=own.crop_pct if mode == "center" else 1.0)


def bad_limit(run: Run, claimed: Claim) -> float:
    """--bad-limit; a run that goes on keeps the one that it began with, if that is larger."""
    known = claimed.folder / rundir.DATA
    if not (claimed.goes_on and known.is_file()):
        return run.bad_limit
    with fields.of(known, "Start a new run."):
        before = rundir.read_json(known, kind=dict).get("bad_limit", run.bad_limit)
        return max(run.bad_limit, fields.number(before, above=-1, below=2))


def check_unchanged(claimed: Claim) -> None:
    """`UserError` if a finished run was trained on other pictures than the ones that are there now."""
    tree = read_tree(claimed.order.data, val=claimed.order.val_folder)
    recorded = recorded_order(claimed.folder)
    if changed := going_on.changes(claimed.folder, tree, val=recorded.val_path, processes=devices.cpu_cores()):
        raise UserError(f"{claimed.folder} is finished, and the pictures of {claimed.order.data} are not those that it "
                        f"was trained on: {changed}. To train on them, choose another --out, or remove that folder.")


def with_recorded_names(claimed: Claim, data: Data) -> Data:
    """The data with the classes as the run recorded them, where a copy gave their names another Unicode form."""
    recorded = going_on.recorded_classes(claimed.folder) if claimed.same_pictures else None
    recorded = ranks.of_first(recorded)  # only rank 0 knows whether pictures were recorded
    return data if recorded is None else data.with_names(recorded)


def check_same_data(folder: Path, data: Data, limit: float, *, same: bool) -> None:
    """With `same`, the pictures must be those that the folder recorded. Record them."""
    known = folder / rundir.DATA
    content: dict[str, Any] = {
        "classes": data.classes, "counts": data.counts(), "val": data.val_rule, "digest": data.digest(),
        "halved": data.halved(data.of("val")), "findings": data.findings,
        "left_out": data.left_out[:left_out.RECORDED], "left_out_total": len(data.left_out), "bad_limit": limit}
    if same:
        with fields.of(known, "Start a new run."):
            before = rundir.read_json(known, kind=dict)
            trained = fields.mapping(before["counts"]).get("train")
            names, names_before = set(map(nfc, data.classes)), set(map(nfc, fields.names(before["classes"])))
            changed = [f"{name} is {'new' if name in names else 'missing'}" for name in sorted(names ^ names_before)]
        if changed:
            raise UserError(f"the classes of {data.root} changed since this run began: {', '.join(changed[:10])}. "
                            "Restore the folders, or start a new run with another --out.")
        if before.get("digest") != content["digest"]:
            raise UserError(f"the pictures of {data.root} changed since this run began (counts then "
                            f"{trained}, now {content['counts'].get('train')}): "
                            "expected the same bytes. Restore them, or start a new run with another --out.")
    rundir.write_json(known, content)
    dataset.write_files_csv(folder / rundir.FILES, data)


def fine_tune(plan: Plan) -> tuple[Plan, resume.Best]:
    """Probe and loop, from the start or from the saved state; the plan with its final recipe, and the best weights."""
    teacher = teacher_of(plan)  # a wrong one is told now, not after the probe
    plan, state = begin(plan, teacher)
    if plan.resolved.recipe.probe_only:
        return plan, state.best
    try:
        return plan, loop.train(loop_job(plan, teacher), state)
    except RuntimeError as error:
        if plan.resolved.recipe.compile == "on" and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise UserError(f"--compile on: torch could not compile this network here ({first_line(error)}). Install a "
                            "C++ compiler (g++), or leave --compile away.") from None
        raise


def begin(plan: Plan, teacher: Teacher | None) -> tuple[Plan, resume.State]:
    """The saved state, or the first; and the plan with the recipe that belongs to it."""
    state = resume.load(plan.folder)
    if state is None:
        return first_state(plan, teacher)
    resume.check_same(state, about(plan))
    console.say(f"going on after step {state.step}, best so far {state.best.scores.top1:.2%} on select")
    return plan, state


def loop_job(plan: Plan, teacher: Teacher | None) -> loop.Job:
    """What the loop works on."""
    return loop.Job(plan.model, plan.data.of("train"), plan.source, plan.resolved.recipe, plan.folder,
                    lambda model: select_scores(plan, model), teacher)


def first_state(plan: Plan, teacher: Teacher | None) -> tuple[Plan, resume.State]:
    """The state before the first step: the base with the probe's head (or a random one), scored on select."""
    resume.check_space(plan.folder, space_bytes(plan))
    with closing(Events(plan.folder)) as events:
        if plan.resolved.recipe.probe == "on":
            plan = dataclasses.replace(plan, resolved=probe_head(plan, events))
        if plan.claim.order.given.get("lr") == lr_range.FIND:
            plan = dataclasses.replace(plan, resolved=lr_range.find(loop_job(plan, teacher), plan.resolved, events))
        print_recipe(plan.resolved)
        write_recipe(plan.folder, plan.resolved)
        scores = select_scores(plan, plan.model)
        events.write(0, **scores.events())
        position = events.position()
    if plan.resolved.recipe.probe == "on":
        console.say(f"linear probe: top-1 {scores.top1:.2%} on {scores.pictures} select pictures; the run keeps at "
                     "least this", style="bold")
    best = resume.save_best(plan.folder, plan.model, scores, 0)
    state = resume.State(0, position, best, {"model": plan.model.state_dict()}, about=about(plan))
    resume.save(plan.folder, state)
    return plan, state


def space_bytes(plan: Plan) -> int:
    """Disk space of a whole run, in sizes of the weights: three checkpoints (one is being written) with the optimiser's
    two moments and the moving average, two best weights, and the finished file."""
    ema = 1 if plan.resolved.recipe.ema else 0
    return resume.size_bytes(plan.model.state_dict()) * (3 * (3 + ema) + 3)


def about(plan: Plan) -> dict[str, Any]:
    """What the steps of this run are made with."""
    return resume.about(plan.resolved.recipe, plan.base.alias, plan.data.classes)


def select_scores(plan: Plan, model: nn.Module) -> evaluate.Scores:
    """Scores of a model as it stands on the select split."""
    select = plan.data.of("select")
    batches = evaluation_batches(ranks.mine(select), plan.source)
    scores = evaluate.score(*evaluate.logits(model, batches, plan.source.pre, total=len(select)),
                            by_class=plan.resolved.recipe.by_class)
    return evaluate.Scores(**ranks.of_first(scores.to_json()))  # all processes decide by the same bits


def probe_head(plan: Plan, events: Events) -> Resolved:
    """Fit the probe and put its weights into the model's head; the recipe with the precision that was measured."""
    began, resolved = perf_counter(), plan.resolved
    if head(plan.model) is None:
        if resolved.recipe.probe_only:
            raise UserError(f"--probe-only: {plan.base.alias} has no single linear head to fit. Leave --probe-only "
                            "away, or choose another base.")
        console.warn(f"{plan.base.alias} has no single linear head: no probe, the head starts at random.")
        return resolved.replace("this base has no single linear head", probe="off")
    if resolved.why["features"] == recipes.NOT_MEASURED:
        measured = ranks.of_first(probe.faster_precision(plan.model, plan.source.pre.size))
        resolved = resolved.replace("measured on this machine", features=measured)
        write_recipe(plan.folder, resolved)  # a second try does not measure again
    fitted = probe.fit_head(plan.model, plan.data.of("train"), plan.source, classes=len(plan.data.classes),
                            precision=resolved.recipe.features)
    events.write(0, **{"probe/penalty": fitted.penalty, "probe/seconds": perf_counter() - began})
    return resolved


def write_recipe(folder: Path, resolved: Resolved) -> None:
    """recipe.json; of several processes, rank 0 writes it."""
    if ranks.first():
        rundir.write_json(folder / rundir.RECIPE, resolved.to_json())


def print_recipe(resolved: Resolved) -> None:
    """What was chosen or set by hand, one line each with its reason; the names of the rest."""
    console.say("recipe:")
    shown, folded = recipe_rows.parted(resolved.to_json())
    for name, row in shown.items():
        console.say(f"  {name.replace('_', '-'):<20} {row['value']!s:<12} {row['why']}")
    flags = ", ".join("--" + name.replace("_", "-") for name in folded)
    console.say(f"  {recipe_rows.folded_title(folded)}: {flags} ({rundir.RECIPE} has all)")
