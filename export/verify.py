"""`python -m export.verify BUNDLE --data FOLDER`: does a bundle answer here as it did where it was
made, and how good is it on a labelled folder? Needs ONNX Runtime, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from export.proof import labelled_folder
from zoo.answer.predict import Predictor
from zoo.answer.self_check import by_examples, limit
from zoo.contract import swaps
from zoo.contract.bundle import Bundle, open_bundle
from zoo.host import console
from zoo.host.errors import BadImage, run_main


@dataclass(frozen=True)
class VerifyOptions:
    """What to verify, and on what."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A bundle folder, or a run folder that has one."""
    data: Path | None = None
    """Folder with one folder of pictures for each class, named like the class; or with val or test
    of such folders."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime computes; cuda that cannot be had is an error."""


@dataclass(frozen=True)
class Result:
    """How a bundle does on a labelled folder."""

    pictures: int
    right: int
    """The most probable class is the folder's name."""
    unknown: int
    """Called unknown, whatever the most probable class."""
    unreadable: tuple[str, ...]


def main(verify: tyro.conf.OmitArgPrefixes[VerifyOptions]) -> int:
    """Answer a bundle's examples again, and evaluate it on a labelled folder. Exit code 1 if an
    example differs."""
    predictor, worst = swaps.read_between(verify.bundle, lambda: _answered_again(verify))
    bundle, accepted = predictor.bundle, limit(predictor.bundle)
    finding = "unchanged; it has no examples"
    if worst is not None:
        finding = (
            f"unchanged, on {predictor.provider}; examples differ by at most {worst:.2g} "
            f"(limit {accepted})"
        )
    console.say(f"{bundle.folder}: {finding}")
    if verify.data:
        say(evaluate(predictor, verify.data, bundle.labels), verify.data)
    # `not <=`, so that NaN differs too
    differs = worst is not None and not worst <= accepted
    return int(differs)


def _answered_again(verify: VerifyOptions) -> tuple[Predictor, float | None]:
    """The loaded bundle, and how far its examples are from what the export wrote down."""
    bundle = open_bundle(verify.bundle)
    # unchecked, because the check is what this command does, and it reports where `Predictor`
    # refuses
    predictor = Predictor(bundle, provider=verify.provider, check=False)
    return predictor, check_examples(bundle, predictor)


def check_examples(bundle: Bundle, predictor: Predictor) -> float | None:
    """Return the largest difference of a probability or unknown score from what the export wrote
    down; nan if one is none, and None without examples."""
    differences = [picture.worst for picture in by_examples(bundle, predictor.numbers)]
    # np.max, which keeps NaN where max() may lose it
    return float(np.max(differences)) if differences else None


def evaluate(predictor: Predictor, data: Path, labels: Sequence[str]) -> Result:
    """Answer every picture of a folder of class folders; `UserError` if a folder is no class of the
    bundle."""
    files = labelled_folder.read_labels(data, labels)
    right = unknown = answered = 0
    unreadable = []
    for name, label in console.track(list(files.items()), "answering"):
        try:
            answer = predictor.predict(data / name).answer
        # of a labelled folder one broken picture must not end the evaluation
        except BadImage as error:
            unreadable.append(str(error))
            continue
        answered += 1
        right += answer.top[0][0] == label
        unknown += answer.label is None
    return Result(answered, right, unknown, tuple(unreadable))


def say(result: Result, data: Path) -> None:
    """Print the result in words."""
    for reason in result.unreadable:
        console.warn(f"left out: {reason}")
    share = "undefined"
    if result.pictures:
        share = f"{result.right / result.pictures:.2%}"
    console.say(
        f"{data}: top-1 {share} of {result.pictures} pictures; {result.unknown} called unknown"
    )


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m export.verify"))
