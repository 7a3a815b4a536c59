"""The file that the server of ILSVRC2012 takes: five class numbers for each test picture."""

from collections.abc import Sequence
from pathlib import Path

from finetune.evaluation.predictions_csv import split_names
from finetune.prediction.answer_folder import SUBMISSION
from finetune.prediction.answering import HEADER, UNREADABLE
from finetune.sources.imagenet_tars import DEVKIT
from finetune.sources.imagenet_test_tar import class_numbers
from zoo.files import tables
from zoo.host import console, disk

LABELS_OF_A_LINE = 5


def write_submission(folder: Path, table: Path, tar: Path, classes: Sequence[str]) -> None:
    """Write `submission.txt`, a line for each picture in the order of their numbers; or say why
    not."""
    numbers = class_numbers(tar.parent)
    if numbers is None:
        console.say(f"no {SUBMISSION}: {DEVKIT}, which numbers the classes, is not beside {tar}")
        return
    if not set(classes) <= set(numbers):
        console.say(f"no {SUBMISSION}: the classes of the run are not the WordNet ids of {DEVKIT}")
        return
    default = list(map(str, sorted(numbers.values())[:LABELS_OF_A_LINE]))
    lines, unreadable = [], 0
    for row in tables.rows(table, HEADER):
        if row[UNREADABLE]:
            # the server counts lines, so a picture without an answer needs some
            unreadable += 1
            lines.append(" ".join(default))
        else:
            names = split_names(row["top5"])
            lines.append(" ".join(str(numbers[name]) for name in names))
    text = "".join(f"{line}\n" for line in lines)
    disk.write_whole(
        folder / SUBMISSION, lambda temporary: temporary.write_text(text, encoding="ascii")
    )
    console.say(f"for the server of ILSVRC2012: {folder / SUBMISSION}")
    if unreadable:
        console.warn(
            f"{unreadable:,} lines of it are {' '.join(default)}, of pictures without an answer"
        )
