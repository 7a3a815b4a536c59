"""Shards of the library `webdataset` -> class folders.

A shard is a tar in which the files of one sample follow each other and share the beginning of their
names up to the first dot: `0001.jpg` and `0001.cls`. The label stands in `.cls` (a number or a
name), in `.json` (under `label`, `cls` or `class`) or in `.txt`. `classes.txt` beside the shards
names the classes of numbers, one a line. Splits are told by words in the names of shards, or of
their folders: `train-0000.tar`, `val/0000.tar`. `--data` is a folder of shards, one shard, or a
pattern with ranges in braces: `shard-{0000..0099}.tar`.

The pictures are unpacked once, as they are; they are not read from the shards by their offset.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from finetune.sources import imagenet_tars
from finetune.sources.plain_tar import is_plain_member, members, opened
from finetune.sources.plain_tar import shown_member as shown
from finetune.stored import kept_folder
from zoo.host import console
from zoo.host.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_SHARDS = 100_000
PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
"""Last part of a picture's name, in lower case."""
LABELS = ("cls", "json", "txt")
"""Last part of the name of what holds the label; the first that is there counts."""
JSON_KEYS = ("label", "cls", "class", "class_name", "target", "category")
MOST_LABEL_BYTES = 1 << 20
MOST_PICTURE_BYTES = 1 << 28
CLASSES = "classes.txt"
LOOKED_AT = 20
"""Entries of a tar that tell whether it is a shard."""
FEWEST_TO_TELL = 20
"""Pictures from which on labels that differ nearly all are taken for captions."""
Sample = dict[str, bytes]
"""Last part of a name -> content, of the files of one sample."""


def is_shards(name: str) -> bool:
    """Tell by a pattern with ranges, or by the first entries of a tar: pictures with labels beside
    them, in no folders of classes."""
    if _is_pattern(name):
        return True
    shards = _shards(name, most=1)
    return bool(shards) and _is_shard(shards[0])


def _is_pattern(name: str) -> bool:
    return RANGE.search(name) is not None and not os.path.exists(name)


def _is_shard(path: Path) -> bool:
    try:
        with opened(path) as tar:
            names = [member.name for member in islice(members(tar, path), LOOKED_AT)]
    except (UserError, OSError):
        return False
    endings: dict[str, set[str]] = {}
    for name in names:
        key, ending = _cut(name)
        endings.setdefault(key, set()).add(ending)
    for key, of_key in endings.items():
        # notes in a folder of a class are no labels, but nobody writes .cls for another reason
        labelled = "cls" in of_key or ("/" not in key and of_key & {"json", "txt"})
        if labelled and of_key & PICTURES:
            return True
    return False


