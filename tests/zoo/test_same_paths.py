"""A recorded picture is found in a copy whose names have the other Unicode form, and nothing else
is taken for it."""

import unicodedata
from pathlib import Path

import pytest

from zoo.files.same_paths import located

NAMES = [
    "caf\u00e9/\u00e9.png",
    "train/cr\u00eape/\u1e69\u0323.png",
    "\uac00/1.png",
    "../caf\u00e9/1.png",
    "plain/1.png",
]


@pytest.mark.parametrize("recorded", ["NFC", "NFD"])
@pytest.mark.parametrize("copied", ["NFC", "NFD"])
@pytest.mark.parametrize("name", NAMES)
def test_it_lies_where_its_name_is_the_same_in_nfc(
    tmp_path: Path, name: str, copied: str, recorded: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    there = root / unicodedata.normalize(copied, name)
    path = unicodedata.normalize(recorded, name)
    assert located(root, path) == root / path  # nothing is there yet
    there.parent.mkdir(parents=True, exist_ok=True)
    there.with_name("other.png").touch()
    assert located(root, path).name == unicodedata.normalize(recorded, there.name)
    there.touch()
    assert located(root, path) == there
    exact = root / path
    exact.parent.mkdir(parents=True, exist_ok=True)
    exact.touch()
    assert located(root, path) == exact  # of two, the one that is spelt as recorded
