"""A folder of pictures -> classes, splits and findings. Labels are decided by class *name*, in
every split.

    scan        reads every file once: sha256 and a full decode, so that training never meets a
                picture it cannot read
    split       cuts val from train where it is missing, and halves val into select and calibrate

Nothing here writes to the data folder.
"""

import hashlib
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune.data.class_folders import Tree
from finetune.data.held_out import far_from, held_out
from finetune.data.left_out import (
    by_pair,
    check_conflicts,
    check_unreadable,
    unreadable_finding,
    write_left_out,
)
from finetune.data.reading import Measured, read_picture
from finetune.machine import distributed
from finetune.recipe.facts import as_fraction
from finetune.recipe.run import MOST_UNREADABLE
from zoo.contract import run_pictures, rundir
from zoo.files import fields, tables
from zoo.files.passed_over import Unused
from zoo.files.same_paths import compared, located, nfc, val_elsewhere
from zoo.host import console
from zoo.host.errors import UserError
from zoo.picture import grey_bits

PROCESSES_FROM = 5_000
"""Files from which several processes read faster than one."""
HALF_AT_LEAST = 200
"""Val is halved into select and calibrate only if each half keeps this many pictures."""


class Picture(NamedTuple):
    """One picture of the data."""

    path: str
    """Relative to the data folder, with `/`."""
    label: int
    """Index into the class names."""
    split: str
    """train, val or test."""
    sha256: str
    """Digest of the file's bytes."""
    width: int
    """Upright, in pixels."""
    height: int


@dataclass(frozen=True)
class Data:
    """All pictures of a run, with what was found on the way."""

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    findings: tuple[str, ...]
    """Sentences for people: duplicates, leaks, pictures left out."""
    left_out: tuple[tuple[str, str], ...]
    """(relative path, reason) of each file that cannot be read, and of each picture under two
    classes."""
    val_rule: str = "the data has a val folder"
    """How val came about."""
    unused: tuple[Unused, ...] = ()
    """Every entry of the data folder that is not among `pictures`, those of `left_out` too."""
    val_elsewhere: str = ""
    """Relative path of a validation folder outside the data folder; empty if there is none."""

    def of(self, split: str) -> list[Picture]:
        """The pictures of train, val, test, or of val's parts select and calibrate, in a fixed
        order."""
        if split not in ("select", "calibrate"):
            return [p for p in self.pictures if p.split == split]
        val = self.of("val")
        halves: dict[str, list[Picture]] = {"select": [], "calibrate": []}
        for p in val:
            halves[self.half_of(p)].append(p)
        return halves[split] if self.halved(val) else val

    @staticmethod
    def half_of(picture: Picture) -> str:
        """The half of val that a picture would belong to, by its bytes: select or calibrate."""
        return "select" if int(picture.sha256[-1], 16) % 2 else "calibrate"

    @staticmethod
    def halved(val: Sequence[Picture]) -> bool:
        """Whether val is large enough to be halved: each half keeps at least HALF_AT_LEAST
        pictures."""
        select = sum(Data.half_of(p) == "select" for p in val)
        return min(select, len(val) - select) >= HALF_AT_LEAST

    def digest(self) -> str:
        """sha256 over every picture's path, class, split and bytes: two runs with the same digest
        saw the same data.

        Names count in the Unicode form NFC, and paths in a validation folder elsewhere from that
        folder on.
        """
        lines = (
            f"{compared(p.path, self.val_elsewhere)}\t{nfc(self.classes[p.label])}\t"
            f"{p.split}\t{p.sha256}\n"
            for p in self.pictures
        )
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def with_names(self, classes: Sequence[str]) -> "Data":
        """The same with these names in this order, if they are its own classes in another Unicode
        form or order."""
        label_of = {nfc(name): label for label, name in enumerate(classes)}
        if label_of.keys() != {nfc(name) for name in self.classes}:
            return self
        labels = [label_of[nfc(name)] for name in self.classes]
        pictures = tuple(p._replace(label=labels[p.label]) for p in self.pictures)
        return replace(self, classes=tuple(classes), pictures=pictures)

    def counts(self) -> dict[str, dict[str, int]]:
        """Split -> class name -> number of pictures."""
        counts = Counter((p.split, p.label) for p in self.pictures)
        return {
            split: {name: counts[split, label] for label, name in enumerate(self.classes)}
            for split in ("train", "val", "test")
            if any(key[0] == split for key in counts)
        }


