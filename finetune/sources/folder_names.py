"""What the name of a folder says, whatever it holds: the split that it reminds of, and whether
people can tell it from another one."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from zoo.files.same_paths import nfc
from zoo.host.errors import UserError

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Name of a folder, in lower case -> the split that it is."""
_WORDS = {
    "train": (
        "train",
        "training",
        "trainning",
        "trainval",
        "xtrain",
        "trn",
        "tr",
        "learn",
        "development",
    ),
    "val": (
        "val",
        "valid",
        "validation",
        "validate",
        "dev",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
    ),
    "test": ("test", "testing", "xtest", "tst", "te", "ts"),
}
# what may follow: training_set, val_images
_AFTER = r"(?:s|sets?|splits?|dirs?|folders?|data|dataset|images?|imgs?|pics?|pictures?|photos?)?"
# pattern of any name that reminds of the split
_LIKE = {split: re.compile(f"(?:{'|'.join(words)}){_AFTER}") for split, words in _WORDS.items()}
_EQUAL_PART = re.compile(
    r"(?:k?fold|split|subset|dataset|partition|part|batch|set)[ _-]?"
    r"(?:\d{1,3}|[a-z]|one|two|three|four|five)|(?:19|20)\d\d",
    re.IGNORECASE,
)
"""Matches one of several equal parts: a fold, a batch, a year."""
_VARIATIONS = frozenset(map(chr, range(0xFE00, 0xFE10)))
"""Variation selectors: they choose between looks of the character before them, and show nothing."""
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Fillers of Hangul and the empty Braille pattern: letters to Unicode, blanks to the eye."""


def like_split(name: str) -> str | None:
    """Tell the split that a folder's name reminds of (`training_set`: train); empty for one of
    several equal parts (`fold1`, `2019`), None for any other name."""
    if _EQUAL_PART.fullmatch(name):
        return ""
    for part in parts(name):
        if split := _of_word(part):
            return split
    return None


def parts(name: str) -> list[str]:
    """Cut a name in snake_case, kebab-case or CamelCase into its parts, in lower case; digits end
    a part, as in val2017."""
    return list(map(str.lower, re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)))


def whole_split(name: str) -> str | None:
    """Tell the split that a name means as a whole: train_images does, train_station does not."""
    return _of_word("".join(parts(name)))


def _of_word(word: str) -> str | None:
    for split, pattern in _LIKE.items():
        if pattern.fullmatch(word):
            return split
    return None


def bare(name: str) -> str:
    """Reduce a name to what people see it: without case, Unicode form, characters that are not
    shown, and blanks or dots at its end."""
    visible = []
    for character in nfc(name):
        if character in _BLANK_LETTERS:
            visible.append(" ")
        # Cf: format characters without a shape, such as the zero-width joiner
        elif unicodedata.category(character) != "Cf" and character not in _VARIATIONS:
            visible.append(character)
    return " ".join("".join(visible).split()).rstrip(". ").casefold()


def by_bare_name(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Index names by `bare`: bare name -> name; `UserError` for a name of blanks only, and for two
    names that look the same."""
    name_of: dict[str, str] = {}
    for name in names:
        if not bare(name):
            raise UserError(
                f"{folder}: expected class names that can be seen, but {name!a} shows nothing. "
                "Rename the folder; its name becomes part of the model."
            )
        twin = name_of.setdefault(bare(name), name)
        if twin != name:
            raise UserError(
                f"{folder}: the class names {' and '.join(told_apart(twin, name))} differ only in "
                f"{difference(twin, name)}. Merge or rename one of them."
            )
    return name_of


def _folded(name: str) -> str:
    """Return a name without case and Unicode form."""
    return nfc(name).casefold()


def difference(first: str, second: str) -> str:
    """Say what two names of the same `bare` name differ in."""
    if _folded(first) == _folded(second):
        return "case or Unicode form"
    return "case, blanks, dots at the end, or characters that are not shown"


def told_apart(first: str, second: str) -> tuple[str, str]:
    """Show both names, with the code points of what is not ASCII if they look the same."""
    if _folded(first) != _folded(second) or nfc(first) == nfc(second):
        return ascii(first), ascii(second)
    return repr(first), repr(second)
