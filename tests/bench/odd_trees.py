"""The law of conservation on many made-up data folders: every entry is used, or left out with a
reason.

    python -m tests.bench.odd_trees --count 20000

The trees are those of tests/finetune/odd_trees.py, drawn anew for each seed. It ends with an error
at the first tree that breaks the law, made as small as it gets.
"""

from dataclasses import dataclass
from time import perf_counter, process_time

import tyro
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.finetune.odd_trees import Entry, Figures, check, entries


@dataclass(frozen=True)
class Order:
    """How many trees."""

    count: int = 20_000
    seed: int = 0


def main(order: Order) -> None:
    """Check the law and print what the trees held."""
    figures, began, cpu = Figures(), perf_counter(), process_time()

    @seed(order.seed)
    @settings(
        max_examples=order.count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(["plain", "plain", "splits"]), entries())
    def law(shape: str, wanted: list[Entry]) -> None:
        check(shape, wanted, figures)

    law()
    refused = figures.refused.total()
    print(
        f"{figures.trees:,} trees in {perf_counter() - began:.0f} s ({process_time() - cpu:.0f} s "
        f"of CPU), the slowest read in {figures.slowest_s:.3f} s; {refused:,} refused by a "
        "sentence, 0 tracebacks"
    )
    print(
        f"{figures.entries:,} entries in the other {figures.trees - refused:,}: {figures.used:,} "
        "used, " + ", ".join(f"{count:,} {kind}" for kind, count in figures.left_out.most_common())
    )
    for beginning, count in figures.refused.most_common(20):
        print(f"  {count:6,}  {beginning} ...")


if __name__ == "__main__":
    main(tyro.cli(Order, config=(tyro.conf.OmitArgPrefixes,)))
