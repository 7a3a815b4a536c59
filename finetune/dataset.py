"""A folder of pictures -> classes, splits and findings. Labels are decided by class *name*, in every split.

    scan        reads every file once: sha256 and a full decode, so that training never meets a picture it cannot read
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

from finetune import ranks
from finetune.tree import Tree
from zoo import console, fields, rundir, tables
from zoo.errors import BadImage, UserError
from zoo.preprocess import decode

LEFT_OUT_LIMIT = 0.01
"""Share of the pictures that may be left out (unreadable, or the same bytes under two classes) before the run stops."""
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
    """(relative path, reason) of each picture that is in no split."""
    val_rule: str = "the data has a val folder"
    """How val came about."""

    def of(self, split: str) -> list[Picture]:
        """The pictures of train, val, test, or of val's parts select and calibrate, in a fixed order."""
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
        """Whether val is large enough to be halved: each half keeps at least HALF_AT_LEAST pictures."""
        select = sum(Data.half_of(p) == "select" for p in val)
        return min(select, len(val) - select) >= HALF_AT_LEAST

    def digest(self) -> str:
        """sha256 over every picture's path, class, split and bytes: two runs with the same digest saw the same data."""
        lines = (f"{p.path}\t{self.classes[p.label]}\t{p.split}\t{p.sha256}\n" for p in self.pictures)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Split -> class name -> number of pictures."""
        counts = Counter((p.split, p.label) for p in self.pictures)
        return {split: {name: counts[split, label] for label, name in enumerate(self.classes)}
                for split in ("train", "val", "test") if any(key[0] == split for key in counts)}


def scan(tree: Tree, *, processes: int = 1) -> Data:
    """Read and decode every file once; set aside what cannot be used, and say so.

    Left out, up to LEFT_OUT_LIMIT of all pictures (more raises `UserError`): pictures that cannot be decoded, and equal
    bytes under two class names. Bytes that stand in two splits stay in test (else val) and leave the other one.
    """
    jobs = [(path, label, split) for split, files in tree.files.items() for path, label in files]
    paths = [tree.root / path for path, _, _ in jobs]
    pictures, left_out = [], []
    for job, seen in zip(jobs, _read_shared(paths, processes), strict=True):
        if isinstance(seen, str):
            left_out.append((job[0], seen))
        else:
            pictures.append(Picture(*job, *seen))
    labels = defaultdict(set)
    for p in pictures:
        labels[p.sha256].add(p.label)
    left_out += [(p.path, f"the same bytes stand under {', '.join(sorted(tree.classes[c] for c in labels[p.sha256]))}")
                 for p in pictures if len(labels[p.sha256]) > 1]
    pictures = [p for p in pictures if len(labels[p.sha256]) == 1]
    _check_left_out(left_out, len(jobs))
    pictures, findings = _remove_leaks(pictures, tree.classes)
    if left_out:
        findings.append(f"{len(left_out)} of {len(jobs)} pictures left out: "
                        + "; ".join(f"{path} ({reason})" for path, reason in left_out[:5])
                        + (" ..." if len(left_out) > 5 else ""))
    if tree.ignored:
        findings.append(f"{tree.ignored} files ignored: not pictures by their suffix, or outside the class folders")
    if tree.beside:
        findings.append(f"folders beside train, val and test are ignored: {', '.join(tree.beside[:10])}")
    return Data(tree.root, tree.classes, tuple(pictures), tuple(findings), tuple(left_out))


def _read_shared(paths: Sequence[Path], processes: int) -> list[tuple[str, int, int] | str]:
    """`_read` of each path, in order; of several processes of one run, each reads its share."""
    own = ranks.mine(paths)
    with console.bar("reading pictures", len(own)) as advance:
        seen = []
        for one in _read_all(own, processes):
            seen.append(one)
            advance(1)
    return ranks.gathered_list(seen, len(paths))


def _read_all(paths: Sequence[Path], processes: int) -> Iterator[tuple[str, int, int] | str]:
    """`_read` of each path, in order; in several processes where starting them pays (decoding holds the GIL)."""
    if processes == 1 or len(paths) < PROCESSES_FROM:
        yield from map(_read, paths)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_read, paths, chunksize=250)


def _read(path: Path) -> tuple[str, int, int] | str:
    """(sha256, width, height) of a picture, or the reason why it cannot be read."""
    try:
        content = path.read_bytes() if path.is_file() else b""
        picture = decode(content if content else path, name=str(path))
    except BadImage as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)
    return hashlib.sha256(content).hexdigest(), picture.width, picture.height


def _check_left_out(left_out: Sequence[tuple[str, str]], total: int) -> None:
    if len(left_out) > LEFT_OUT_LIMIT * total:
        shown = "\n".join(f"  {path}: {reason}" for path, reason in left_out[:10])
        raise UserError(f"{len(left_out)} of {total} pictures cannot be used, expected at most {LEFT_OUT_LIMIT:.0%}. "
                        f"Repair or remove them:\n{shown}" + ("\n  ..." if len(left_out) > 10 else ""))


def _remove_leaks(pictures: list[Picture], classes: tuple[str, ...]) -> tuple[list[Picture], list[str]]:
    """Bytes in two splits stay in the later one of train, val, test."""
    rank = {"train": 0, "val": 1, "test": 2}
    home: dict[str, int] = {}
    for p in pictures:
        home[p.sha256] = max(home.get(p.sha256, 0), rank[p.split])
    kept = [p for p in pictures if rank[p.split] == home[p.sha256]]
    findings = [f"{n} pictures of {split} left out of it: the same bytes stand in {' or '.join(later)}"
                for split, later in (("train", ("val", "test")), ("val", ("test",)))
                if (n := sum(p.split == split for p in pictures) - sum(p.split == split for p in kept))]
    counts = Counter(p.label for p in kept if p.split == "train")
    if empty := [name for label, name in enumerate(classes) if not counts[label]]:
        raise UserError(f"class {', '.join(map(repr, empty[:5]))} has no usable training picture: "
                        f"{'; '.join(findings) or 'they were left out'}. Add pictures of it to train.")
    twins = len(kept) - len({p.sha256 for p in kept})
    return kept, findings + ([f"{twins} exact duplicates within a split"] if twins else [])


def split(data: Data, val: str) -> Data:
    """Cut the fraction `val` (as in '0.2') from train; data that already has a val is returned as it is.

    Per class, in order of sha256, identical bytes together: the same picture lands on the same side on any machine.
    """
    if any(p.split == "val" for p in data.pictures):
        return data
    fraction = as_fraction(val)
    if fraction is None:
        raise UserError("the validation folder has no usable picture: every one stands in test too, or was left out.")
    groups: dict[int, dict[str, int]] = defaultdict(Counter)
    for p in data.pictures:
        if p.split == "train":
            groups[p.label][p.sha256] += 1
    chosen = set()
    for counts in groups.values():
        wanted, taken = max(1, round(fraction * counts.total())), 0  # type: ignore[attr-defined]
        for sha in sorted(counts)[: len(counts) - 1]:  # one group at least stays in train
            if taken >= wanted:
                break
            chosen.add(sha)
            taken += counts[sha]
    pictures = tuple(p._replace(split="val") if p.split == "train" and p.sha256 in chosen else p for p in data.pictures)
    alone = [data.classes[label] for label, counts in groups.items() if len(counts) == 1]
    findings = data.findings + ((f"classes with a single picture are not in val: {', '.join(sorted(alone)[:10])}",)
                                if alone else ())
    if not any(p.split == "val" for p in pictures):
        raise UserError("no class has two different pictures, so nothing can be held out for validation: add pictures.")
    rule = f"{fraction:.2g} of train, per class, by sha256"
    return replace(data, pictures=pictures, findings=findings, val_rule=rule)


def as_fraction(val: str) -> float | None:
    """The fraction that `--val` gives, None if it is a path; `UserError` outside (0, 1)."""
    try:
        fraction = float(val)
    except ValueError:
        return None
    if not 0 < fraction < 1:
        raise UserError(f"--val {val}: expected a fraction between 0 and 1, such as 0.2, or a folder.")
    return fraction


def write_files_csv(path: Path, data: Data) -> None:
    """`files.csv`: relative path, label (class name), split, sha256, width and height of each picture."""
    tables.write(path, ("path", "label", "split", "sha256", "width", "height"), (
        (p.path, data.classes[p.label], p.split, p.sha256, p.width, p.height) for p in data.pictures))


def of_run(run: Path, root: Path) -> Data:
    """The data of a finished run from its files; `root` is where the pictures lie."""
    if not root.is_dir():
        raise UserError(f"{root} is not there: expected the folder with the pictures of {run}. If it moved, name it "
                        "with --data.")
    with fields.of(run / rundir.DATA):
        content = rundir.read_json(run / rundir.DATA, kind=dict)
        classes, val = fields.names(content["classes"]), fields.text(content["val"])
        findings = tuple(map(fields.text, content["findings"]))
        left_out = tuple((fields.text(path), fields.text(reason)) for path, reason in content["left_out"])
    index = {name: label for label, name in enumerate(classes)}
    with fields.of(run / rundir.FILES):
        pictures = tuple(Picture(row["path"], index[row["label"]], row["split"], row["sha256"], int(row["width"]),
                                 int(row["height"])) for row in rundir.files_rows(run))
    if missing := [p.path for p in pictures if not (root / p.path).is_file()]:
        raise UserError(f"{root} lacks {len(missing)} of the run's {len(pictures)} pictures, for example {missing[0]}: "
                        "name the folder that holds them with --data.")
    return Data(root, classes, pictures, findings, left_out, val)


def median_short_side(pictures: Sequence[Picture]) -> int:
    """Median of the shorter side, in pixels."""
    return int(np.median([min(p.width, p.height) for p in pictures]))

