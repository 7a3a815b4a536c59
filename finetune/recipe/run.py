"""Where a run happens: data, base, folder, device. Nothing here changes the weights except data and
base."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from finetune.recipe.source_options import SourceOptions
from zoo.contract import run_name
from zoo.host.errors import UserError

MOST_WORKERS = 256
"""More processes of some 300 MB each are a slip of the keyboard."""

MOST_UNREADABLE = 0.01
"""Share of the files in the class folders that may be no readable picture before a run stops;
`--bad-limit`."""


@dataclass(frozen=True)
class Run:
    """Where a run happens."""

    data: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar="PATH", help_behavior_hint=""),
    ] = ()
    """Pictures: class folders, or train/, val/, test/ with class folders; a table with paths and
    labels (.csv, .tsv, .jsonl, .parquet); an archive of these (.zip, .tar, .tar.gz), also at an
    address; CIFAR-10 or -100; WebDataset shards; hf://datasets/ORG/NAME; the three tars of
    ILSVRC2012; 'digits' is a built-in sample. Several --data are joined by the names of their
    classes; of the same picture under two labels, that of the later one counts."""
    base: str = "efficientnet_lite0"
    """Pretrained base: an alias of `python -m zoo list`, timm/NAME, hf-hub:ORG/NAME, or a finished
    run folder."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Run folder to write; default runs/DATA-BASE. Started again by the same command, an unfinished
    run goes on."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Continue this unfinished run folder; everything else is read from it. With --data if its
    pictures moved."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int = -1
    """Processes that decode pictures; -1 = one per CPU core with a GPU, at most 16, else none. It
    does not change the result; fewer are used where shared memory (/dev/shm) has no room for their
    batches."""
    bad_limit: float = MOST_UNREADABLE
    """Share of the files in the class folders that may be unreadable; they are left out. With more,
    nothing is trained."""
    columns: Annotated[str, tyro.conf.arg(metavar="ROLE=COLUMN,...", help_behavior_hint="")] = ""
    """Columns of a table where their names do not tell: path=, label=, split=, group=."""
    root: Annotated[str, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """Folder that the paths of a table are relative to; default the table's own."""
    group_by: Annotated[str, tyro.conf.arg(metavar="COLUMN|REGEX", help_behavior_hint="")] = ""
    """Pictures of one group (a patient, a scene) are never on two sides of a split: a column of the
    table, or a regular expression on the path, whose part in parentheses is the group."""
    labels: Annotated[
        Literal["fine", "coarse"],
        tyro.conf.arg(metavar="{fine,coarse}", help_behavior_hint=""),
    ] = "fine"
    """coarse: the 20 superclasses of CIFAR-100."""
    fix: Annotated[str, tyro.conf.arg(metavar="label_errors.csv", help_behavior_hint="")] = ""
    """Labels to use instead: the table of python -m finetune.check, after you looked through it. An
    empty cell under suggested leaves a picture out; remove the rows that are no errors."""
    advise: Annotated[
        tuple[Literal["apply"], int] | None, tyro.conf.arg(metavar="apply N", help_behavior_hint="")
    ] = None
    """apply N: up to N follow-up runs, each of which changes the best so far as its report
    advises."""

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            # a program that has one source need not make a tuple of it
            object.__setattr__(self, "data", (self.data,))
        if not -1 <= self.workers <= MOST_WORKERS:
            raise UserError(
                f"--workers {self.workers}: expected -1 (chosen here), or 0 to {MOST_WORKERS}."
            )
        if not 0 <= self.bad_limit <= 1:
            raise UserError(
                f"--bad-limit {self.bad_limit}: expected a share from 0 to 1, such as 0.05 for 5 %."
            )
        if self.advise is not None and not 1 <= self.advise[1] <= 100:
            raise UserError(f"--advise apply {self.advise[1]}: expected 1 to 100 follow-up runs.")
        if self.resume is None and not self.data:
            raise UserError(
                "--data is missing: expected a folder of pictures, or 'digits' for the built-in "
                "sample."
            )
        if self.resume is not None and (self.out, self.base) != (None, Run.base):
            raise UserError(
                "--resume continues a run folder with its own --base and --out: remove these."
            )
        if self.root and not Path(self.root).is_dir():
            raise UserError(
                f"--root {self.root}: expected the folder that the paths of the table are relative "
                "to, seen none."
            )
        given = self.source_options
        if self.resume is not None and given.to_json().keys() - {"root"}:
            raise UserError(
                "--resume finds its pictures as it did before: remove --columns, --group-by, "
                "--labels and --fix."
            )
        # for what they refuse
        assert given.column_of is not None
        assert given.pattern is not None

    @property
    def source_options(self) -> SourceOptions:
        """How the pictures are to be found, where looking at the source cannot tell."""
        root = str(Path(self.root).resolve()) if self.root else ""
        labels = self.labels if self.labels != Run.labels else ""
        fix = str(Path(self.fix).resolve()) if self.fix else ""
        return SourceOptions(self.columns, root, self.group_by, labels, fix)

    @property
    def folder(self) -> Path:
        """The run folder that this means."""
        if named := self.resume or self.out:
            return named
        return Path("runs") / run_name.default_name(self.data[0], self.base)