def scan(
    tree: Tree,
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
    # in the order of the names in NFC, so that a copy in NFD gives the same batches
    jobs = [
        (path, label, split)
        for split, files in tree.files.items()
        for path, label in sorted(files, key=lambda file: nfc(file[0]))
    ]
    paths = [tree.root / path for path, _, _ in jobs]
    pictures, unreadable, bits_used = [], [], []
    for job, result in zip(jobs, _read_shared(paths, processes), strict=True):
        if isinstance(result, str):
            unreadable.append(Unused(job[0], "unreadable", result))
        else:
            pictures.append(Picture(*job, result.sha256, result.width, result.height))
            bits_used.append(result.bits_used)
    pictures, conflicts, pairs = _remove_conflicts(pictures, tree.classes)
    kept, leaks = _remove_leaks(pictures)
    unused = (*unreadable, *conflicts, *leaks, *tree.unused)
    if names_in is not None and distributed.first():
        write_left_out(names_in, unused)
    check_unreadable(unreadable, len(jobs), bad_limit, names_in)
    check_conflicts(conflicts, pairs, len(jobs), names_in)
    findings = _leak_findings(pictures, kept)
    if conflicts:
        findings.append(
            f"{len(conflicts)} of {len(jobs)} pictures left out, because the same bytes stand "
            f"under two classes: {pairs}"
        )
    if unreadable:
        findings.append(unreadable_finding(unreadable, len(jobs)))
    if dark := grey_bits.finding(bits_used):
        findings.append(dark)
    _check_classes(kept, tree.classes, findings)
    return Data(
        tree.root,
        tree.classes,
        tuple(kept),
        (*findings, *tree.findings),
        tuple((path, reason) for path, _, reason in (*unreadable, *conflicts)),
        unused=unused,
        val_elsewhere=val_elsewhere(tree.folders),
    )


def _read_shared(paths: Sequence[Path], processes: int) -> list[Measured | str]:
    """`read_picture` of each path, in order; of several processes of one run, each reads its
    share."""
    own = distributed.mine(paths)
    with console.bar("reading pictures", len(own)) as advance:
        seen = []
        for one in _read_all(own, processes):
            seen.append(one)
            advance(1)
    # what came from other processes has lost its class
    gathered = distributed.gathered_list(seen, len(paths))
    return [result if isinstance(result, str) else Measured(*result) for result in gathered]


def _read_all(paths: Sequence[Path], processes: int) -> Iterator[Measured | str]:
    """`read_picture` of each path, in order; in several processes where starting them pays
    (decoding holds the GIL)."""
    if processes == 1 or len(paths) < PROCESSES_FROM:
        yield from map(read_picture, paths)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read_picture, paths, chunksize=250)


def _remove_conflicts(
    pictures: list[Picture], classes: tuple[str, ...]
) -> tuple[list[Picture], list[Unused], str]:
    """The pictures under one class only, those under two, and which classes these are."""
    labels: dict[str, set[int]] = defaultdict(set)
    for p in pictures:
        labels[p.sha256].add(p.label)
    shared = [p for p in pictures if len(labels[p.sha256]) > 1]
    groups = [tuple(sorted(classes[label] for label in labels[p.sha256])) for p in shared]
    conflicts = [
        Unused(p.path, "conflict", f"the same bytes stand under {', '.join(group)}")
        for p, group in zip(shared, groups, strict=True)
    ]
    return [p for p in pictures if len(labels[p.sha256]) == 1], conflicts, by_pair(groups)


def _remove_leaks(pictures: list[Picture]) -> tuple[list[Picture], list[Unused]]:
    """Bytes in two splits stay in the later one of train, val, test; those that stay, and those
    that leave."""
    rank = {"train": 0, "val": 1, "test": 2}
    home: dict[str, str] = {}
    for p in pictures:
        home[p.sha256] = max(home.get(p.sha256, p.split), p.split, key=rank.__getitem__)
    kept = [p for p in pictures if p.split == home[p.sha256]]
    return kept, [
        Unused(p.path, "leak", f"the same bytes stand in {home[p.sha256]}")
        for p in pictures
        if p.split != home[p.sha256]
    ]


def _leak_findings(pictures: Sequence[Picture], kept: Sequence[Picture]) -> list[str]:
    before, after = (Counter(p.split for p in those) for those in (pictures, kept))
    findings = [
        f"{left} pictures of {split} left out of it: the same bytes stand in {' or '.join(later)}"
        for split, later in (("train", ("val", "test")), ("val", ("test",)))
        if (left := before[split] - after[split])
    ]
    twins = len(kept) - len({p.sha256 for p in kept})
    return findings + ([f"{twins} exact duplicates within a split"] if twins else [])


