"""The order of events: a finished run, each target's files, their proof, examples,
FINISHED.json."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from export.options import ExportOptions
from export.place import alone, check_writable, room_on_disk, take_place
from export.proof import judging, prove
from export.proof.open_run import open_run
from export.proof.product import Product, all_of
from export.proof.prove import Evidence, Proof
from export.targets.onnx import PLAIN
from export.targets.rows import TARGETS, Target
from zoo.contract import bundle, rundir
from zoo.host import console, disk
from zoo.host.errors import NotProved, UserError
from zoo.host.text import one_line

SHOWN = 90
"""Characters of an error in the table of several targets; the whole of it stands above."""


INCONCLUSIVE = (
    "Label more pictures, say with --max-loss what may be lost, or keep it as it is, and named so, "
    "with --accept-inconclusive."
)
"""Advice where there are too few pictures to tell."""


def start(options: ExportOptions) -> None:
    """Export a run to every target that the options name; one that fails does not stop the others.

    Raises `UserError` for what the user can put right, or a failed proof; of several targets, after
    a table of what became of each, `NotProved`.
    """
    failed = _cannot_be_made(options.to)
    if len(failed) == len(set(options.to)):
        raise next(iter(failed.values()))
    for error in failed.values():
        console.error(error)
    trained = open_run(
        options.run,
        data=options.data,
        parity_images=options.parity_images,
        max_loss=options.max_loss,
    )
    check_writable(trained.run, options.to)
    names = wanted([name for name in options.to if name not in failed], trained.run)
    gathered = prove.gather(
        trained, examples=options.examples, accept_inconclusive=options.accept_inconclusive
    )
    with alone(trained.run), gathered as evidence:
        for name in names:
            refusal = _refused(partial(attempt, evidence, name, failed))
            if refusal is None:
                continue
            failed[name] = refusal
            if len(options.to) == 1:
                raise refusal
            console.error(refusal)
    if len(options.to) > 1:
        report(list(dict.fromkeys([*names, *options.to])), failed)


def _cannot_be_made(names: Sequence[str]) -> dict[str, UserError]:
    """What has to be installed first, for the targets of which that is known at once."""
    refusals = {}
    for name in names:
        if error := _refused(TARGETS[name]().check):
            refusals[name] = error
    return refusals


def _refused(work: Callable[[], None]) -> UserError | None:
    """What was wrong, if something was."""
    try:
        work()
    except UserError as error:
        return error
    return None


def attempt(evidence: Evidence, name: str, failed: Mapping[str, UserError]) -> None:
    """Export to one target; `failed`: those before it that could not be."""
    if TARGETS[name]().of_onnx and "onnx" in failed:
        raise UserError(f"{name} is made from the bundle for onnx, which could not be exported.")
    with room_on_disk(evidence.trained.run):
        export(evidence, name)


def report(names: Sequence[str], failed: Mapping[str, UserError]) -> None:
    """Print a table of what became of each target; `NotProved` if one failed."""
    columns = [console.Column("target"), console.Column("result")]
    results = dict.fromkeys(names, "finished")
    for name, error in failed.items():
        results[name] = one_line(error)[:SHOWN]
    red = [row for row, name in enumerate(results) if name in failed]
    console.table(columns, list(results.items()), red=red)
    if failed:
        raise NotProved(
            f"{len(failed)} of {len(names)} targets could not be exported: {', '.join(failed)}. "
            "The reasons stand above; the others are finished."
        )


def wanted(names: Sequence[str], run: Path) -> list[str]:
    """Return the targets in the order in which they are made: `onnx` first where another needs it
    and it is not there."""
    chosen = list(dict.fromkeys(names))
    if "onnx" not in chosen and any(TARGETS[name]().of_onnx for name in chosen):
        try:
            bundle.open_bundle(run)
        except UserError:
            chosen.insert(0, "onnx")
    return sorted(chosen, key=lambda name: name != "onnx")


def export(evidence: Evidence, name: str) -> None:
    """Write `RUN/bundles/NAME`. It is made and proved beside an earlier one, and takes its place
    when it is finished.

    What is refused stays beside it for the user to look at, until the next export.
    """
    run = evidence.trained.run
    place = run / bundle.BUNDLES / name
    folder, plain = disk.unfinished(place), disk.unfinished(run / PLAIN)
    to_look_at = False
    try:
        product = _proved(evidence, name, folder)
        bundle.finish(folder)
        if product.plain:
            product.plain.replace(run / PLAIN)
        take_place(folder, place)
    except UserError:
        to_look_at = True
        raise
    finally:
        plain.unlink(missing_ok=True)
        if not to_look_at:
            shutil.rmtree(folder, ignore_errors=True)
    _say_finished(product, place)


def _say_finished(product: Product, place: Path) -> None:
    """What was shown about the bundle, and the next commands."""
    does = "answers like"
    if product.status.startswith("inconclusive"):
        does = "was made from"
    elif product.lossy:
        does = "keeps the accuracy of"
    line = f"{place} {does} the trained model"
    if product.status != "ok":
        line += f" ({product.status})"
    console.say(line, style="bold green")
    console.say("\n  ".join(["next:", *product.next_steps(place)]))


def _proved(evidence: Evidence, name: str, folder: Path) -> Product:
    """A bundle in the first of the target's precisions that is proved; `NotProved` if none is."""
    target, trained = TARGETS[name](), evidence.trained
    *_, last = target.make
    for precision, make in target.make.items():
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        with console.busy(f"exporting to {name}"):
            product = make(evidence, folder)
        bundle.write(folder, trained.describe(name, product, precision))
        if target.same_file:
            take_over(trained.run, folder, product, examples=evidence.examples)
            return product
        proof = prove.prove(evidence, folder, product, precision)
        prove.report(proof.rungs)
        if _is_enough(proof, evidence):
            if proof.inconclusive:
                product = _with_doubts(product, proof)
                bundle.write(folder, trained.describe(name, product, precision))
            if evidence.examples:
                prove.write_examples(evidence, folder, proof)
            return replace(product, lossy=precision in judging.LOST_POINTS)
        if precision != last:
            console.warn(f"{precision} does not pass, so it is not used")
    raise prove.refuse(evidence, folder, proof, _advice(target, proof))


def _is_enough(proof: Proof, evidence: Evidence) -> bool:
    """Whether a bundle may be finished."""
    return not proof.failed and (not proof.inconclusive or evidence.accept_inconclusive)


def _with_doubts(product: Product, proof: Proof) -> Product:
    """The product, whose status says what there are too few pictures to tell."""
    too_few = f"inconclusive: it loses {proof.inconclusive[0].lost}, which are too few to tell"
    return replace(product, status=all_of(too_few, product.status))


def _advice(target: Target, proof: Proof) -> str:
    return target.advice if proof.failed else INCONCLUSIVE


def take_over(run: Path, folder: Path, product: Product, *, examples: bool) -> None:
    """Take the proof of the bundle for `onnx`, whose model this one is."""
    source = bundle.open_bundle(run)
    assert rundir.digest(folder / product.model) == source.model_sha256, "the same file"
    for name in (bundle.PARITY, bundle.PARITY_PAGE):
        shutil.copyfile(source.folder / name, folder / name)
    if examples and (source.folder / bundle.EXAMPLES).is_dir():
        shutil.copytree(source.folder / bundle.EXAMPLES, folder / bundle.EXAMPLES)
    console.say(f"  the model is {source.model}, byte for byte, and so is its proof")
