"""Planted faults and the checks that have to find them, on several sets of pictures.

`python -m tests.bench.check --out /tmp/check --emoji FOLDER` plants near duplicates, wrong labels,
a border and a camera in each set, and prints a row of RESULTS.md for each.
"""

import argparse
import dataclasses
import shutil
import time
from pathlib import Path

from finetune.checks import shortcuts
from finetune.checks.survey import Survey, survey
from finetune.data.loader import PictureSource
from finetune.data.scanning import scan
from finetune.sources.class_folders import read_folders
from tests import planted_faults
from tests.bench.picture_sets import write_set
from zoo.bases.catalog import find_base
from zoo.network import weights
from zoo.network.build import build_network
from zoo.picture.preprocess import Preprocessing

COUNTS = {"train": 60, "val": 15, "test": 15}
PLANTED = 40


def surveyed(root: Path, side: int) -> Survey:
    """What the checks find in a folder, by the features of the offline base at this side."""
    base = find_base("efficientnet_lite0")
    data = scan(read_folders(root))
    model = build_network(
        base,
        data.classes,
        image_size=side,
        drop_path=0.0,
        dropout=0.0,
        fetched=weights.fetch(base),
    )
    pre = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    pre = dataclasses.replace(pre, size=side, crop_mode="squash", crop_pct=1.0)
    source = PictureSource(data.root, pre, 0, False)
    return survey(model, data, source, precision="fp32", processes=1)


def near_duplicates(root: Path, side: int) -> str:
    """Recall of planted pairs by kind, and other pairs in 10,000 possible ones."""
    planted = planted_faults.near_duplicates(root, PLANTED)
    result = surveyed(root, side)
    pictures = result.data.pictures
    found = {
        frozenset((pictures[pair.first].path, pictures[pair.second].path)) for pair in result.pairs
    }
    missed = sorted(kind for pair, kind in planted.items() if pair not in found)
    others = len(found - set(planted))
    possible = len(pictures) * (len(pictures) - 1) / 2
    alarms = len(
        shortcuts.find_shortcuts(result.data, result.measures, result.features, result.answers)
    )
    return (
        f"{len(found & set(planted))} of {PLANTED} ({', '.join(missed) or 'none missed'}) | "
        f"{others} ({1e4 * others / possible:.2f}) | {alarms}"
    )


def wrong_labels(root: Path, side: int) -> str:
    """Recall and precision of flipped labels."""
    moved = planted_faults.flipped_labels(root, 0.05)
    result = surveyed(root, side)
    found = {result.data.pictures[suspect.index].path for suspect in result.suspects}
    right = len(found & moved)
    return f"{right / len(moved):.2f} | {right / max(1, len(found)):.2f} ({len(found)})"


def shortcut(root: Path, side: int) -> str:
    """What is named after a border, and after a camera, were planted in one class."""
    names = []
    label = sorted(path.name for path in (root / "train").iterdir())[3]
    for plant in (planted_faults.coloured_border, planted_faults.camera_model):
        copy = root.with_name(f"{root.name}-{plant.__name__}")
        shutil.copytree(root, copy)
        plant(copy, label)
        result = surveyed(copy, side)
        found = shortcuts.find_shortcuts(
            result.data, result.measures, result.features, result.answers
        )
        for named in found:
            whose = "all" if named.label is None else result.data.classes[named.label]
            names.append(f"{named.clue} of {whose}{'' if whose == label else ' (!)'}")
    return "; ".join(names)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emoji", type=Path, default=Path())
    parser.add_argument("--sets", nargs="+", default=["digits", "letters", "emoji", "photos"])
    parser.add_argument("--side", type=int, default=64)
    arguments = parser.parse_args()
    print("| set | near duplicates found | others (in 10,000) | false shortcuts | recall | "
          "precision (named) | shortcuts named | s |")  # fmt: skip
    for name in arguments.sets:
        began = time.process_time()
        cells = []
        for measure in (near_duplicates, wrong_labels, shortcut):
            root = arguments.out / f"{name}-{measure.__name__}"
            write_set(name, arguments.emoji, root, COUNTS)
            cells.append(measure(root, arguments.side))
        seconds = time.process_time() - began
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
