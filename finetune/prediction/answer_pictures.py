"""The order of events of `python -m finetune.predict`: list pictures, answer them, count, sort."""

from pathlib import Path
from typing import Any

import torch

from finetune.data.left_out import write_left_out
from finetune.data.loader import PictureSource
from finetune.machine import device as devices
from finetune.machine import disk_space
from finetune.prediction.answer_folder import SUMMARY, AnswerFolder, claimed
from finetune.prediction.answering import answered
from finetune.prediction.asked import Asked, asked_pictures
from finetune.prediction.finished_network import open_answerer
from finetune.prediction.known_pictures import KnownPictures
from finetune.prediction.request import Request
from finetune.prediction.sorted_copies import Sorting, class_folders, sort_pictures
from finetune.prediction.submission import write_submission
from finetune.prediction.summary import summary_json, summary_lines, tally
from zoo.contract import rundir
from zoo.contract.finished_run import FinishedRun
from zoo.host import console, disk
from zoo.host.errors import UserError


def answer_pictures(request: Request) -> None:
    """Answer all pictures that are asked for, or those that an earlier start left."""
    rundir.open_finished(request.run)
    classes = FinishedRun(request.run).labels
    with console.busy("listing pictures"):
        asked = asked_pictures(request, classes)
        digest = asked.digest(rundir.finished_sha256(request.run))
    _check_places(request, asked, classes)
    if asked.note:
        console.warn(asked.note)
    with (
        disk_space.room_needed(request.place),
        claimed(request.place, digest, threads=devices.compute_threads()) as answers,
    ):
        if answers.complete:
            console.say(f"{answers.folder} is complete: no picture is answered again")
        else:
            _answer(request, asked, answers)
            _finish(asked, answers, classes)
        content = answers.read_summary()
    _say(request, content)
    if (tar := asked.contents.tar) is not None:
        write_submission(request.place, request.place / rundir.PREDICTIONS, tar, classes)
    if request.to_folders is not None:
        _sort(request, asked, classes)
    if content["unreadable"] == content["pictures"]:
        raise UserError(
            f"none of the {content['pictures']:,} files can be read as a picture: expected JPEG, "
            f"PNG, WebP or another usual format; {request.place / rundir.LEFT_OUT} has the reasons."
        )


def _answer(request: Request, asked: Asked, answers: AnswerFolder) -> None:
    """Append the rows of all pictures that have none yet."""
    answerer = open_answerer(request.run, request.device)
    torch.set_num_threads(answers.threads)
    source = PictureSource(
        asked.contents.root,
        answerer.pre,
        devices.decoders(request.workers, answerer.device),
        pin=answerer.device.type == "cuda",
    )
    known = KnownPictures.of(request.run)
    if answers.done:
        console.say(f"going on after {answers.done:,} of {len(asked):,} pictures")
    with (
        answers.rows_file() as file,
        console.bar("answering", len(asked), done=answers.done) as advance,
    ):
        for rows in answered(answerer, asked, source, known, first=answers.done):
            answers.append(file, rows)
            advance(len(rows))
        answers.save(file, answers.done)


def _finish(asked: Asked, answers: AnswerFolder, classes: list[str]) -> None:
    with console.busy("counting answers"):
        found = tally(answers.table, classes)
    write_left_out(answers.folder / rundir.LEFT_OUT, (*found.unreadable, *asked.unused))
    answers.finish(summary_json(found, classes))


def _sort(request: Request, asked: Asked, classes: list[str]) -> None:
    target = request.to_folders
    assert target is not None
    sorting = Sorting(asked.contents.root, target, request.link)
    with disk_space.room_needed(target), disk.right_needed(target):
        table = request.place / rundir.PREDICTIONS
        count = sort_pictures(sorting, table, classes, total=len(asked))
    kind = "links to" if request.link else "copies of"
    console.say(f"{kind} {count:,} pictures: {target}")


def _say(request: Request, content: dict[str, Any]) -> None:
    for line in summary_lines(content):
        console.say(line)
    console.say(f"every answer: {request.place / rundir.PREDICTIONS}; the numbers: {SUMMARY}")
    left_out = request.place / rundir.LEFT_OUT
    if left_out.is_file():
        console.say(f"every file that was not answered, with its reason: {left_out}")


def _check_places(request: Request, asked: Asked, classes: list[str]) -> None:
    """`UserError` where anything would be written among the user's pictures, or into the run."""
    out, run, root = request.place.resolve(), request.run.resolve(), asked.contents.root.resolve()
    if out == run or _in(out, run):
        raise UserError(f"--out {request.place} is in the run folder: choose another place.")
    if asked.whole_folder and (_in(out, root) or _in(root, out)):
        raise UserError(
            f"--out {request.place} and --data {root} lie in each other: expected a folder apart "
            "from the pictures. Choose another --out."
        )
    if request.to_folders is None:
        return
    if asked.contents.tar is not None:
        raise UserError(
            f"--to-folders takes pictures that are files, and those of {request.data[0]} are in a "
            "tar. Unpack it, and name the folder with --data."
        )
    target = request.to_folders.resolve()
    if _in(target, run) or _in(target, out):
        raise UserError(
            f"--to-folders {request.to_folders} is in the run folder or in {request.place}: choose "
            "another place."
        )
    places = [target / name for name in class_folders(classes).values()]
    if asked.whole_folder and any(_in(place, root) or _in(root, place) for place in places):
        raise UserError(
            f"--to-folders {request.to_folders} would write into {root}, where the pictures are: "
            "expected a folder apart from them."
        )


def _in(path: Path, folder: Path) -> bool:
    """Tell whether a path is this folder or lies below it."""
    return path == folder or folder in path.parents
