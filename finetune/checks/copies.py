"""Findings about pictures that are there more than once."""

from collections.abc import Sequence

from finetune.checks.features import Features
from finetune.checks.finding import Finding, Illustration, first, path_shown
from finetune.checks.near_duplicates import Pair
from finetune.data.dataset import Data

_RELATIONS = {
    "as it is": "the same view",
    "mirrored": "mirrored",
    "cut": "one is a part of the other",
}


def found_by_scan(data: Data) -> Finding:
    """Report what reading the pictures has found: equal bytes, and what cannot be read."""
    return Finding(
        "exact",
        "Equal bytes, unreadable files",
        len(data.unused),
        "file",
        f"Every file was read and decoded once. {len(data.unused):,} entries of the data are not "
        "used.",
        "A run leaves them out in the same way, and lists each with its reason in left_out.csv."
        if data.unused
        else "",
        lines=data.findings,
    )


def near_duplicates(data: Data, features: Features, pairs: Sequence[Pair]) -> Finding:
    """Report pairs within one split and one class."""
    kept = [pair for pair in pairs if not _crosses(data, pair) and _one_label(data, pair)]
    looked = (
        "Pictures that show the same: re-encoded, resized, brighter or darker, mirrored, or one "
        "cut out of the other, by a perceptual hash, the base's features and the pixels."
    )
    if len(features.indices) < len(data.pictures):
        looked += (
            f" Parts were looked for among {len(features.indices):,} of the "
            f"{len(data.pictures):,} pictures."
        )
    return Finding(
        "near_duplicates",
        "Near duplicates within a split",
        len(kept),
        "pair",
        looked,
        "Nothing was changed. Copies in train weigh more than other pictures, and copies in val "
        "or test count twice: remove one of each pair (near_duplicates.csv lists them)."
        if kept
        else "",
        _examples(data, kept),
    )


def leaks(data: Data, pairs: Sequence[Pair]) -> Finding:
    """Report pairs of which one picture is learned from and the other one judges."""
    kept = [pair for pair in pairs if _crosses(data, pair)]
    judges = {index for pair in kept for index in _judges(data, pair)}
    return Finding(
        "leaks",
        "Near duplicates across splits",
        len(kept),
        "pair",
        f"{len(judges):,} pictures of val and test have a near duplicate in another split.",
        "Nothing was changed, so the accuracy would be too high by what was learned by heart: "
        "remove the copies in train (near_duplicates.csv lists them)."
        if kept
        else "",
        _examples(data, kept),
    )


def two_labels(data: Data, pairs: Sequence[Pair]) -> Finding:
    """Report pairs that stand under two classes."""
    kept = [pair for pair in pairs if not _one_label(data, pair)]
    return Finding(
        "two_labels",
        "The same picture under two labels",
        len(kept),
        "pair",
        "Near duplicates whose labels differ, in any split.",
        "Nothing was changed. One label of each is wrong, or the classes overlap: move or remove "
        "the picture."
        if kept
        else "",
        _examples(data, kept),
    )


def _crosses(data: Data, pair: Pair) -> bool:
    return data.pictures[pair.first].split != data.pictures[pair.second].split


def _one_label(data: Data, pair: Pair) -> bool:
    return data.pictures[pair.first].label == data.pictures[pair.second].label


def _judges(data: Data, pair: Pair) -> list[int]:
    both = (pair.first, pair.second)
    return [index for index in both if data.pictures[index].split != "train"]


def _examples(data: Data, pairs: Sequence[Pair]) -> tuple[Illustration, ...]:
    examples = []
    for pair in pairs:
        note = f"{path_shown(data, pair.first)} | {path_shown(data, pair.second)}"
        examples.append(
            Illustration((pair.first, pair.second), f"{note} ({_RELATIONS[pair.relation]})")
        )
    return first(examples)
