"""Write the cards of the reference runs, and the numbers that they are made from, to
`model_cards/`.

python -m finetune --data digits --base efficientnet_lite0
python -m finetune --data emoji --base efficientnet_lite0        (tests/bench/make_emoji.py makes
the folder)
python -m tests.bench.reference_cards runs/digits-efficientnet_lite0 runs/emoji-efficientnet_lite0
"""

import argparse
import shutil
from pathlib import Path

from zoo.contract import rundir
from zoo.publish import card, picture_names, staging

CARDS = Path(__file__).parents[2] / "model_cards"
FIGURE = Path(rundir.FIGURES) / "reliability.svg"


def write(run: Path, into: Path) -> None:
    """The card of a finished run and what it was made from, without names of pictures and paths."""
    rundir.open_finished(run, verify=True)
    (into / FIGURE).parent.mkdir(parents=True, exist_ok=True)
    for name in staging.CLEANED:
        rundir.write_json(
            into / name, picture_names.without_pictures_of_run(name, rundir.read_json(run / name))
        )
    shutil.copyfile(run / rundir.DECISION, into / rundir.DECISION)
    shutil.copyfile(run / FIGURE, into / FIGURE)
    rundir.write_text(into / rundir.CARD, card.text(into))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    for run in parser.parse_args().runs:
        write(run, CARDS / run.resolve().name)


if __name__ == "__main__":
    main()
