"""Data sets of Hugging Face's library `datasets` -> class folders.

Three forms: `hf://datasets/org/name[/configuration][@revision]` on the Hub, a folder that
`save_to_disk` wrote, and a folder of Parquet files with a column of pictures. Pictures are written
as the bytes that the data set holds, never encoded again. No code of a data set is run: versions of
the library that could are not accepted (pyproject.toml).
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.stored import kept_folder
from zoo.files.passed_over import HARMLESS_NAMES, HARMLESS_SUFFIXES
from zoo.host import console, disk
from zoo.host.errors import UserError, first_line
from zoo.host.text import one_line
from zoo.hub.calls import Words, explained, retried, timeouts

ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<configuration>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?"
)
PREFIX = "hf://"
SAVED, SAVED_SPLIT = "dataset_dict.json", ("dataset_info.json", "state.json")
IMAGES = ("image", "img", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "target", "category")
COARSE_LABELS = ("coarse_label", "coarse_labels")
INSTALL = 'pip install "zootune[sources]" (or: pip install datasets)'


def is_hub_dataset(name: str) -> bool:
    """Tell by an address of the Hub, by the files of a saved data set, or by a column of pictures
    in Parquet files."""
    if name.startswith(PREFIX):
        return True
    if not os.path.isdir(name):
        return False
    folder = Path(name)
    try:
        return _is_saved(folder) or _has_pictures(_parquet_files(folder))
    # a folder that cannot be listed is refused by what reads class folders
    except OSError:
        return False


def _is_saved(folder: Path) -> bool:
    if os.path.isfile(folder / SAVED):
        return True
    return all(os.path.isfile(folder / name) for name in SAVED_SPLIT)


def _parquet_files(folder: Path) -> list[Path]:
    """List the Parquet files of a folder and the folders in it; none if anything but notes stands
    beside them. The first picture ends the search."""
    files = []
    for place in (str(folder), *_folders_in(folder)):
        with os.scandir(place) as entries:
            for entry in entries:
                name = entry.name.lower()
                suffix = os.path.splitext(name)[1]
                notes = name[0] == "." or suffix in HARMLESS_SUFFIXES or name in HARMLESS_NAMES
                if suffix == ".parquet":
                    files.append(Path(entry.path))
                elif entry.is_file() and not notes:
                    return []
    return sorted(files)


def _folders_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield entry.path


def _has_pictures(files: Sequence[Path]) -> bool:
    """Tell whether a column has bytes in a structure, as pictures are stored; without the package
    that reads the files, this is taken for granted."""
    if not files:
        return False
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        return True
    try:
        schema = parquet.read_schema(files[0])
    except (ArrowException, OSError):
        return False
    return any(
        types.is_struct(kind) and kind.get_field_index("bytes") >= 0 for kind in schema.types
    )


def source_facts(name: str) -> object:
    """What tells this data set from others: its address, or its files with sizes and times."""
    return name if name.startswith(PREFIX) else kept_folder.file_facts(Path(name))


def write_source(name: str, folder: Path, coarse: bool = False) -> Path:
    """Write the pictures into `folder/SPLIT/CLASS`, or `folder/CLASS` where there is one split.

    Pictures without a label are passed over and counted. `coarse`: by the column of coarser labels.
    `UserError` for a data set without a column of pictures and one of labels, and if the Hub cannot
    be reached.
    """
    with _explained(kept_folder.public(name)):
        splits = _by_split(_loaded(name, folder), name)
        for split, rows in splits.items():
            _write_split(rows, folder / split, name, coarse)
    return folder


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Explain what the library raises: errors of its own, of Arrow and of the system."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{name} is read by the package datasets, which is not installed "
            f"({first_line(error)}): {INSTALL}"
        ) from None
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        if disk.no_room(error):
            raise
        raise UserError(
            f"{name} cannot be read ({type(error).__name__}: {first_line(error)[:300]}): expected "
            "a data set with pictures and labels. Check its name, or use a downloaded copy."
        ) from None


def _loaded(name: str, folder: Path) -> Mapping[str, Any]:
    """Open the data set: name of a split -> its rows, which are read one after the other."""
    import datasets

    datasets.disable_progress_bars()
    # where the library keeps locks; removed at the end
    cache = str(folder.with_name("cache"))
    if name.startswith(PREFIX):
        repo, configuration, commit = _on_the_hub(name)
        return dict(
            datasets.load_dataset(
                repo, configuration, revision=commit, streaming=True, cache_dir=cache
            )
        )
    path = Path(name)
    if _is_saved(path):
        saved = datasets.load_from_disk(str(path))
        return saved if isinstance(saved, dict) else {"train": saved}
    files: dict[str, list[str]] = {}
    for file in _parquet_files(path):
        split = kept_folder.split_of(str(file.relative_to(path))) or "train"
        files.setdefault(split, []).append(str(file))
    return dict(datasets.load_dataset("parquet", data_files=files, streaming=True, cache_dir=cache))


def _on_the_hub(name: str) -> tuple[str, str | None, str]:
    """Ask the Hub for a data set: (`org/name`, configuration, commit)."""
    from huggingface_hub import HfApi

    match = ADDRESS.fullmatch(name)
    if not match:
        raise UserError(
            f"{one_line(name)}: expected hf://datasets/org/name, with /configuration and @revision "
            "where they are needed."
        )
    words = Words(
        f"datasets/{match['repo']}",
        "Download it where there is a network (hf download --repo-type dataset), and use its "
        "folder.",
        f"{match['revision']}: expected a branch, tag or commit",
        absent="check the name, or log in: hf auth login",
    )
    with explained(words):
        info = retried(
            lambda: HfApi().dataset_info(
                match["repo"], revision=match["revision"], timeout=timeouts()
            )
        )
    return match["repo"], match["configuration"], str(info.sha)


def _by_split(loaded: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sort the splits: train, val or test -> rows; one alone is called `.`, whatever its name."""
    # a data set whose only split is called test is still all there is
    if len(loaded) == 1:
        return {".": next(iter(loaded.values()))}
    splits: dict[str, Any] = {}
    for split, rows in loaded.items():
        of_name = kept_folder.split_of(split)
        if of_name is None or of_name in splits:
            console.say(f"{kept_folder.public(name)}: the split {one_line(split)} is not used")
        else:
            splits[of_name] = rows
    if "train" not in splits:
        raise UserError(
            f"{kept_folder.public(name)} has the splits {one_line(', '.join(loaded))}: expected "
            "train among them."
        )
    return splits


