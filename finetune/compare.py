"""`python -m finetune.compare --bases A B --data PATH`: several bases on the same pictures, side by
side.

Each base is an ordinary run, so the same command goes on where it stopped. Nothing heavy is
imported until the command line is parsed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import MOST_UNREADABLE, Run
from zoo.contract import run_name
from zoo.host.errors import UserError, run_main


@dataclass(frozen=True)
class Comparison:
    """Which bases, on what, and where."""

    bases: tuple[str, ...]
    """Two bases or more, each as --base of python -m finetune takes it."""
    data: Annotated[str, tyro.conf.arg(metavar="PATH")]
    """As --data of python -m finetune."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for the runs and the comparison; default runs/DATA-compare."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int = -1
    """Processes that decode pictures; -1 = one per CPU core with a GPU, at most 16, else none."""
    bad_limit: float = MOST_UNREADABLE
    """As --bad-limit of python -m finetune."""

    def __post_init__(self) -> None:
        if len(self.bases) < 2 or len(self.runs()) != len(self.bases):
            raise UserError(
                f"--bases {' '.join(self.bases)}: expected two different bases or more, as in "
                "--bases resnet18_1k efficientnet_lite0."
            )

    @property
    def folder(self) -> Path:
        """Where the runs and the comparison stand."""
        return self.out or Path("runs") / run_name.default_name(self.data, "compare")

    def runs(self) -> dict[Path, Run]:
        """Run folder -> run."""
        outs = {self.folder / run_name.default_name(self.data, base): base for base in self.bases}
        return {
            out: Run(
                data=self.data,
                base=base,
                out=out,
                device=self.device,
                workers=self.workers,
                bad_limit=self.bad_limit,
            )
            for out, base in outs.items()
        }


def main(
    order: tyro.conf.OmitArgPrefixes[Comparison],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Fine-tune several bases on the same pictures and put them side by side: compare.html and
    compare.json."""
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    compare(order, given_by(recipe, less_usual))


def compare(order: Comparison, given: Mapping[str, Any]) -> None:
    """Train what is not trained yet, then compare; under torchrun rank 0 alone compares and
    writes."""
    from finetune.machine import distributed
    from finetune.pipeline import start
    from finetune.run_folder.order import find_start
    from zoo.host import console

    # an unknown base is an error now, not after hours of training
    for base in order.bases:
        find_start(base, given)
    with distributed.joined_processes():
        for number, run in enumerate(order.runs().values(), 1):
            console.say(f"{number} of {len(order.bases)}: {run.base}", style="bold")
            start(run, given)
            # rank 0 still writes the run when the others have done their part
            distributed.wait_for_first()
        if distributed.first():
            write_and_tell(order)


def write_and_tell(order: Comparison) -> None:
    """compare.html, compare.json and the table, from the finished runs."""
    from finetune.report import run_files
    from finetune.studies import comparison_page
    from finetune.studies.paired import side_by_side
    from zoo.host import console

    runs = [run_files.read_run(out) for out in order.runs()]
    numbers = side_by_side(runs)
    comparison_page.write_comparison(order.folder, runs, numbers)
    for row in sorted(numbers["runs"], key=lambda row: -row["top1"]):
        low, high = row["top1_interval"]
        console.say(
            f"  {row['label']:<28} {numbers['split']} top-1 {row['top1']:.2%} ({low:.1%} to "
            f"{high:.1%})"
        )
    for pair in numbers["pairs"]:
        console.say(
            f"  {pair['second']} against {pair['first']}: {100 * pair['difference']:+z.2f} points, "
            f"p = {pair['p_value']:.2g}"
        )
    console.say(f"side by side: {order.folder / comparison_page.PAGE}", style="bold green")


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune.compare", Comparison), joins=True)
