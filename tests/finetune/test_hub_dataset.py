"""Data sets of the library datasets: saved, in Parquet files, and on a Hub that cannot be
reached."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from finetune.run_folder.named_folders import data_folder, readable_folder
from finetune.sources.class_folders import read_folders
from finetune.stored import hub_dataset, rows
from tests.finetune.made_pictures import contents, png
from zoo.host.errors import UserError

pytestmark = pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")
CLASSES = ["cat", "dog"]
EXPECTED = {
    f"{split}/{CLASSES[i % 2]}/{i:08}.png": png(i + first)
    for split, count, first in (("train", 6, 0), ("val", 2, 100), ("test", 2, 200))
    for i in range(count)
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))


def made(count: int, first: int = 0, *, image: str = "image", **others: object) -> Any:
    import datasets

    features = {image: datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
    table = {
        image: [{"bytes": png(i + first), "path": None} for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }
    for name, value in others.items():
        features[name], table[name] = datasets.Value("string"), [value] * count
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def made_splits() -> Any:
    import datasets

    return datasets.DatasetDict(
        {"train": made(6), "validation": made(2, 100), "test": made(2, 200), "extra": made(1, 300)}
    )


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if content}


def test_a_saved_one_keeps_splits_names_and_bytes(tmp_path: Path) -> None:
    made_splits().save_to_disk(tmp_path / "saved")
    before = contents(tmp_path / "saved")
    folder = readable_folder(str(tmp_path / "saved"))
    assert pictures(folder) == EXPECTED
    assert contents(tmp_path / "saved") == before
    assert set(read_folders(folder).files) == {"train", "val", "test"}


def test_parquet_files_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "pets" / "data").mkdir(parents=True)
    (tmp_path / "pets" / "README.md").write_text("pets")
    for split, data in made_splits().items():
        if split != "extra":
            data.to_parquet(tmp_path / "pets" / "data" / f"{split}-00000-of-00001.parquet")
    assert pictures(readable_folder(str(tmp_path / "pets"))) == EXPECTED


def test_one_split_gives_class_folders(tmp_path: Path) -> None:
    made(6, image="img", note="text").save_to_disk(tmp_path / "saved")
    folder = readable_folder(str(tmp_path / "saved"))
    assert pictures(folder) == {
        name.removeprefix("train/"): content
        for name, content in EXPECTED.items()
        if name.startswith("train/")
    }


def test_labels_that_are_text_or_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    table = {
        "image": [{"bytes": png(i), "path": None} for i in range(4)],
        "label": ["01", "1", None, "1"],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "saved")
    folder = readable_folder(str(tmp_path / "saved"))
    assert read_folders(folder).classes == ("01", "1")
    assert "1 of 4 pictures have no label" in capsys.readouterr().out


def test_a_table_without_pictures_is_none(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"path": ["a.png"], "label": ["a"]})
    data.to_parquet(tmp_path / "labels.parquet")
    assert not hub_dataset.is_hub_dataset(str(tmp_path))
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match="has the columns path, label: expected one of pictures"):
        rows.prepare(str(tmp_path / "saved"))


@pytest.mark.parametrize("name", ["../outside", ".hidden", "a/b", " "])
def test_a_class_has_a_name_that_a_folder_can_have(name: str, tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[name, "dog"])}
    )
    table = {"image": [{"bytes": png(0), "path": None}], "label": [0]}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match="expected a name that a folder can have"):
        rows.prepare(str(tmp_path / "saved"))
    assert not (tmp_path / "home" / "data" / "outside").exists()


@pytest.mark.parametrize(
    "name", ["hf://datasets/pets", "hf://models/org/name", "hf://datasets/a/b?c"]
)
def test_an_address_has_organisation_and_name(name: str) -> None:
    with pytest.raises(UserError, match="expected hf://datasets/org/name"):
        rows.prepare(name)


def test_without_a_network_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "hf://datasets/org/name@v1"
    assert data_folder(name).parent == tmp_path / "home" / "data"
    with pytest.raises(UserError, match="cannot reach the Hub for datasets/org/name"):
        readable_folder(name)
    assert not list((tmp_path / "home").rglob("*.tmp"))


def test_a_foreign_data_set_is_streamed_and_names_no_file_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from pyarrow import parquet

    place = tmp_path / "pets"
    place.mkdir()
    # what the Hub would send lies here
    monkeypatch.setattr(hub_dataset, "_on_the_hub", lambda name: (str(place), None, None))
    for split in ("train", "test"):
        made_splits()[split].to_parquet(place / f"{split}-00000-of-00001.parquet")
    folder = readable_folder("hf://datasets/org/pets")
    assert pictures(folder) == {
        name: content for name, content in EXPECTED.items() if not name.startswith("val/")
    }
    table = {"image": [{"bytes": None, "path": str(tmp_path / "secret")}], "label": [0]}
    data = datasets.Dataset.from_dict(table, features=made(1).features)
    (tmp_path / "secret").write_bytes(b"secret")
    # not by `to_parquet`, which would put the bytes of the file in
    parquet.write_table(data.data.table, place / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"cannot be read .*it names the file"):
        readable_folder("hf://datasets/org/others")


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(2).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"not installed .*pip install"):
        rows.prepare(str(tmp_path / "saved"))


def test_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    made(2).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "data-00000-of-00001.arrow").write_bytes(b"damaged")
    with pytest.raises(UserError, match="saved cannot be read"):
        rows.prepare(str(tmp_path / "saved"))
