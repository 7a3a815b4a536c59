"""A run folder, opened for its export: finished, unchanged, with pictures to prove it on."""

from pathlib import Path

import torch

from export.graph.deployed import DeployedParts
from export.proof.published_run import open_pulled
from export.proof.trained_run import TrainedRun, names_of, sample
from zoo.contract import bundle, decision, run_pictures, rundir
from zoo.contract.finished_run import FinishedRun
from zoo.files.folders import shown
from zoo.files.same_paths import located
from zoo.host.errors import UserError
from zoo.network.build import load_network
from zoo.network.early import early_stage


def open_run(
    run: Path,
    *,
    data: Path | None = None,
    parity_images: int | None = None,
    max_loss: float | None = None,
) -> TrainedRun:
    """Return model, decision and pictures of a finished run, none of whose files has changed.

    `data`: the folder of its pictures, if it moved; of a pulled run, any folder of class folders.
    `parity_images`: pictures at most for the proof; None: all of validation. `max_loss`: points of
    accuracy that a precision which rounds may lose; None: its default.
    """
    # every file, because the bundle will say that it was made from this state
    rundir.open_finished(run, verify=True)
    _check_bundles(run)
    finished = FinishedRun(run)
    parts, labels = _parts(finished), finished.labels
    if not (run / rundir.FILES).is_file():
        return open_pulled(
            run, labels, parts, data=data, parity_images=parity_images, max_loss=max_loss
        )
    # as the scan did: ../held is beside the folder, not a link
    root = (data or run_pictures.data_root(run)).resolve()
    names = sample(names_of(run, "val"), parity_images)
    pictures = {name: located(root, name) for name in names}
    trained = TrainedRun(run, labels, parts, root, pictures, max_loss)
    trained.check(pictures, "validation")
    return trained


def _check_bundles(run: Path) -> None:
    """`UserError` unless each earlier bundle is a folder that can be removed and written again."""
    folder = run / bundle.BUNDLES
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if not path.is_dir() and not path.name.startswith("."):
            raise UserError(
                f"{shown(path)} is a file: expected a folder for each target. Remove it."
            )


def _parts(finished: FinishedRun) -> DeployedParts:
    """Model and decision; `UserError` if they do not belong together."""
    run = finished.folder
    decided = decision.read_decision(run)
    bank = None
    if decided.unknown:
        neighbours = decided.unknown.neighbours
        bank = torch.from_numpy(decision.read_bank(run, neighbours=neighbours))
    model, pre = load_network(run), finished.pre
    # the number comes from a file, and another stage would give another embedding
    if decided.early and decided.early.stage != early_stage(model, pre.size):
        raise UserError(
            f"{run / rundir.DECISION} names a stage that {finished.config['architecture']} does "
            "not have at a stride of 8 pixels: run python -m finetune.decide."
        )
    return DeployedParts(model, pre, decided, bank)
