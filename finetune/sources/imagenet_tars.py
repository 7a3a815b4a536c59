"""ILSVRC2012 as it is distributed, three tars -> class folders, which training reads like any other
data.

`ILSVRC2012_img_train.tar` holds one tar a class (`n01440764.tar`), `ILSVRC2012_img_val.tar`
pictures whose class is a line of the devkit's ground truth. Classes are called by their WordNet id:
the English names of two pairs are equal. torchvision's ImageNet takes only the original archives by
MD5, and begins again when it was stopped.
"""

import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from finetune.machine import disk_space
from finetune.sources import mat_file
from finetune.sources.plain_tar import (
    MOST_MEMBERS,
    MOST_NAME,
    bounded_gzip,
    checked,
    files,
    opened,
    read_members,
)
from zoo.contract import rundir
from zoo.host import console, locks
from zoo.host.errors import UserError, first_line

TRAIN, VAL, DEVKIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
TARS = (TRAIN, VAL, DEVKIT)
META = "ILSVRC2012_devkit_t12/data/meta.mat"
TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
CLASS_TAR, TRAIN_PICTURE = re.compile(r"(n[0-9]{8})\.tar"), re.compile(r"n[0-9]{8}_[0-9]+\.JPEG")
WNID = re.compile(r"n[0-9]{8}")
VAL_PICTURE = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")
PREPARED = "PREPARED.json"
"""Written last: sizes of the tars that were unpacked, and what came out."""
MOST_META_BYTES, MOST_TRUTH_BYTES = 16 << 20, 1 << 20
"""Limits of the two files of the devkit that are read; the originals have less than 1 MB and
200 kB."""
UNFINISHED = ".unfinished-"
"""Prefix of a folder that is being filled; hidden, so that no reader takes it for a class."""


@dataclass(frozen=True)
class Devkit:
    """Holds the classes of the challenge and the ground truth, as the development kit has them."""

    pictures: dict[str, int]
    """WordNet id -> training pictures, of the classes of the challenge (meta.mat also has their
    hypernyms)."""
    val: tuple[str, ...]
    """WordNet id of each validation picture, in order of their numbers."""
    numbers: dict[str, int]
    """WordNet id -> number of the class."""


def is_tars(folder: Path) -> bool:
    """Tell whether this is a folder with the tars; the training pictures are enough."""
    return (folder / TRAIN).is_file()


def file_of(folder: Path, name: str) -> Path:
    """Find one of the tars; mirrors call the devkit `.gz` instead of `.tar.gz`."""
    of_mirror = folder / name.replace(".tar.gz", ".gz")
    return of_mirror if of_mirror.is_file() else folder / name


def unpacked_into(folder: Path) -> Path:
    """Name `FOLDER-folders` beside the folder with the tars; `UserError` if one is missing."""
    if missing := [name for name in TARS if not file_of(folder, name).is_file()]:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}: expected the three tars of ILSVRC2012 under the "
            f"names that image-net.org gives them ({', '.join(TARS)})."
        )
    return folder.resolve().with_name(folder.resolve().name + "-folders")


def prepared(folder: Path) -> Path:
    """Make `FOLDER-folders` beside the tars, with `train/` and `val/` unpacked; unpacked already,
    it is given at once.

    It goes on where it was stopped. `UserError` if a tar is missing, cut off or holds anything else
    than it should, and if there is not enough space.
    """
    target = unpacked_into(folder)
    sizes = {name: file_of(folder, name).stat().st_size for name in TARS}
    if (target / PREPARED).is_file() and rundir.read_json(target / PREPARED)["tars"] == sizes:
        return target
    with disk_space.room_needed(target), alone(target):
        console.say(f"unpacking ILSVRC2012 into {target}; stopped, the same command goes on")
        kit = read_devkit(file_of(folder, DEVKIT))
        check_space(sizes[TRAIN] + sizes[VAL], target)
        total = sum(kit.pictures.values()) + len(kit.val)
        with console.bar("unpacking", total) as advance:
            unpack_train(folder / TRAIN, target / "train", kit, advance)
            unpack_val(folder / VAL, target / "val", kit, advance)
        rundir.write_json(
            target / PREPARED, {"tars": sizes, "classes": len(kit.pictures), "pictures": total}
        )
    return target


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Make sure that only one process unpacks into this folder."""
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target} cannot be made ({error.strerror}): the pictures are unpacked beside the "
            "folder of the tars. Move the tars to a place that can be written."
        ) from None
    lock = FileLock(str(target / ".lock"))
    locks.take(lock, in_use=f"{target} is being written by another process: wait for it.")
    try:
        yield
    finally:
        lock.release()


def check_space(needed: int, target: Path) -> None:
    """Raise `UserError` if what is still to be unpacked does not fit; pictures take the space that
    they have in the tars."""
    unpacked = sum(path.stat().st_size for path in target.rglob("*.JPEG"))
    free = shutil.disk_usage(target).free
    if needed - unpacked > free:
        raise UserError(
            f"{target} needs {(needed - unpacked) / 1e9:.0f} GB more, and {free / 1e9:.0f} GB are "
            "free: free some, or move the tars to a larger disk."
        )


def read_devkit(path: Path) -> Devkit:
    """Read classes and ground truth; `UserError` if they do not fit together."""
    with bounded_gzip(path) as unpacked, opened(path, unpacked) as tar:
        found = read_members(tar, path, {META: MOST_META_BYTES, TRUTH: MOST_TRUTH_BYTES})
    for name in (META, TRUTH):
        if name not in found:
            raise UserError(
                f"{path} lacks {name}: expected the development kit for task 1 and 2 of 2012."
            )
    try:
        classes = devkit_classes(found[META])
        numbers = list(map(int, found[TRUTH].split()))
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        NotImplementedError,
        MemoryError,
        zlib.error,
        OSError,
    ) as error:
        raise UserError(
            f"{path}: expected meta.mat and the ground truth of ILSVRC2012, seen others "
            f"({first_line(error)[:MOST_NAME]}). Download it again."
        ) from None
    if unknown := sorted(set(numbers) - set(classes)):
        raise UserError(
            f"{path}: the ground truth names class {unknown[0]}, expected one of the "
            f"{len(classes)} in meta.mat. Download it again."
        )
    wnid_of = {}
    for number, (wnid, _) in classes.items():
        wnid_of[number] = checked(wnid, WNID, path)
    pictures = dict(classes.values())
    possible = all(0 <= count <= MOST_MEMBERS for count in pictures.values())
    if len(pictures) != len(classes) or not possible:
        raise UserError(
            f"{path}: expected each class once in meta.mat, with its number of pictures. Download "
            "it again."
        )
    number_of = {wnid: number for number, wnid in wnid_of.items()}
    return Devkit(pictures, tuple(map(wnid_of.__getitem__, numbers)), number_of)


def devkit_classes(meta: bytes) -> dict[int, tuple[str, int]]:
    """Read number -> WordNet id and training pictures from meta.mat, of MATLAB's version 5."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # before scipy sees it, which takes as much memory as a header asks for
    mat_file.check_unpacked_size(meta, most=MOST_META_BYTES)
    try:
        rows = loadmat(io.BytesIO(meta), squeeze_me=True, variable_names=["synsets"])["synsets"]
    except MatReadError as error:
        raise ValueError(str(error)) from None
    classes = {}
    for row in rows:
        # rows with children are hypernyms, which have no pictures of their own
        if int(row["num_children"]) == 0:
            number, count = int(row["ILSVRC2012_ID"]), int(row["num_train_images"])
            classes[number] = (str(row["WNID"]), count)
    return classes


