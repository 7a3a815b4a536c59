"""The order of events of an export: open the finished run; for each target write its files, prove
them, add examples, and finish the bundle.

A bundle is written beside an earlier one, and replaces it only when it is proved.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from export.options import ExportOptions
from export.place import check_writable, room_on_disk, take_place
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
"""Characters of an error in the table of several targets; the whole error is printed above it."""
INCONCLUSIVE = (
    "Label more pictures, use --max-loss to allow a larger loss, or use --accept-inconclusive to "
    "keep the bundle, marked as inconclusive."
)
"""Advice for a proof that has too few pictures to decide."""


def start(options: ExportOptions) -> None:
    """Export a run to every target that the options name; the caller holds its lock (`alone`).

    Raises `UserError` for what the user can put right, and `NotProved` for a proof that failed. Of
    several targets, one that fails does not stop the others; `NotProved` follows after a table of
    all results.
    """
    # before the run is opened, which takes a while: a package that is missing is known at once
    failed = _not_installed(options.to)
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
    with gathered as evidence:
        for name in names:
            refusal = _refused(partial(attempt, evidence, name, failed))
            if refusal is None:
                continue
            failed[name] = refusal
            # no table for one target: its error says it all
            if len(options.to) == 1:
                raise refusal
            console.error(refusal)
    if len(options.to) > 1:
        report(list(dict.fromkeys([*names, *options.to])), failed)


def _not_installed(names: Sequence[str]) -> dict[str, UserError]:
    """Return an error for each target that needs a package which is not installed."""
    refusals = {}
    for name in names:
        if error := _refused(TARGETS[name]().check):
            refusals[name] = error
    return refusals


def _refused(work: Callable[[], None]) -> UserError | None:
    """Do the work, and return its `UserError` if it raised one."""
    try:
        work()
    except UserError as error:
        return error
    return None


def attempt(evidence: Evidence, name: str, failed: Mapping[str, UserError]) -> None:
    """Export to one target; `failed` holds the targets that could not be exported before it."""
    if TARGETS[name]().of_onnx and "onnx" in failed:
        raise UserError(f"{name} is made from the bundle for onnx, which could not be exported.")
    with room_on_disk(evidence.trained.run):
        export(evidence, name)


def report(names: Sequence[str], failed: Mapping[str, UserError]) -> None:
    """Print a table with the result of each target; `NotProved` if one of them failed."""
    columns = [console.Column("target"), console.Column("result")]
    results = dict.fromkeys(names, "finished")
    for name, error in failed.items():
        results[name] = one_line(error)[:SHOWN]
    red = [row for row, name in enumerate(results) if name in failed]
    console.table(columns, list(results.items()), red=red)
    if failed:
        raise NotProved(
            f"{len(failed)} of {len(names)} targets could not be exported: {', '.join(failed)}. "
            "The reasons are printed above; the other targets are finished."
        )


def wanted(names: Sequence[str], run: Path) -> list[str]:
    """Return the targets in the order in which they are made.

    `onnx` comes first; it is added if another target is made from its bundle and there is none.
    """
    chosen = list(dict.fromkeys(names))
    if "onnx" not in chosen and any(TARGETS[name]().of_onnx for name in chosen):
        try:
            bundle.open_bundle(run)
        except UserError:
            chosen.insert(0, "onnx")
    # stable: the others keep the order of the command line
    return sorted(chosen, key=lambda name: name != "onnx")


def export(evidence: Evidence, name: str) -> None:
    """Write `RUN/bundles/NAME`.

    The bundle is made and proved beside an earlier one, and replaces it when it is finished. A
    bundle that is refused stays in its unfinished folder, for the user to look at, until the next
    export.
    """
    run = evidence.trained.run
    place = run / bundle.BUNDLES / name
    folder, plain = disk.unfinished(place), disk.unfinished(run / PLAIN)
    refused = False
    try:
        product = _proved(evidence, name, folder)
        bundle.finish(folder)
        if product.plain:
            product.plain.replace(run / PLAIN)
        # last: until here the earlier bundle is the one that everybody finds
        take_place(folder, place)
    except UserError:
        refused = True
        raise
    finally:
        plain.unlink(missing_ok=True)
        if not refused:
            shutil.rmtree(folder, ignore_errors=True)
    _say_finished(product, place)


def _say_finished(product: Product, place: Path) -> None:
    """Print what was proved about the bundle, and the next commands."""
    claim = "answers like"
    if product.status.startswith("inconclusive"):
        claim = "was made from"
    elif product.lossy:
        claim = "keeps the accuracy of"
    line = f"{place} {claim} the trained model"
    if product.status != "ok":
        line += f" ({product.status})"
    console.say(line, style="bold green")
    # for its final place: the folder that it was made in is gone
    console.say("\n  ".join(["next:", *product.next_steps(place)]))


def _proved(evidence: Evidence, name: str, folder: Path) -> Product:
    """Write the bundle in the first of the target's precisions that is proved; `NotProved` if none
    is."""
    target, trained = TARGETS[name](), evidence.trained
    # the warning below is for a precision that another one follows
    *_, last = target.make
    for precision, make in target.make.items():
        if folder.exists():
            # of the precision before, or of an export that was refused
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with console.busy(f"exporting to {name}"):
            product = make(evidence, folder)
        bundle.write_description(folder, trained.describe(name, product, precision))
        if target.same_file:
            take_over(trained.run, folder, product, examples=evidence.examples)
            return product
        proof = prove.prove(evidence, folder, product, precision)
        prove.report(proof.rungs)
        if _may_be_finished(proof, evidence):
            if proof.inconclusive:
                product = _marked_inconclusive(product, proof)
                bundle.write_description(folder, trained.describe(name, product, precision))
            if evidence.examples:
                prove.write_examples(evidence, folder, proof)
            return replace(product, lossy=precision in judging.LOST_POINTS)
        if precision != last:
            console.warn(f"{precision} does not pass, so it is not used")
    raise prove.refuse(evidence, folder, proof, _advice(target, proof))


def _may_be_finished(proof: Proof, evidence: Evidence) -> bool:
    """Tell whether nothing failed, and whether what is inconclusive was accepted by the user."""
    return not proof.failed and (not proof.inconclusive or evidence.accept_inconclusive)


def _marked_inconclusive(product: Product, proof: Proof) -> Product:
    """Return the product with a status which says that there were too few pictures to decide."""
    too_few = f"inconclusive: it loses {proof.inconclusive[0].lost}, which are too few to tell"
    return replace(product, status=all_of(too_few, product.status))


def _advice(target: Target, proof: Proof) -> str:
    """Say what the user can do about a proof that failed, or that decided nothing."""
    return target.advice if proof.failed else INCONCLUSIVE


def take_over(run: Path, folder: Path, product: Product, *, examples: bool) -> None:
    """Copy the proof from the bundle for `onnx`, whose model file is also the model of this one."""
    source = bundle.open_bundle(run)
    # the proof of another file would prove nothing
    assert rundir.digest(folder / product.model) == source.model_sha256, "the same file"
    shutil.copyfile(source.folder / bundle.PARITY, folder / bundle.PARITY)
    has_examples = (source.folder / bundle.EXAMPLES).is_dir()
    if examples and has_examples:
        shutil.copytree(source.folder / bundle.EXAMPLES, folder / bundle.EXAMPLES)
    if examples or not has_examples:  # else its own page shows the same
        shutil.copyfile(source.folder / bundle.PARITY_PAGE, folder / bundle.PARITY_PAGE)
    console.say(f"  the model is {source.model}, byte for byte, and so is its proof")
