"""The checks of the data: planted faults are found, and pictures without faults raise no alarm."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image, ImageFilter

from finetune import check, check_page
from finetune.checks import class_sizes, copies, odd_pictures, packages, shortcuts
from finetune.checks.answers import ProbeAnswers
from finetune.checks.camera import camera
from finetune.checks.features import Features
from finetune.checks.likeness import likeness, looks
from finetune.checks.measures import measure_all
from finetune.checks.near_duplicates import HASH_BITS, Pair, joined
from finetune.checks.survey import Survey
from finetune.data.dataset import Data
from finetune.data.picture_columns import Picture
from finetune.data.scanning import scan
from finetune.sources.class_folders import read_folders
from tests import planted_faults
from tests.bench.check import surveyed
from tests.bench.picture_sets import write_set
from tests.finetune.made_pictures import contents
from zoo.host.errors import UserError

COUNTS = {"train": 50, "val": 10, "test": 10}
PLANTED = 40
SIDE = 96
"""In pixels."""


def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    """Letters, larger sets and two seeds are in tests/bench/check.py."""
    root = write_set("digits", Path(), tmp_path / "digits", COUNTS)
    moved = planted_faults.flipped_labels(root, 0.05)
    planted = planted_faults.near_duplicates(root, PLANTED)
    survey = surveyed(root, SIDE)
    by_key = {finding.key: finding for finding in survey.findings}
    assert_near_duplicates(survey, set(planted))
    assert by_key["leaks"].count >= 0.9 * PLANTED
    assert "remove the copies in train" in by_key["leaks"].action
    # copies of a picture with a wrong label have it too
    copied = {path for pair in planted if pair & moved for path in pair}
    assert_label_errors(survey, moved, copied)
    assert by_key["shortcuts"].lines == ()
    assert by_key["same_classes"].count == 0


def assert_near_duplicates(survey: Survey, planted: set[frozenset[str]]) -> None:
    pictures = survey.data.pictures
    found = {
        frozenset((pictures[pair.first].path, pictures[pair.second].path)) for pair in survey.pairs
    }
    possible = len(pictures) * (len(pictures) - 1) / 2
    assert len(found & planted) >= 0.9 * PLANTED
    assert len(found - planted) < possible / 10_000


def assert_label_errors(survey: Survey, moved: set[str], copied: set[str]) -> None:
    found = {survey.data.pictures[suspect.index].path for suspect in survey.suspects}
    assert len(found & moved) >= 0.7 * len(moved)
    assert len(found & (moved | copied)) >= 0.8 * len(found)


def test_planted_shortcuts_are_named(tmp_path: Path) -> None:
    root = write_set("digits", Path(), tmp_path / "data", {"train": 20, "val": 5, "test": 5})
    planted_faults.coloured_border(root, "3")
    planted_faults.camera_model(root, "5")
    result = surveyed(root, 64)
    found = shortcuts.find_shortcuts(result.data, result.measures, result.features, result.answers)
    named = {(shortcut.clue, shortcut.label) for shortcut in found}
    assert named == {("border colour", 3), ("EXIF camera", 5)}
    lines = " ".join({finding.key: finding for finding in result.findings}["shortcuts"].lines)
    assert "border colour gives class 3 away" in lines
    assert "EXIF camera gives class 5 away" in lines


def test_the_command_writes_its_page_and_leaves_the_data_alone(
    digits: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(digits)
    out = tmp_path / "out"
    words = ["--data", str(digits), "--base", str(tiny_base), "--device", "cpu", "--threads", "1"]
    written = []
    for _ in range(2):  # the second one replaces the first, and finds the same
        tyro.cli(
            check.main,
            args=[*words, "--out", str(out)],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        content = json.loads((out / "check.json").read_text())
        assert content.pop("expected")["minutes"] >= 0
        written.append(content)
    assert written[0] == written[1]
    assert contents(digits) == before
    assert {path.name for path in out.iterdir()} == {
        "check.html",
        "check.json",
        "label_errors.csv",
        "near_duplicates.csv",
    }
    assert set(written[0]["checks"]) >= {"leaks", "two_labels", "label_errors", "shortcuts"}
    page = (out / "check.html").read_text()
    assert "<script" not in page
    assert "Near duplicates across splits" in page
    told = capsys.readouterr().out
    assert "train        100 pictures of 10 classes" in told
    assert "expected: " in told
    assert f"page: {out / check_page.PAGE}" in told


def test_wrong_orders(digits: Path, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for words, message in (
        (["--out", str(digits / "new")], "which a check never changes"),
        (["--out", str(tmp_path / "full")], "holds something else .for example mine.txt"),
        (["--from-scratch"], "--from-scratch has no effect"),
        (["--advise", "apply", "1"], "--advise has no effect"),
    ):
        with pytest.raises(UserError, match=message):
            tyro.cli(
                check.main,
                args=["--data", str(digits), "--base", str(tiny_base), *words],
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    assert not (digits / "new").exists()


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs cleanlab and imagehash: pip install \"zootune"):
        packages.require(*packages.EXTRA)


def test_hashes_are_joined_as_a_look_at_all_pairs_would() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 300, np.uint64)
    for bits in range(1, 100):  # turn up to nine bits over in copies
        changed = int(hashes[bits])
        for place in random.permutation(64)[: bits % 10].tolist():
            changed ^= 1 << place
        hashes[-bits] = changed
    apart = np.bitwise_count(hashes[:, None] ^ hashes)
    expected = {(i, j) for i, j in np.argwhere(apart <= HASH_BITS).tolist() if i < j}
    assert len(expected) > 50
    assert set(joined(hashes, hashes)) == expected


def test_the_camera_is_read_within_bounds() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "EOS 80D"
    block = exif.tobytes()
    assert camera(b"\xff\xd8\xff\xe1.." + block) == "Canon EOS 80D"
    for end in range(len(block)):
        camera(b"\xff\xd8" + block[:end])
    for place in range(6, len(block)):
        camera(block[:place] + b"\xff" + block[place + 1 :])
    assert camera(b"\x89PNG no block") == ""


def drawing(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture of coloured noise, smooth enough to survive a resize."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def test_likeness_tells_how_two_pictures_are_related() -> None:
    one = drawing(0)
    assert likeness(looks(one), looks(one.resize((50, 40))))[1] == "as it is"
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert likeness(looks(one), looks(mirrored))[1] == "mirrored"
    for pair in ((one, one.crop((13, 5, 90, 82))), (one.crop((0, 19, 77, 96)), one)):
        value, relation = likeness(*map(looks, pair))
        assert relation == "cut"
        assert value > 0.96
    assert likeness(looks(one), looks(drawing(1)))[0] < 0.8
    assert likeness(looks(Image.new("RGB", (9, 9))), looks(Image.new("RGB", (9, 9), "red")))[0] == 0


def made_data(root: Path, pictures: Mapping[str, Image.Image]) -> Data:
    """Two classes of 30 usual drawings, and these pictures in one of them."""
    for label in "ab":
        for number in range(30):
            path = root / "train" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawing(100 * (label == "b") + number).save(path)
    shutil.copytree(root / "train", root / "val")
    for path in (root / "val").rglob("*.png"):
        drawing(1000 + int(path.stem) + 100 * (path.parent.name == "b")).save(path)
    for name, picture in pictures.items():
        picture.save(root / "train" / "a" / name)
    return scan(read_folders(root))


def test_odd_pictures_are_named(tmp_path: Path) -> None:
    odd = {
        "flat.png": Image.new("RGB", (96, 96), (90, 91, 92)),
        "huge.png": drawing(7, (500, 500)),
        "long.png": drawing(8, (300, 60)),
        "soft.png": Image.effect_noise((96, 96), 90)
        .convert("RGB")
        .filter(ImageFilter.GaussianBlur(30)),
    }
    odd["soft.png"] = Image.linear_gradient("L").resize((96, 96)).convert("RGB")
    data = made_data(tmp_path / "data", odd)
    measures = measure_all(data, 1)

    def names(finding: object) -> list[str]:
        return [
            Path(data.pictures[example.pictures[0]].path).name
            for example in finding.examples  # type: ignore[attr-defined]
        ]

    assert names(odd_pictures.uniform(data, measures)) == ["flat.png"]
    assert sorted(names(odd_pictures.odd_sizes(data))) == ["huge.png", "long.png"]
    assert names(odd_pictures.blurred(data, measures))[0] in ("huge.png", "soft.png")


def made_features(x_ND: np.ndarray) -> tuple[Data, Features]:
    """Pictures of class a and b in turn, with these features."""
    pictures = tuple(
        Picture(f"train/{n}.png", n % 2, "train", f"{n:064x}", 64, 64) for n in range(len(x_ND))
    )
    data = Data(Path(), ("a", "b"), pictures, (), ())
    return data, Features(tuple(range(len(x_ND))), x_ND.astype(np.float32))


def test_a_far_picture_is_an_outlier() -> None:
    x_ND = np.random.default_rng(0).normal(size=(200, 16))
    x_ND[:, 0] += 8 * (np.arange(200) % 2)
    x_ND[17] = -30 * np.eye(16)[3]
    data, features = made_features(x_ND)
    found = odd_pictures.outliers(data, features)
    assert [example.pictures for example in found.examples] == [(17,)]


def test_classes_that_cannot_be_told_apart_are_named() -> None:
    random = np.random.default_rng(0)
    data, features = made_features(random.normal(size=(400, 4)))
    labels = np.arange(400) % 2
    guesses = random.dirichlet((1, 1), 400).astype(np.float32)
    found = class_sizes.confused(data, features, ProbeAnswers(labels, guesses))
    assert found.count == 1
    assert found.lines[0].startswith("a and b: told apart in ")
    sure = np.eye(2, dtype=np.float32)[labels]
    assert class_sizes.confused(data, features, ProbeAnswers(labels, sure)).count == 0


def test_small_and_uneven_classes_are_named() -> None:
    labels = (0,) * 200 + (1,) * 9
    pictures = tuple(
        Picture(f"{n}.png", label, "train", f"{n:064x}", 8, 8) for n, label in enumerate(labels)
    )
    data = Data(Path(), ("many", "rare"), pictures, (), ())
    assert class_sizes.few(data).lines == ("rare: 9",)
    assert class_sizes.imbalance(data).count == 1
    assert "22.2 times" in class_sizes.imbalance(data).sentence
    even = replace(data, pictures=tuple(p._replace(label=i % 2) for i, p in enumerate(pictures)))
    assert class_sizes.imbalance(even).count == class_sizes.few(even).count == 0


def test_pairs_are_sorted_by_what_they_mean() -> None:
    pictures = tuple(
        Picture(f"{n}.png", label, split, f"{n:064x}", 8, 8)
        for n, (label, split) in enumerate(
            ((0, "train"), (0, "train"), (0, "val"), (1, "train"), (1, "test"))
        )
    )
    data = Data(Path(), ("a", "b"), pictures, (), ())
    features = Features(tuple(range(5)), np.eye(5, dtype=np.float32))
    pairs = [Pair(*both, "cut", 0.9, 0.99) for both in ((0, 1), (0, 2), (0, 3), (3, 4), (2, 4))]
    assert copies.near_duplicates(data, features, pairs).count == 1
    assert copies.leaks(data, pairs).count == 3
    assert copies.two_labels(data, pairs).count == 2
    assert "2 pictures of val and test" in copies.leaks(data, pairs).sentence