def unpack_train(path: Path, train: Path, kit: Devkit, advance: console.Advance) -> None:
    """Unpack each inner tar into a class folder, which appears whole; one that is there stays."""
    present = set()
    with opened(path) as outer:
        for member in files(outer, path):
            wnid = checked(member.name, CLASS_TAR, path)[: -len(".tar")]
            if wnid not in kit.pictures:
                raise UserError(
                    f"{path} holds {member.name}, a class that the devkit does not list: expected "
                    "the tar and the devkit of the same year (2012, task 1 and 2)."
                )
            present.add(wnid)
            if not (train / wnid).is_dir():
                with opened(path, outer.extractfile(member)) as inner:
                    where = f"{path}: {member.name}"
                    unpack_class(train / wnid, inner, where, kit.pictures[wnid])
            advance(kit.pictures[wnid], note=wnid)
    if missing := sorted(set(kit.pictures) - present):
        raise UserError(
            f"{path} lacks {len(missing)} of {len(kit.pictures)} classes, for example "
            f"{missing[0]}.tar: it was cut off. Download it again."
        )


def unpack_class(folder: Path, tar: tarfile.TarFile, where: str, expected: int) -> None:
    """Unpack the tar of one class into its folder, which appears whole; `UserError` unless the tar
    holds as many pictures as `expected`."""
    filling = folder.with_name(UNFINISHED + folder.name)
    fill(filling, tar, where, TRAIN_PICTURE)
    count = len(list(filling.iterdir()))
    if count != expected:
        raise UserError(
            f"{where} holds {count} pictures, expected {expected} as meta.mat says: the tar was "
            "cut off or changed. Download it again."
        )
    # last, so that a class folder that is there is complete
    filling.rename(folder)


def unpack_val(path: Path, val: Path, kit: Devkit, advance: console.Advance) -> None:
    """Put each picture into the folder of its class; `val/` appears whole."""
    if val.is_dir():
        return advance(len(kit.val))
    filling = val.with_name(UNFINISHED + val.name)

    def place(name: str) -> Path:
        match = VAL_PICTURE.fullmatch(name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(kit.val):
            raise UserError(
                f"{path} holds {name}: the ground truth has {len(kit.val)} lines. Expected the "
                "devkit of the same year (2012)."
            )
        advance(1)
        return Path(kit.val[number - 1], name)

    with opened(path) as tar:
        fill(filling, tar, str(path), VAL_PICTURE, place)
    count = len(list(filling.rglob("*.JPEG")))
    if count != len(kit.val):
        raise UserError(
            f"{path} holds {count} pictures, expected {len(kit.val)} as the ground truth has "
            "lines: it was cut off. Download it again."
        )
    filling.rename(val)


def fill(
    folder: Path,
    tar: tarfile.TarFile,
    where: str,
    name: re.Pattern[str],
    place: Callable[[str], Path] = Path,
) -> None:
    """Write the pictures of a tar; those that are there in full size are passed over.

    Nothing else is ever written: every member must be a regular file with a name of the form
    `name`, which `place` puts below `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for member in files(tar, where):
        path = folder / place(checked(member.name, name, where))
        if path.is_file() and path.stat().st_size == member.size:
            continue
        path.parent.mkdir(exist_ok=True)
        source: IO[bytes] = tar.extractfile(member)  # type: ignore[assignment]
        with open(path, "wb") as out:
            shutil.copyfileobj(source, out)
