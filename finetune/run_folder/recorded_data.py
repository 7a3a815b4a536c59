"""The pictures of a run as its folder recorded them: the same when it goes on, and unchanged once
it is finished."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.data import dataset, left_out
from finetune.data.dataset import Data
from finetune.machine import device as devices
from finetune.machine import distributed
from finetune.recipe.run import Run
from finetune.run_folder import going_on
from finetune.run_folder.claim import Claim
from finetune.run_folder.order import recorded_order
from zoo.contract import rundir
from zoo.files import checks
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError


def bad_limit(run: Run, claimed: Claim) -> float:
    """Give --bad-limit, or the limit that a run which goes on began with, if that is larger."""
    known = claimed.folder / rundir.DATA
    if not (claimed.goes_on and known.is_file()):
        return run.bad_limit
    with checks.of(known, "Start a new run."):
        before = rundir.read_json(known, kind=dict).get("bad_limit", run.bad_limit)
        return max(run.bad_limit, checks.number(before, above=-1, below=2))


def with_recorded_names(claimed: Claim, data: Data) -> Data:
    """Give the data with the class names that the run recorded.

    A copy to another system may have changed their Unicode form.
    """
    recorded = going_on.recorded_classes(claimed.folder) if claimed.same_pictures else None
    # only rank 0's claim says whether pictures were recorded
    recorded = distributed.of_first(recorded)
    return data if recorded is None else data.with_names(recorded)


def check_same_data(folder: Path, data: Data, limit: float, *, same: bool) -> None:
    """Record the pictures in the run folder; with `same`, raise `UserError` unless they are those
    that it has recorded already."""
    known = folder / rundir.DATA
    content: dict[str, Any] = {
        "classes": data.classes,
        "counts": data.counts(),
        "val": data.val_rule,
        "digest": data.digest(),
        "halved": data.halved,
        "findings": data.findings,
        "left_out": data.left_out[: left_out.RECORDED],
        "left_out_total": len(data.left_out),
        "bad_limit": limit,
    }
    # before anything is written: what the run recorded stays as it was
    if same:
        _refuse_other_data(known, data, content)
    rundir.write_json(known, content)
    dataset.write_files_csv(folder / rundir.FILES, data)


def _refuse_other_data(known: Path, data: Data, content: Mapping[str, Any]) -> None:
    """Raise a `UserError` that names what changed since `known` was written, if anything did."""
    with checks.of(known, "Start a new run."):
        before = rundir.read_json(known, kind=dict)
        trained = checks.mapping(before["counts"]).get("train")
        # in NFC, because a copy to another system may spell names in another form
        names_before = set(map(nfc, checks.names(before["classes"])))
    names = set(map(nfc, data.classes))
    changes = dict.fromkeys(names - names_before, "new")
    changes |= dict.fromkeys(names_before - names, "missing")
    changed = [f"{name} is {change}" for name, change in sorted(changes.items())]
    if changed:
        raise UserError(
            f"the classes of {data.root} changed since this run began: "
            f"{', '.join(changed[:10])}. Restore the folders, or start a new run with "
            "another --out."
        )
    if before.get("digest") != content["digest"]:
        raise UserError(
            f"the pictures of {data.root} changed since this run began (counts then "
            f"{trained}, now {content['counts'].get('train')}): "
            "expected the same bytes. Restore them, or start a new run with another --out."
        )


def check_unchanged(claimed: Claim) -> None:
    """Raise `UserError` if the pictures changed since a finished run was trained on them."""
    tree = claimed.order.source.listing()
    recorded = recorded_order(claimed.folder)
    if changed := going_on.changes(
        claimed.folder, tree, val=recorded.val_path, processes=devices.cpu_cores()
    ):
        raise UserError(
            f"{claimed.folder} is finished, and the pictures of {claimed.order.data} are not those "
            f"that it was trained on: {changed}. To train on them, choose another --out, or remove "
            "that folder."
        )