def _check_classes(
    kept: Sequence[Picture], classes: tuple[str, ...], findings: Sequence[str]
) -> None:
    counts = Counter(p.label for p in kept if p.split == "train")
    if empty := [name for label, name in enumerate(classes) if not counts[label]]:
        raise UserError(
            f"class {', '.join(map(repr, empty[:5]))} has no usable training picture: "
            f"{'; '.join(findings)}. Add pictures of it to train."
        )


def count_held_out(fraction: float, pictures: int) -> int:
    """How many pictures of a class are wanted for val."""
    return max(1, round(fraction * pictures))


def split(data: Data, val: str) -> Data:
    """Cut the fraction `val` (as in '0.2') from train; data that already has a val is returned as
    it is.

    Per class, in order of sha256, identical bytes together: the same picture lands on the same side
    on any machine.
    """
    if any(p.split == "val" for p in data.pictures):
        return data
    fraction = as_fraction(val)
    if fraction is None:
        raise UserError(
            "the validation folder has no usable picture: every one stands in test too, or was "
            "left out."
        )
    groups: dict[int, Counter[str]] = defaultdict(Counter)
    for p in data.pictures:
        if p.split == "train":
            groups[p.label][p.sha256] += 1
    chosen = {
        label: held_out(copies, count_held_out(fraction, copies.total()))
        for label, copies in groups.items()
    }
    pictures = tuple(
        p._replace(split="val") if p.split == "train" and p.sha256 in chosen[p.label] else p
        for p in data.pictures
    )
    if not any(p.split == "val" for p in pictures):
        raise UserError(
            "no class has two different pictures, so nothing can be held out for validation: add "
            "pictures."
        )
    alone = [data.classes[label] for label, copies in groups.items() if len(copies) == 1]
    findings = (
        [f"classes with a single picture are not in val: {', '.join(sorted(alone)[:10])}"]
        if alone
        else []
    )
    findings += far_from(
        fraction,
        {
            data.classes[label]: (sum(copies[sha] for sha in chosen[label]), copies.total())
            for label, copies in groups.items()
            if len(copies) > 1
        },
    )
    rule = f"{fraction:.2g} of train, per class, by sha256"
    return replace(data, pictures=pictures, findings=(*data.findings, *findings), val_rule=rule)


def write_files_csv(path: Path, data: Data) -> None:
    """`files.csv`: relative path, label (class name), split, sha256, width and height of each
    picture."""
    tables.write(
        path,
        ("path", "label", "split", "sha256", "width", "height"),
        (
            (p.path, data.classes[p.label], p.split, p.sha256, p.width, p.height)
            for p in data.pictures
        ),
    )


def of_run(run: Path, root: Path) -> Data:
    """The data of a finished run from its files; `root` is where the pictures lie."""
    if not root.is_dir():
        raise UserError(
            f"{root} is not there: expected the folder with the pictures of {run}. If it moved, "
            "name it with --data."
        )
    root = root.resolve()  # as the scan did: ../held is beside the folder, not beside a link to it
    with fields.of(run / rundir.DATA):
        content = rundir.read_json(run / rundir.DATA, kind=dict)
        classes, val = fields.names(content["classes"]), fields.text(content["val"])
        findings = tuple(map(fields.text, content["findings"]))
        left_out = tuple(
            (fields.text(path), fields.text(reason)) for path, reason in content["left_out"]
        )
    index = {name: label for label, name in enumerate(classes)}
    with fields.of(run / rundir.FILES):
        pictures = tuple(
            Picture(
                row["path"],
                index[row["label"]],
                row["split"],
                row["sha256"],
                int(row["width"]),
                int(row["height"]),
            )
            for row in run_pictures.files_rows(run)
        )
    if missing := [p.path for p in pictures if not located(root, p.path).is_file()]:
        raise UserError(
            f"{root} lacks {len(missing)} of the run's {len(pictures)} pictures, for example "
            f"{missing[0]}: name the folder that holds them with --data."
        )
    return Data(root, classes, pictures, findings, left_out, val)


def median_short_side(pictures: Sequence[Picture]) -> int:
    """Median of the shorter side, in pixels."""
    return int(np.median([min(p.width, p.height) for p in pictures]))
