"""A folder of pictures -> `Data`: every file is read once, to its sha256 and a full decode, so that
training never meets a picture that it cannot read."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from finetune.data.dataset import Data
from finetune.data.duplicates import (
    join_groups,
    leak_findings,
    remove_conflicts,
    remove_leaks,
    take_corrections,
)
from finetune.data.left_out import (
    check_conflicts,
    check_unreadable,
    unreadable_finding,
    write_left_out,
)
from finetune.data.picture_columns import Picture, Pictures
from finetune.data.reading import MeasuredPicture, read_picture
from finetune.data.readings import Readings, file_state
from finetune.machine import distributed
from finetune.recipe.run import MOST_UNREADABLE
from finetune.sources.listed_pictures import Listing
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc, val_elsewhere
from zoo.host import console
from zoo.host.errors import UserError
from zoo.picture import grey_bits

PROCESSES_FROM = 5_000
"""Files from which several processes read faster than one."""


def scan(
    tree: Listing,
    *,
    processes: int = 1,
    bad_limit: float = MOST_UNREADABLE,
    names_in: Path | None = None,
) -> Data:
    """Read and decode every file once; set aside what cannot be used, and say so.

    Left out are files that cannot be decoded (more than `bad_limit` of all raise `UserError`), and
    equal bytes under two class names (more than `MOST_CONFLICTS` raise it). Bytes that stand in two
    splits stay in test (else val) and leave the other one. `names_in`: the file that gets the name
    of everything that is not used, also of a run that stops here.
    """
    jobs = list(_jobs(tree))
    paths = [path for path, _, _ in jobs]
    pictures, unreadable, bits_used = [], [], []
    for job, result in zip(jobs, _read_shared(tree.root, paths, processes), strict=True):
        if isinstance(result, str):
            unreadable.append(Unused(job[0], "unreadable", result))
        else:
            group = tree.groups.get(job[0], "")
            pictures.append(Picture(*job, result.sha256, result.width, result.height, group))
            bits_used.append(result.bits_used)
    pictures, corrected = take_corrections(pictures, tree.later)
    pictures, conflicts, pairs = remove_conflicts(pictures, tree.classes)
    pictures = join_groups(pictures)
    kept, leaks = remove_leaks(pictures)
    unused = (*unreadable, *conflicts, *leaks, *tree.unused)
    # before the checks, so that a run that stops here has the names too
    if names_in is not None and distributed.first():
        write_left_out(names_in, unused)
    check_unreadable(unreadable, len(jobs), bad_limit, names_in)
    check_conflicts(conflicts, pairs, len(jobs), names_in)
    findings = leak_findings(pictures, kept)
    if corrected:
        findings.append(
            f"{corrected} pictures take the label that a later --data gives the same bytes"
        )
    if conflicts:
        findings.append(
            f"{len(conflicts)} of {len(jobs)} pictures left out, because the same bytes stand "
            f"under two classes: {pairs}"
        )
    if unreadable:
        findings.append(unreadable_finding(unreadable, len(jobs)))
    if dark := grey_bits.finding(bits_used):
        findings.append(dark)
    _check_classes(kept, tree.classes, (*findings, *tree.findings))
    return Data(
        tree.root,
        tree.classes,
        Pictures.of(kept),
        (*findings, *tree.findings),
        tuple((entry.path, entry.reason) for entry in (*unreadable, *conflicts)),
        unused=unused,
        val_elsewhere=val_elsewhere(tree.folders),
    )


def _jobs(tree: Listing) -> Iterator[tuple[str, int, str]]:
    """Yield (relative path, label, split) of each file, in the order of the names in NFC: so a copy
    in NFD gives the same batches."""
    for split, files in tree.files.items():
        for path, label in sorted(files, key=lambda file: nfc(file[0])):
            yield path, label, split


def _read_shared(root: Path, paths: Sequence[str], processes: int) -> list[MeasuredPicture | str]:
    """Call `read_picture` for each path, in order; of several processes of one run, each reads its
    share. What was read before and is unchanged is not read again."""
    own = distributed.mine(paths)
    known = Readings.of(root)
    states = [file_state(root / path) for path in own]
    results: list[MeasuredPicture | str | None] = list(known.find(own, states))
    new = [i for i, result in enumerate(results) if result is None]
    with console.bar("reading pictures", len(own)) as advance:
        advance(len(own) - len(new))
        for i, result in zip(new, _read_all([root / own[i] for i in new], processes), strict=True):
            results[i] = result
            advance(1)
    gathered = distributed.gathered_list(list(zip(results, states, strict=True)), len(paths))
    read = [_as_read(result) for result, _ in gathered]
    # every process takes part in the sum, also where there is nothing to keep
    if distributed.total(len(new)) and distributed.first():
        known.keep(paths, [state for _, state in gathered], read)
    return read


def _as_read(result: Any) -> MeasuredPicture | str:
    """Give a result as `read_picture` does: from another process, it arrives as a plain list."""
    return result if isinstance(result, str) else MeasuredPicture(*result)


def _read_all(paths: Sequence[Path], processes: int) -> Iterator[MeasuredPicture | str]:
    """Yield `read_picture` of each path, in order; in several processes where starting them
    pays."""
    if processes == 1 or len(paths) < PROCESSES_FROM:
        yield from map(read_picture, paths)
        return
    # not threads, because decoding holds the GIL
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read_picture, paths, chunksize=250)


def _check_classes(
    kept: Sequence[Picture], classes: tuple[str, ...], findings: Sequence[str]
) -> None:
    filled = {p.label for p in kept if p.split == "train"}
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        raise UserError(
            f"class {', '.join(map(repr, empty[:5]))} has no usable training picture: "
            f"{'; '.join(findings)}. Add pictures of it to train."
        )