def _cut(name: str) -> tuple[str, str]:
    """Cut the name of a file as webdataset does: what its sample is called, and the last part."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key, _, rest = base.partition(".")
    return folder + slash + key, rest.rpartition(".")[2].lower()


def _shards(name: str, most: int = MOST_SHARDS) -> list[Path]:
    """List the tars of a pattern, a folder or a path; `UserError` if one of a pattern is missing,
    or if there are too many."""
    if _is_pattern(name):
        paths = list(map(Path, islice(_expanded(name), MOST_SHARDS + 1)))
        missing = [path for path in paths if not path.is_file()]
        if missing or len(paths) > MOST_SHARDS:
            raise UserError(
                f"{name}: expected at most {MOST_SHARDS:,} shards that are all there, seen "
                f"{len(missing):,} missing, such as {(missing or paths)[0]}. Correct the range."
            )
        return paths
    path = Path(name)
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path) or imagenet_tars.is_tars(path):
        return []
    # the usual places, so that a folder of pictures is not walked
    found = chain(path.glob("*.tar"), path.glob("train*/*.tar"), path.glob("[vt][ae][ls]*/*.tar"))
    return sorted(islice(found, most))


def _expanded(name: str) -> Iterator[str]:
    """Yield the names that a pattern stands for; the first range is the slowest."""
    match = RANGE.search(name)
    if match is None:
        yield name
        return
    first, last = match[1], match[2]
    for number in range(int(first), int(last) + 1):
        yield from _expanded(
            name[: match.start()] + f"{number:0{len(first)}}" + name[match.end() :]
        )


def source_facts(name: str) -> object:
    """What tells these shards from others, and from themselves after a change."""
    shards = _shards(name)
    beside = [path for path in [_classes_file(name)] if path.is_file()]
    return [kept_folder.file_facts(path) for path in (*shards, *beside)]


def _classes_file(name: str) -> Path:
    path = Path(name)
    return path / CLASSES if path.is_dir() else path.parent / CLASSES


def write_source(name: str, folder: Path, coarse: bool = False) -> Path:
    """Write the pictures into `folder/SPLIT/CLASS`, or `folder/CLASS` where no shard names a split.

    `UserError` for a sample without a picture or a label, and for labels that are captions.
    """
    shards = _shards(name)
    kept_folder.check_free(folder.parent, sum(path.stat().st_size for path in shards))
    classes = _class_names(_classes_file(name))
    root = Path(name).parent if not os.path.isdir(name) else Path(name)
    splits = {path: _split(path, root) for path in shards}
    # plain class folders then, of which a run takes its own val
    if not any(splits.values()):
        splits = dict.fromkeys(shards, ".")
    number = 0
    labels: set[str] = set()
    with console.bar("unpacking shards", len(shards)) as advance:
        for path, split in splits.items():
            for key, sample in _samples(path):
                label = _label(sample, f"{path}: {shown(key)}", classes)
                labels.add(label)
                _write_sample(folder / (split or "train"), label, number, sample, path)
                number += 1
            advance(1)
    if number >= FEWEST_TO_TELL and len(labels) > number // 2:
        raise UserError(
            f"{name}: expected labels, seen {len(labels):,} different ones for {number:,} "
            "pictures, as captions are. Give the class of each picture in .cls."
        )
    return folder


def _split(path: Path, root: Path) -> str | None:
    return kept_folder.split_of(str(path.relative_to(root)))


def _class_names(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _samples(path: Path) -> Iterator[tuple[str, Sample]]:
    """Yield the samples of a shard: (name, files)."""
    key, sample = "", Sample()
    with opened(path) as tar:
        for member in members(tar, path):
            if member.isdir():
                continue
            if not is_plain_member(member):
                raise UserError(
                    f"{path} holds {shown(member.name)}, which is not a regular file: expected "
                    "only pictures and labels."
                )
            own, ending = _cut(member.name)
            # a name that comes back later would be another sample to webdataset as well
            if own != key and sample:
                yield key, sample
                sample = {}
            key = own
            if ending in sample:
                raise UserError(
                    f"{path}: {shown(own)} has two files that end in .{ending}: expected one "
                    "picture and one label a sample."
                )
            most = MOST_PICTURE_BYTES if ending in PICTURES else MOST_LABEL_BYTES
            if ending not in PICTURES and ending not in LABELS:
                continue
            if member.size > most:
                raise UserError(f"{path}: {shown(member.name)} has more than {most:,} bytes.")
            content: Any = tar.extractfile(member)
            sample[ending] = content.read()
    if sample:
        yield key, sample


def _write_sample(split: Path, label: str, number: int, sample: Sample, path: Path) -> None:
    pictures = [content for ending, content in sample.items() if ending in PICTURES]
    if len(pictures) != 1:
        raise UserError(
            f"{path}: expected one picture a sample, seen {len(pictures)} beside the label "
            f"{shown(label)}."
        )
    content = pictures[0]
    place = kept_folder.class_folder(split, label, path)
    (place / f"{number:08}{kept_folder.suffix_of(content)}").write_bytes(content)


def _label(sample: Mapping[str, bytes], where: str, classes: list[str]) -> str:
    """Read the label of a sample; a number is the name in its place, if there are names."""
    ending = next((ending for ending in LABELS if ending in sample), None)
    if ending is None:
        raise UserError(f"{where} has no label: expected .cls, .json or .txt beside the picture.")
    text = sample[ending].decode("utf-8", "surrogateescape").strip()
    if ending == "json":
        text = _of_json(text, where)
    if classes and text.isdecimal():
        if int(text) >= len(classes):
            raise UserError(
                f"{where} has the label {text}, and {CLASSES} {len(classes)} names (from 0)."
            )
        return classes[int(text)]
    return text


def _of_json(text: str, where: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        for key in JSON_KEYS:
            if isinstance(content.get(key), str | int):
                return str(content[key]).strip()
    if isinstance(content, str | int):
        return str(content).strip()
    raise UserError(
        f"{where}: expected a label in .json, a text or number under one of {', '.join(JSON_KEYS)}."
    )
