"""`python -m finetune.compare --data PATH --bases A B --vary optimizer=sgd,adamw,sam --seeds 3`:
bases and settings on the same pictures, side by side.

Each cell is an ordinary run, so the same command goes on where it stopped. Nothing heavy is
imported until the command line is parsed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import MOST_UNREADABLE, Run
from finetune.studies import variation
from finetune.studies.variation import Cell
from zoo.contract import run_name
from zoo.host.errors import UserError, run_main


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what, and where."""

    data: Annotated[str, tyro.conf.arg(metavar="PATH")]
    """As --data of python -m finetune."""
    bases: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """Bases, each as --base of python -m finetune takes it; two or more, unless something is
    varied."""
    vary: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar="FLAG=A,B,C", help_behavior_hint=""),
    ] = ()
    """Values of a flag of a recipe, or of base: optimizer=sgd,adamw,sam. `auto` leaves a flag to
    the recipe; sam is SAM at 0.05 around the optimizer that the run has, sgd+sam around sgd; values
    with commas have semicolons between them. Given several times, one is varied at a time around
    the first value of each."""
    grid: bool = False
    """Vary all with all instead of one at a time."""
    seeds: Annotated[
        tuple[int, ...], tyro.conf.arg(metavar="N | SEED SEED ...", help_behavior_hint="")
    ] = ()
    """Train each row with N seeds, from 0 on, or with these."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for the runs and the comparison; default runs/DATA-compare."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int = -1
    """Processes that decode pictures; -1 = one per CPU core with a GPU, at most 16, else none."""
    bad_limit: float = MOST_UNREADABLE
    """As --bad-limit of python -m finetune."""

    def __post_init__(self) -> None:
        alike = len(set(map(self.folder_of, self.bases))) < len(self.bases)
        if alike or (len(self.bases) < 2 and not self.vary):
            raise UserError(
                f"--bases {' '.join(self.bases)}: expected two different bases or more, as in "
                "--bases resnet18_1k efficientnet_lite0, or a --vary, as in --vary "
                "optimizer=sgd,adamw."
            )
        if self.grid and len(self.vary) + (len(self.bases) > 1) < 2:
            raise UserError("--grid has no effect on one varied flag: remove it, or vary another.")

    @property
    def folder(self) -> Path:
        """Where the runs and the comparison stand."""
        return self.out or Path("runs") / run_name.default_name(self.data, "compare")

    def folder_of(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / run_name.default_name(self.data, name)

    def cells(self, given: Mapping[str, Any]) -> list[Cell]:
        """The runs with these settings besides those that are varied."""
        factors = variation.factors_of(self.bases, self.vary, given)
        seeds = variation.seeds_of(self.seeds, given)
        return variation.cells(factors, seeds, given, grid=self.grid)

    def run(self, cell: Cell) -> Run:
        """Where a cell is trained."""
        return Run(
            data=(self.data,),
            base=cell.base,
            out=self.folder_of(cell.name),
            device=self.device,
            workers=self.workers,
            bad_limit=self.bad_limit,
        )


def main(
    order: tyro.conf.OmitArgPrefixes[Comparison],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Fine-tune several bases, or one with several settings, on the same pictures and put them side
    by side: compare.html, compare.json, compare.csv and compare.md."""
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    compare(order, given_by(recipe, less_usual))


def compare(order: Comparison, given: Mapping[str, Any]) -> None:
    """Train what is not trained yet, then compare; under torchrun rank 0 alone compares and
    writes."""
    # a wrong value is an error now, not after hours of training
    cells = order.cells(given)
    from finetune.machine import distributed
    from finetune.pipeline import start
    from finetune.studies import cell_check
    from zoo.host import console

    runs = [(cell.label, order.run(cell), cell.given) for cell in cells]
    with distributed.joined_processes():
        cell_check.check_all(runs)
        for number, (label, run, settings) in enumerate(runs, 1):
            console.say(f"{number} of {len(runs)}: {label}", style="bold")
            with cell_check.labelled(label):
                start(run, settings)
            # rank 0 still writes the run when the others have done their part
            distributed.wait_for_first()
        if distributed.first():
            write_and_tell(order, cells)


def write_and_tell(order: Comparison, cells: Sequence[Cell]) -> None:
    """The files of the comparison and its table, from the finished runs."""
    from finetune.report import run_files
    from finetune.studies import comparison_page, comparison_table
    from finetune.studies.paired import side_by_side
    from zoo.host import console
    from zoo.host.text import shell_path

    runs = [run_files.read_run(order.folder_of(cell.name)) for cell in cells]
    numbers = side_by_side(runs, cells)
    comparison_page.write_comparison(order.folder, runs, numbers)
    comparison_table.write_tables(order.folder, numbers)
    comparison_table.say_table(numbers)
    console.say(f"tensorboard --logdir {shell_path(order.folder)}")
    console.say(f"side by side: {order.folder / comparison_page.PAGE}", style="bold green")


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune.compare", Comparison), joins=True)
