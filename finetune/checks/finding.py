"""What a check found: how much, examples, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.data.dataset import Data

MOST_EXAMPLES = 24
"""Examples of one check that are shown."""


@dataclass(frozen=True)
class Illustration:
    """Pictures that show a finding."""

    pictures: tuple[int, ...]
    """Indices into the pictures of the data."""
    note: str
    """What is to be seen in them."""


@dataclass(frozen=True)
class Finding:
    """The result of one check, also where it found nothing."""

    key: str
    """Name in `check.json`."""
    title: str
    count: int
    noun: str
    """What is counted, as in 'pair'."""
    sentence: str
    """What was looked for, in how much, and what was found."""
    action: str
    """What was done about it, and what to do; empty where nothing was found."""
    examples: tuple[Illustration, ...] = ()
    lines: tuple[str, ...] = ()
    """Findings without pictures, such as names of classes."""

    def to_json(self, data: Data) -> dict[str, Any]:
        """Give the finding as it stands in `check.json`."""
        examples = []
        for example in self.examples:
            paths = [data.pictures[index].path for index in example.pictures]
            examples.append({"pictures": paths, "note": example.note})
        return {
            "title": self.title,
            "count": self.count,
            "of": self.noun,
            "sentence": self.sentence,
            "action": self.action,
            "examples": examples,
            "lines": list(self.lines),
        }


def path_shown(data: Data, index: int) -> str:
    """Name a picture's class and split, as in 'cat, val'."""
    picture = data.pictures[index]
    return f"{data.classes[picture.label]}, {picture.split}"


def first(examples: Sequence[Illustration]) -> tuple[Illustration, ...]:
    """Keep as many examples as are shown."""
    return tuple(examples[:MOST_EXAMPLES])
