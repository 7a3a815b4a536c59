"""What a run was asked for: pictures, base and settings, as a run folder records them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune.presets import resolve
from finetune.presets.resolve import from_scratch
from finetune.recipe.facts import as_fraction
from finetune.recipe.resolved import given_of
from finetune.recipe.run import Run
from finetune.recipe.source_options import AS_IT_LOOKS, SourceOptions
from finetune.run_folder.named_folders import data_folder, real, val_folder
from finetune.sources.data_source import DataSource
from zoo.bases.catalog import Base, find_architecture, find_base
from zoo.contract import rundir
from zoo.files import checks
from zoo.files.folders import shown
from zoo.files.same_paths import val_path
from zoo.host.errors import UserError
from zoo.host.text import shell_path


@dataclass(frozen=True)
class Order:
    """What was asked for, as recorded in `local.json` when a run starts."""

    data: Path
    """Absolute."""
    base: str
    """As `zoo.bases.catalog.find_base` takes it; a path of a run folder is absolute."""
    given: Mapping[str, Any]
    """Recipe fields set by hand."""
    options: SourceOptions = AS_IT_LOOKS
    """How the pictures are found in `data`."""
    more: tuple[Path, ...] = ()
    """Absolute; the pictures of further --data."""

    @property
    def source(self) -> DataSource:
        """The pictures."""
        return DataSource(self.data, self.val_folder, self.options, self.more)

    def find_base(self) -> Base:
        """The base, or the architecture alone where it is trained from scratch."""
        return find_start(self.base, self.given)

    def to_json(self) -> dict[str, Any]:
        content = {"data": str(self.data), "base": self.base, "given": dict(self.given)}
        if options := self.options.to_json():
            content["source"] = options
        if self.more:
            content["more"] = list(map(str, self.more))
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Order":
        """What `to_json` gave; `ValueError` or `KeyError` for anything else."""
        base = checks.name(content["base"])
        if "\0" in base:
            raise ValueError(f"expected a base without zero bytes, seen {checks.seen(base)}")
        given = given_of(checks.mapping(content["given"]))
        checked = dict(given)
        # `find` is no rate: it stands for the one that the range test will give
        if checked.get("lr") == "find":
            del checked["lr"]
        resolve.check_given(checked)
        options = SourceOptions.from_json(checks.mapping(content.get("source", {})))
        more = tuple(map(_absolute, content.get("more", ())))
        return Order(_absolute(content["data"]), base, given, options, more)

    @property
    def val_folder(self) -> Path | None:
        """The validation folder that stands elsewhere, if --val names one."""
        val = self.given.get("val")
        if val is None or as_fraction(val) is not None:
            return None
        return Path(val)

    @property
    def val_path(self) -> str:
        """Relative path of the validation folder if it lies outside the data folder, else empty."""
        return val_path(self.data, self.val_folder)

    def moved(self, data: Sequence[Path], val: Path | None, root: str = "") -> "Order":
        """The same with other places of its pictures; `data`: as many as there were, or none."""
        first, *more = data or (self.data, *self.more)
        if len(more) != len(self.more):
            raise UserError(
                f"--data: expected the {len(self.more) + 1} places of this run's pictures, in "
                f"their order, seen {len(data)}."
            )
        given = dict(self.given)
        options = replace(self.options, root=root or self.options.root)
        if val:
            given["val"] = str(val)
        return replace(self, data=first, given=given, options=options, more=tuple(more))

    def difference(self, other: "Order") -> str | None:
        """The first key in which two orders differ, with both values; None if they are alike."""
        mine, theirs = self._comparable(), other._comparable()
        for key in mine | theirs:
            # where the pictures lie is no difference: their bytes are compared later
            if key == "val" and self.val_folder and other.val_folder:
                continue
            if mine.get(key) != theirs.get(key):
                return (
                    f"--{key.replace('_', '-')} is {mine.get(key, 'not given')}, in that run it "
                    f"was {theirs.get(key, 'not given')}"
                )
        return None

    def _comparable(self) -> dict[str, Any]:
        """What must be the same for a run to go on; where the pictures lie is compared later, by
        their bytes."""
        return {**self.given, **replace(self.options, root="").to_json(), "base": self.base}


def _absolute(value: Any) -> Path:
    """An absolute path from a file; `ValueError` for anything else."""
    text = checks.text(value)
    # Python raises ValueError wherever a path with a zero byte is used
    if "\0" in text or not Path(text).is_absolute():
        raise ValueError(
            f"expected the absolute path of a folder under data, seen {checks.seen(text)}"
        )
    return Path(text)


def find_start(base: str, given: Mapping[str, Any]) -> Base:
    """A base by its name, or the architecture alone where it is trained from scratch."""
    if from_scratch(given):
        return find_architecture(base)
    return find_base(base)


def new_order(run: Run, given: Mapping[str, Any]) -> Order:
    """What the command line asks for, with its paths as they are for any other command."""
    data, *more = [data_folder(name, coarse=run.source_options.coarse) for name in run.data]
    given = dict(given)
    base = find_start(run.base, given)
    # absolute paths, as a command that goes on may be started in another folder
    if given.get("teacher") and (teacher := find_base(given["teacher"]).folder):
        given["teacher"] = str(real(teacher))
    if "val" in given and as_fraction(given["val"]) is None:
        given["val"] = str(val_folder(given["val"]))
    base_name = str(real(base.folder)) if base.folder else run.base
    places = tuple(map(real, more))
    return Order(real(data), base_name, given, run.source_options, places)


def resumed_order(run: Run, given: Mapping[str, Any]) -> Order:
    """What the folder recorded, with the places of its pictures that the command line names."""
    assert run.resume is not None
    folder = run.resume
    order = recorded_order(folder)
    val, others = given.get("val"), set(given)
    moved_val: Path | None = None
    if val is not None and order.val_folder and as_fraction(val) is None:
        moved_val = val_folder(val)
        others.remove("val")
    if others:
        flags = ", ".join("--" + key.replace("_", "-") for key in given if key in others)
        raise UserError(
            f"--resume goes on with the recipe of {folder}: remove {flags}, or start a new run."
        )
    if run.data:
        places = [real(data_folder(name, coarse=order.options.coarse)) for name in run.data]
        return order.moved(places, moved_val, run.source_options.root)
    if rundir.is_finished(folder):
        return order.moved((), moved_val, run.source_options.root)
    _check_pictures_named(folder, order)
    return order.moved((), moved_val, run.source_options.root)


def _check_pictures_named(folder: Path, order: Order) -> None:
    """`UserError` unless the pictures lie where the run recorded them."""
    if not (folder / rundir.DATA).is_file():
        raise UserError(
            f"--resume {folder}: the run stopped before it had recorded its pictures: expected "
            f"their folder with --data. (Its {rundir.LOCAL} names {shown(order.data)}.)"
        )
    if not all(place.exists() for place in (order.data, *order.more)):
        raise UserError(
            f"--resume {folder}: its pictures lay in {shown(order.data)}, where there is no folder "
            "now. If they moved, name their folder: python -m finetune --resume "
            f"{shell_path(folder)} --data FOLDER"
        )


def recorded_order(folder: Path) -> Order:
    """What the run in `folder` recorded of its order; `UserError` if no run began there."""
    if not (folder / rundir.LOCAL).is_file():
        raise UserError(
            f"--resume {folder}: expected a run folder started by python -m finetune; it has no "
            f"{rundir.LOCAL}."
        )
    rundir.check_folder(folder)
    with checks.of(folder / rundir.LOCAL, "Start a new run."):
        return Order.from_json(rundir.read_json(folder / rundir.LOCAL, kind=dict))