def _write_split(rows: Any, split: Path, name: str, coarse: bool) -> None:
    import datasets

    features = rows.features or {}
    image, label = _columns(features, name, coarse)
    # undecoded, so that each file has the bytes that were published
    names = getattr(features[label], "names", None)
    rows = rows.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    from_hub = name.startswith(PREFIX)
    passed_over = number = 0
    with console.bar(f"writing {split.name}", _count(rows)) as advance:
        for number, row in enumerate(rows):
            advance(1)
            value = row[label]
            # -1: a test set whose labels are not published
            if value is None or row[image] is None or (names and value == -1):
                passed_over += 1
                continue
            class_name = names[value] if names else str(value)
            content = _content(row[image], from_hub)
            path = kept_folder.class_folder(split, class_name, kept_folder.public(name))
            (path / f"{number:08}{kept_folder.suffix_of(content)}").write_bytes(content)
    if passed_over:
        console.say(f"{passed_over:,} of {number + 1:,} pictures have no label: not used")


def _count(rows: Any) -> int:
    """Return the number of rows, for the progress bar; 0 where it is not known before the end."""
    known = getattr(rows, "num_rows", None)
    splits = rows.info.splits or {}
    if known is None and str(rows.split) in splits:
        known = splits[str(rows.split)].num_examples
    return known or 0


def _columns(features: Mapping[str, Any], name: str, coarse: bool) -> tuple[str, str]:
    """Choose the columns of pictures and labels, by their types and, of several, by their names."""
    import datasets

    images, classes, values = [], [], []
    for column, feature in features.items():
        if isinstance(feature, datasets.Image):
            images.append(column)
        elif isinstance(feature, datasets.ClassLabel):
            classes.append(column)
        elif isinstance(feature, datasets.Value):
            values.append(column)
    image = _only(images, IMAGES)
    wanted = COARSE_LABELS if coarse else LABELS
    label = None if coarse else _only(classes, wanted)
    label = label or _first([*classes, *values], wanted)
    if image is None or label is None:
        raise UserError(
            f"{kept_folder.public(name)} has the columns {one_line(', '.join(features))}: expected "
            f"one of pictures (such as {IMAGES[0]}) and one of labels (such as {wanted[0]})."
        )
    return image, label


def _only(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else _first(columns, wanted)


def _first(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((column for column in wanted if column in columns), None)


def _content(picture: Mapping[str, Any], from_hub: bool) -> bytes:
    """Return the bytes of a picture that was not decoded: its own, or those of the file it
    names."""
    content: bytes | None = picture["bytes"]
    if content is not None:
        return content
    path = str(picture["path"])
    # a stranger's data set must not name files of this machine
    if from_hub and not path.startswith(PREFIX):
        raise ValueError(f"it names the file {one_line(path)}")
    if not from_hub:
        return Path(path).read_bytes()
    import fsspec

    with fsspec.open(path, "rb") as file:
        return bytes(file.read())
