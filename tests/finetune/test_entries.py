"""Nothing in a data folder is lost in silence: the law on many made-up trees, and rows for what
people really have."""

import itertools
import os
import re
import shlex
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetune.data import left_out, reading
from finetune.data.dataset import Data, Picture
from finetune.data.held_out import split
from finetune.data.scanning import scan
from finetune.sources.class_folders import read_folders
from finetune.sources.folder_names import like_split
from tests.bad_pictures import ODD, encode, photo
from tests.finetune.made_pictures import png, rows, write_classes
from tests.finetune.odd_trees import Entry, Figures, assert_conserved, check, entries, nobody
from zoo.host.errors import UserError
from zoo.picture import opened

PAIR = {"cat": 3, "dog": 3}
MPO = ODD["two-pictures.mpo"][0]()
Build = Callable[[Path], object]
Counts = Mapping[str, int]


@settings(
    max_examples=500,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.sampled_from(["plain", "plain", "splits"]), entries())
# a link beside the splits that leads to one of them
@example("splits", [Entry(11, "cat", "link", 27)])
def test_every_entry_is_used_or_named_or_skipped(shape: str, wanted: list[Entry]) -> None:
    check(shape, wanted, Figures())


def link(place: str, target: str) -> Build:
    return lambda root: (root / place).symlink_to(target)


def write(place: str, content: bytes) -> Build:
    def build(root: Path) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content)

    return build


def moved_into_train(root: Path, names: Iterable[str]) -> None:
    (root / "train").mkdir()
    for name in names:
        (root / name).rename(root / "train" / name)


# ---------------------------------------------------------------- what is left out, and as what


@pytest.mark.parametrize(
    ("build", "left_out"),
    [
        (link("cat/gone.png", "/not/mounted"), {"cat/gone.png": ("unreadable", "No such file")}),
        (
            link("cat/round.png", "round.png"),
            {"cat/round.png": ("unreadable", "Too many levels of symbolic links")},
        ),
        (
            link("cat/endless.png", "/dev/zero"),
            {"cat/endless.png": ("unreadable", "not a regular file")},
        ),
        (
            lambda root: os.mkfifo(root / "dog/pipe.png"),
            {"dog/pipe.png": ("unreadable", "not a regular file")},
        ),
        (write("dog/empty.png", b""), {"dog/empty.png": ("unreadable", "empty")}),
        (
            write("dog/archive.zip", b"PK\3\4more"),
            {"dog/archive.zip": ("unreadable", "a ZIP archive")},
        ),
        (write("cat/deep/er/page", b"<html>"), {"cat/deep/er/page": ("unreadable", "HTML")}),
        (write("cat/notes.TXT", b"x"), {"cat/notes.TXT": ("harmless", ".txt")}),
        (write("cat/README", b"x"), {"cat/README": ("harmless", "its name")}),
        (
            write("cat/1.jpg:Zone.Identifier", b"x"),
            {"cat/1.jpg:Zone.Identifier": ("system", "system")},
        ),
        (write("cat/deep/Thumbs.db", b"x"), {"cat/deep/Thumbs.db": ("system", "system")}),
        (
            write("cat/deep/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", png(99)),
            {"cat/deep/@eaDir": ("system", "system")},
        ),
        (write("#recycle/a/1.png", png(99)), {"#recycle": ("system", "system")}),
        (
            write("System Volume Information/x", b""),
            {"System Volume Information": ("system", "system")},
        ),
        (write("$RECYCLE.BIN/x", b""), {"$RECYCLE.BIN": ("system", "system")}),
        (write("cat/FOUND.017/FILE0000.CHK", png(99)), {"cat/FOUND.017": ("system", "system")}),
        (write("LOST.DIR/1", png(99)), {"LOST.DIR": ("system", "system")}),
        (write("~snapshot/hourly.0/cat/1.png", png(99)), {"~snapshot": ("system", "system")}),
        (
            write("@Recently-Snapshot/1/cat/1.png", png(99)),
            {"@Recently-Snapshot": ("system", "system")},
        ),
        (write("RECYCLER/S-1-5/1.png", png(99)), {"RECYCLER": ("system", "system")}),
        (write(".thumbnails/1.png", png(99)), {".thumbnails": ("system", "hidden")}),
        (write("loose.png", png(99)), {"loose.png": ("outside", "outside")}),
        (link("cat/up", ".."), {"cat/up": ("repeated", r"back up to \.")}),
        (link("cat/far up", "/"), {"cat/far up": ("repeated", "back up")}),
        (link("dog/same", "."), {"dog/same": ("repeated", "the same folder as dog")}),
        # though a comes before x
        (
            lambda root: [write("cat/x/1.png", png(9))(root), link("cat/a", "x")(root)],
            {"cat/a": ("repeated", "the same folder as cat/x")},
        ),
    ],
)
def test_what_is_left_out_has_its_kind_and_reason(
    tmp_path: Path, build: Build, left_out: dict[str, tuple[str, str]]
) -> None:
    build(write_classes(tmp_path, PAIR))
    tree = read_folders(tmp_path)
    data = scan(tree, bad_limit=0.5)
    assert_conserved(tmp_path, tree, data)
    assert {entry.path: entry.kind for entry in data.unused} == {
        path: kind for path, (kind, _) in left_out.items()
    }
    for entry in data.unused:
        assert left_out[entry.path][1].replace("\\", "") in entry.reason


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("pipe.txt", lambda path: os.mkfifo(path)),
        ("zero.txt", lambda path: path.symlink_to("/dev/zero")),
        ("gone.txt", lambda path: path.symlink_to("gone")),
        ("empty.txt", lambda path: path.write_bytes(b"")),
        ("bm.txt", lambda path: path.write_bytes(b"BM25 is a ranking of documents")),
        ("gif.md", lambda path: path.write_bytes(b"GIF89 was once a format")),
        ("film.log", lambda path: path.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0")),
    ],
)
def test_notes_that_do_not_begin_as_a_picture_are_not_tried(
    tmp_path: Path, name: str, build: Callable[[Path], object]
) -> None:
    build(write_classes(tmp_path, PAIR) / "cat" / name)
    data = scan(read_folders(tmp_path), bad_limit=0)
    assert [(entry.path, entry.kind) for entry in data.unused] == [(f"cat/{name}", "harmless")]


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_a_picture_without_a_decoder_is_named_also_under_the_suffix_of_notes(
    tmp_path: Path, brand: bytes
) -> None:
    write("cat/x.txt", b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0")(write_classes(tmp_path, PAIR))
    assert [entry.kind for entry in scan(read_folders(tmp_path), bad_limit=0.5).unused] == [
        "unreadable"
    ]


@pytest.mark.parametrize(
    ("place", "left_out"),
    [
        (".held", set()),
        ("more/held", {"more/note", "more/1.png"}),
        (".x/y/held", {".x/y/note", ".x/1.png"}),
    ],
)
def test_a_validation_folder_within_the_data_is_not_left_out_as_well(
    tmp_path: Path, place: str, left_out: set[str]
) -> None:
    write_classes(tmp_path, {"train/cat": 3, "train/dog": 3, ".git": 1})
    held = write_classes(tmp_path / place, {"cat": 2, "dog": 2}, first=50)
    for path in left_out:
        (tmp_path / path).write_bytes(b"x")
    tree = read_folders(tmp_path, val=held)
    data = scan(tree)
    assert_conserved(tmp_path, tree, data)
    assert {entry.path for entry in data.unused} == {".git", *left_out}
    assert data.counts()["val"] == {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("cat/held", "cat/held stands among the class folders"),
        (".x/held", "held stands among the class folders"),
        ("", "these are the pictures to train on"),
        ("../top", r"top/valid holds folders .*: if it is meant, use --val \S+"),
    ],
)
def test_a_validation_folder_that_cannot_be_meant(tmp_path: Path, place: str, words: str) -> None:
    write_classes(tmp_path / "data", PAIR)
    write_classes(
        tmp_path / "data" / place,
        {f"{name}/{of}": 1 for of in PAIR for name in ("train", "valid")}
        if place == "../top"
        else PAIR,
        first=50,
    )
    with pytest.raises(UserError, match=words):
        read_folders(tmp_path / "data", val=tmp_path / "data" / place)


def test_a_validation_folder_elsewhere_is_accounted_for_as_well(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", PAIR)
    held = write_classes(tmp_path / "held", {"cat": 2, "dog/@eaDir": 1, "dog/deep": 1}, first=50)
    for name in ("loose.png", "cat/notes.txt", "cat/empty.png"):
        (held / name).write_bytes(b"")
    tree = read_folders(root, val=held)
    data = scan(tree, bad_limit=0.5)
    assert_conserved(root, tree, data, val="../held")
    assert {entry.path: entry.kind for entry in data.unused} == {
        "../held/loose.png": "outside",
        "../held/cat/notes.txt": "harmless",
        "../held/cat/empty.png": "unreadable",
        "../held/dog/@eaDir": "system",
    }


def test_a_link_to_a_split_is_named_beside_it(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train/a": 1, "train/b": 1, "more/a": 1, "held/a": 1})
    (tmp_path / "again").symlink_to("held")
    tree = read_folders(tmp_path, val=tmp_path / "held")
    assert {entry.path for entry in tree.unused if entry.kind == "beside"} == {"again", "more"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("phone.mpo", MPO),
        ("phone.JPG", MPO),
        ("old.jfif", encode(photo(), "JPEG")),
        ("x.pjpeg", encode(photo(), "JPEG")),
        ("moving.apng", ODD["animated.png"][0]()),
        ("no suffix", png(9)),
        ("wrong.tiff", png(9)),
        ("x.part", png(9)),
        ("dots.in.name", png(9)),
        ("data.bin", encode(photo(), "WEBP")),
        (os.fsdecode(b"\xff\n"), png(9)),
        ("n" * 255, png(9)),
        ("Mr.M", png(9)),
        ("2020.list", png(9)),
        ("photo.from.sh", png(9)),
        ("readme", png(9)),
        *((f"{name}.txt", encode(photo(), name)) for name in (*opened.FORMATS, "MPO")),
    ],
)
def test_a_picture_is_told_by_its_content(tmp_path: Path, name: str, content: bytes) -> None:
    write(f"cat/{name}", content)(write_classes(tmp_path, PAIR))
    data = scan(read_folders(tmp_path))
    assert f"cat/{name}" in {p.path for p in data.pictures}
    assert data.unused == ()


def test_pictures_of_any_suffix_are_used_and_other_files_count_towards_the_limit(
    tmp_path: Path,
) -> None:
    for number, path in enumerate(
        sorted(write_classes(tmp_path, {"cat": 150, "dog": 150}).rglob("*.png"))
    ):
        if number % 100:
            path.rename(path.with_suffix(".mpo"))
    assert len(scan(read_folders(tmp_path)).pictures) == 300
    for number in range(4):
        write(f"cat/{number}.docx", b"PK\3\4")(tmp_path)
        write(f"cat/{number}.txt", b"a label")(tmp_path)
    with pytest.raises(
        UserError,
        match=r"4 of 304 pictures cannot be used, .* by --bad-limit 0\.02:\n  cat/0\.docx: ",
    ):
        scan(read_folders(tmp_path))
    assert len(scan(read_folders(tmp_path), bad_limit=0.02).left_out) == 4


# ---------------------------------------------------------------- what is refused before a file is
# opened


@pytest.mark.parametrize(
    ("counts", "build", "message"),
    [
        (
            PAIR,
            link("bird", "/not/mounted/bird"),
            "bird is a link to /not/mounted/bird, which cannot be reached.*mount",
        ),
        (
            PAIR,
            link("loop", "loop"),
            "loop is a link to loop, which cannot be reached.*remove the link",
        ),
        (
            {"train/a": 1, "train/b": 1},
            link("test", "/not/mounted"),
            "test is a link to /not/mounted",
        ),
        (
            {"train/a": 1, "train/b": 1, "val/a": 1},
            link("val/b", "/x"),
            "val/b is a link to /x, which cannot be reached",
        ),
        (
            PAIR,
            link("up", ".."),
            r"no picture in .*/up: .*\(up: a link that leads back up to \.\.\)",
        ),
        (
            PAIR | {"notes": 0},
            write("notes/x.txt", b"x"),
            r"no picture in .*/notes: .*\(notes/x.txt: notes or labels",
        ),
        (
            PAIR,
            write(os.fsdecode(b"caf\xe9/1.png"), png(9)),
            r"the class name b'caf\\xe9' is not UTF-8.*Rename",
        ),
        (
            {"top/a": 2, "top/b": 2},
            None,
            r"one class folder \(top\).*top holds the folders a, b: .* use --data \S+/top",
        ),
        ({"x/y/a": 2, "x/y/b": 2}, None, r"one class folder \(x\).*use --data \S+/x/y\."),
        (
            {"top/train/a": 2, "top/train/b": 2},
            None,
            r"top holds the folders train: .* use --data \S+/top",
        ),
        (
            {"train/x/a": 2, "train/x/b": 2},
            None,
            r"train has one class folder \(x\).*a, b.*move them up into \S+/train",
        ),
        (
            {"images/a": 2, "images/b": 2, "docs": 0},
            None,
            r"no picture in .*docs.*use --data \S+/images",
        ),
        ({"": 3}, None, r"no class folder: .*Its 3 files stand directly in it.*use --data \S+"),
        (
            {"train/a": 1, "train/b": 1, "val/A": 1},
            None,
            "val has the class 'A', and train has 'a'.*differ only in case",
        ),
        (
            {"train_images/a": 1, "val/a": 1},
            None,
            "has val but no train folder. Rename train_images to train",
        ),
        (
            {"train/a": 1, "train/b": 1, "val2017/a": 1, "val2017/b": 1},
            None,
            r"two ways: val2017 stands beside train, .*\(a, b\)\. "
            r"If it is the val split, rename it to val\..* a dot before",
        ),
    ],
)
def test_a_layout_that_would_lose_pictures_is_refused(
    tmp_path: Path, counts: Counts, build: Build | None, message: str
) -> None:
    write_classes(tmp_path, counts)
    if build:
        build(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_folders(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("train_images", "val2017"),
        ("fold1", "fold2", "fold3"),
        ("seg_train", "seg_test"),
        ("TrainSet", "ValidationSet"),
        ("2019", "2020"),
        ("split-1", "split-2"),
        ("TRAIN_DATA", "holdout"),
        ("trainimages", "testimages"),
        ("dev", "eval_set"),
        ("trainval", "test2007"),
        ("development", "evaluation"),
        ("imagesTr", "imagesTs"),
        ("traindir", "testdir"),
        ("xtrain", "xtest"),
        ("tr", "te"),
        ("trainning", "testing"),
        ("Fold_One", "Fold_Two"),
        ("partition1", "partition2"),
        ("Dataset1", "Dataset2"),
        ("cv1", "cv2"),
        ("1", "2"),
        ("Entrenamiento", "Prueba"),
        ("\u8bad\u7ec3", "\u6d4b\u8bd5"),
        ("original", "augmented"),
        ("cat", "dog"),
    ],
)
def test_splits_that_would_be_learned_as_classes_show_both_readings(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    write_classes(tmp_path, {f"{name}/{of}": 2 for name in names for of in ("ant", "bee")})
    with pytest.raises(UserError, match="can be read in two ways") as caught:
        read_folders(tmp_path)
    message = str(caught.value)
    assert (
        "If ant, bee are the classes, rename the splits to train, val and test, or use " in message
    )
    assert (
        f"If {', '.join(sorted(names))} are the classes, move these folders into "
        f"{tmp_path / 'train'}" in message
    )
    _, data, _, val = shlex.split(message[message.index("--data ") :].partition(". If ")[0])
    likeness = [like_split(name) for name in names]
    assert ("one of the folders to train on" in message) == (None in likeness)
    assert like_split(Path(data).name) == "train" or "train" not in likeness
    # the advice works as it stands
    assert read_folders(Path(data), val=Path(val)).classes == ("ant", "bee")
    moved_into_train(tmp_path, names)
    assert read_folders(tmp_path).classes == tuple(sorted(names))  # and so does the other


@pytest.mark.parametrize(
    "held",
    [
        {"Training": "abc", "Testing": "a"},
        {"\u8bad\u7ec3": "abc", "\u6d4b\u8bd5": "a"},
        {"Lernen": "abc", "Pr\u00fcfen": "c", "Andere": "b"},
        {"1": "ab", "2": "b"},
        {"fold1": "abc", "fold2": "a", "fold3": "bc"},
    ],
)
def test_splits_that_lack_classes_show_both_readings(tmp_path: Path, held: dict[str, str]) -> None:
    write_classes(tmp_path, {f"{name}/{of}": 2 for name, classes in held.items() for of in classes})
    with pytest.raises(UserError, match="can be read in two ways") as caught:
        read_folders(tmp_path)
    message = str(caught.value)
    _, data, _, val = shlex.split(message[message.index("--data ") :].partition(". If ")[0])
    fullest = max(held.values(), key=len)
    assert read_folders(Path(data), val=Path(val)).classes == tuple(fullest)
    moved_into_train(tmp_path, list(held))
    assert read_folders(tmp_path).classes == tuple(sorted(held))


@pytest.mark.parametrize(
    ("folder", "marks"),
    [
        ("node_modules", ()),
        ("site-packages", ()),
        ("my env", ("pyvenv.cfg",)),
        ("CVS", ("Entries", "Root")),
    ],
)
def test_folders_of_programs_are_no_classes(
    tmp_path: Path, folder: str, marks: tuple[str, ...]
) -> None:
    write_classes(tmp_path, {**PAIR, folder: 1, f"cat/{folder}": 1})
    for mark, place in itertools.product(marks, ("", "cat")):
        (tmp_path / place / folder / mark).write_text("")
    tree = read_folders(tmp_path)
    assert tree.classes == ("cat", "dog")
    skipped = {entry.path: entry.kind for entry in tree.unused}
    assert skipped == {folder: "system", f"cat/{folder}": "system"}


@pytest.mark.parametrize("name", ["CVS", "venv", "Entries"])
def test_classes_with_the_name_of_a_program_without_its_files(tmp_path: Path, name: str) -> None:
    assert name in read_folders(write_classes(tmp_path, {**PAIR, name: 1})).classes


@pytest.mark.parametrize(
    ("one", "two"),
    [("training_set", "test_set"), ("Lernen", "Pr\u00fcfen"), ("train", "test_data")],
)
def test_classes_of_likely_splits_are_compared_in_one_unicode_form(
    tmp_path: Path, one: str, two: str
) -> None:
    write_classes(
        tmp_path,
        {f"{one}/{unicodedata.normalize('NFD', of)}": 2 for of in ("caf\u00e9", "th\u00e9")},
    )
    write_classes(tmp_path, {f"{two}/{of}": 2 for of in ("caf\u00e9", "th\u00e9")})
    with pytest.raises(UserError, match=r"can be read in two ways.*caf\u00e9, th\u00e9"):
        read_folders(tmp_path)


def test_splits_that_were_unpacked_into_folders_of_their_own_name(tmp_path: Path) -> None:
    write_classes(
        tmp_path,
        {
            f"{name}/{name}/{of}": 2
            for name in ("training_set", "test_set")
            for of in ("ant", "bee")
        },
    )
    with pytest.raises(
        UserError,
        match=r"If ant, bee are the classes, use --data \S+/training_set/training_set --val "
        r"\S+/test_set/test_set\. If test_set, training_set are",
    ):
        read_folders(tmp_path)


def test_a_split_without_folders_beside_one_with_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"Training/ant": 2, "Training/bee": 2, "Testing": 2})
    with pytest.raises(
        UserError,
        match=r"only Training holds folders \(ant, bee\).*use --data \S+/Training; pictures "
        "of Testing need folders",
    ):
        read_folders(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "trainer",
        "contest",
        "valley",
        "parting",
        "folder",
        "1",
        "12345",
        "latest",
        "ant",
        "spare part",
        "fold",
        "batch",
        "settle",
    ],
)
def test_names_that_only_contain_a_split(name: str) -> None:
    assert like_split(name) is None


@pytest.mark.parametrize(
    ("names", "inner"),
    [
        (("fold1", "fold2"), ("test", "train")),
        (("images", "labels"), ("train", "val")),
        (("cat", "dog"), ("train", "valid")),
    ],
)
def test_data_sets_beside_each_other_with_splits_inside(
    tmp_path: Path, names: tuple[str, ...], inner: tuple[str, ...]
) -> None:
    write_classes(
        tmp_path,
        {f"{name}/{of}/{kind}": 1 for name in names for of in inner for kind in ("ant", "bee")},
    )
    held = (
        f"each of {', '.join(names)} holds the folders {', '.join(inner)}, which look like splits"
    )
    with pytest.raises(
        UserError, match=rf"{held}.*such as --data \S+/{names[0]}\. If .* move these"
    ) as caught:
        read_folders(tmp_path)
    assert read_folders(Path(str(caught.value).split("--data ")[1].split(". If ")[0])).classes == (
        "ant",
        "bee",
    )
    moved_into_train(tmp_path, names)
    assert read_folders(tmp_path).classes == names


@pytest.mark.parametrize(
    "names",
    [
        ("test_images", "train_images"),
        ("Test Set", "Training", "Validation Set"),
        ("test_tube", "train_station"),
        ("masks", "test_images", "train_images"),
    ],
)
def test_flat_folders_with_names_of_splits_show_both_readings(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    write_classes(tmp_path, dict.fromkeys(names, 2))
    with pytest.raises(
        UserError,
        match="can be read in two ways.* look like splits, but do not hold.*If they are .*"
        f"If {', '.join(names)} are the classes, move these folders into",
    ):
        read_folders(tmp_path)
    moved_into_train(tmp_path, names)
    assert read_folders(tmp_path).classes == names


@pytest.mark.parametrize(
    "folders",
    [
        ("test_tube", "train_station", "beaker"),
        ("cat/day", "cat/night", "dog"),
        ("cat/day", "dog/day"),
        ("training", "testing", "marketing"),
        ("test_tube", "testicle"),
        ("cat/a", "cat/b", "dog/b", "dog/c"),
        ("cat/a", "cat/b", "dog/a", "cow/a", "hen/b"),
        ("cat/a", "cat/b", "dog/a", "dog"),
    ],
)
def test_classes_that_are_not_refused(tmp_path: Path, folders: tuple[str, ...]) -> None:
    tree = read_folders(write_classes(tmp_path, dict.fromkeys(folders, 1)))
    assert set(tree.classes) == {name.split("/")[0] for name in folders}


def test_splits_among_other_folders_name_all_of_them_for_the_second_reading(tmp_path: Path) -> None:
    write_classes(
        tmp_path, {"cat": 1, "fold1/ant": 1, "fold1/bee": 1, "fold2/ant": 1, "fold2/bee": 1}
    )
    with pytest.raises(UserError, match="If cat, fold1, fold2 are the classes, move these"):
        read_folders(tmp_path)


def test_a_folder_that_cannot_be_listed() -> None:
    with tempfile.TemporaryDirectory() as place:
        root = write_classes(Path(place), {**PAIR, "cat/deep": 1, "lost+found": 1, ".Trash-0": 1})
        root.chmod(0o755)
        for name in ("lost+found", ".Trash-0"):
            (root / name).chmod(0)
        with nobody():
            assert len(scan(read_folders(root)).pictures) == 7  # what is skipped is not looked into
        for name in ("cat/deep", "dog"):
            (root / name).chmod(0)
            with (
                nobody(),
                pytest.raises(
                    UserError, match=rf"{name} cannot be listed \(Permission denied\).*a dot"
                ),
            ):
                read_folders(root)
            (root / name).chmod(0o755)


# ---------------------------------------------------------------- names of classes


@pytest.mark.parametrize(
    "name",
    [
        "cat ",
        " cat",
        "cat.",
        "cat\n",
        "cat\u200b",
        "c\u00adat",
        "cat\ufe0f",
        "Cat .",
        "cat\xa0",
        "\u202ecat",
        "cat\u3164",
    ],
)
def test_names_that_look_the_same_are_one_class(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path / "plain", {"cat": 1, name: 1, "dog": 1})
    shown = re.escape(ascii(name))
    with pytest.raises(
        UserError, match=r"'cat'.* differ only in case, blanks, .*Merge or rename"
    ) as caught:
        read_folders(tmp_path / "plain")
    assert ascii(name) in str(caught.value)
    write_classes(tmp_path / "splits", {"train/cat": 1, "train/dog": 1, f"val/{name}": 1})
    with pytest.raises(
        UserError,
        match=f"val has the class {shown}, and train has 'cat': .*Give both the same name",
    ):
        read_folders(tmp_path / "splits")


@pytest.mark.parametrize("name", [" ", "\u00a0", "\u200b", "\u3164", "\n", "\ufe0f \u2800"])
def test_a_name_that_shows_nothing_is_refused(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {"cat": 1, name: 1, "dog": 1})
    with pytest.raises(
        UserError,
        match=f"names that can be seen, but {re.escape(ascii(name))} shows nothing. Rename",
    ):
        read_folders(tmp_path)


def test_names_that_differ_visibly_are_several_classes(tmp_path: Path) -> None:
    names = ("a b", "ab", "a.b", "a-b", "a_b", "C", "C#", "C++", "v1.0", "v1.00", "-", "?")
    assert read_folders(write_classes(tmp_path, dict.fromkeys(names, 1))).classes == tuple(
        sorted(names)
    )


# ---------------------------------------------------------------- names across splits


def test_classes_of_the_splits_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_classes(
        tmp_path, {f"train/{decomposed}": 1, "train/tea": 1, f"val/{composed}": 1, "test/tea": 1}
    )
    tree = read_folders(tmp_path)
    assert tree.classes == (decomposed, "tea")
    assert tree.files["val"] == [(f"val/{composed}/000.png", 0)]


# ---------------------------------------------------------------- the same bytes under two classes


def test_one_folder_linked_into_two_classes_is_a_conflict_of_both(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 50, "dog": 50, "cat/both": 2})
    (tmp_path / "dog" / "both").symlink_to("../cat/both")
    tree = read_folders(tmp_path)
    data = scan(tree)
    assert_conserved(tmp_path, tree, data)
    assert [(entry.path, entry.kind) for entry in data.unused] == [
        (f"{name}/both/00{i}.png", "conflict") for name in ("cat", "dog") for i in range(2)
    ]
    assert data.findings == (
        "4 of 104 pictures left out, because the same bytes stand under two classes: cat and dog 4",
    )


def test_conflicts_have_their_own_limit_and_are_grouped_by_pair(tmp_path: Path) -> None:
    """26 of 563 under two classes beside 2 unreadable ones, as in a folder of icons."""
    write_classes(tmp_path, {"a": 187, "b": 187, "c": 187})
    for number in range(13):
        other = "b" if number < 9 else "c"
        (tmp_path / other / f"{number:03}.png").write_bytes(
            (tmp_path / "a" / f"{number:03}.png").read_bytes()
        )
    for number in range(2):
        write(f"a/bad{number}.png", b"")(tmp_path)
    data = scan(read_folders(tmp_path))
    assert data.findings == (
        "26 of 563 pictures left out, because the same bytes stand under two classes: a and b 18; "
        "a and c 8",
        "2 of 563 pictures left out: a/bad0.png (the file is empty); a/bad1.png (the file is "
        "empty)",
    )
    assert Counter(entry.kind for entry in data.unused) == {"conflict": 26, "unreadable": 2}


def test_folders_that_are_copies_of_each_other_are_no_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 9, "dog": 9})
    (tmp_path / "hound").symlink_to("dog")
    with pytest.raises(
        UserError,
        match=r"^18 of 27 .*expected at most 20%: dog and hound 18\..* one folder, or merge",
    ):
        scan(read_folders(tmp_path))


# ---------------------------------------------------------------- limits and names


def test_every_name_is_written_also_of_a_run_that_stops(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", {"train/cat": 90, "train/dog": 90, "test/cat": 1})
    names = tmp_path / "names.csv"
    for number in range(30):
        write(f"train/cat/bad{number}\n.png", b"")(root)
    write("train/dog/copy.png", (root / "train/dog/000.png").read_bytes())(root)
    write("train/cat/leak.png", (root / "test/cat/000.png").read_bytes())(root)
    write("more/1.png", png(77))(root)
    for name in ("read.me", ".DS_Store", "train/x.csv"):
        write(name, b"x")(root)
    with pytest.raises(UserError, match="30 of 213 pictures") as caught:
        scan(read_folders(root), names_in=names)
    first, *shown, last = str(caught.value).splitlines()
    assert f"by --bad-limit 0.15 (every name with its reason: {names}):" in first
    assert len(shown) == left_out.SHOWN
    assert last == "  ... and 20 more"
    stopped = rows(names)
    data = scan(read_folders(root), bad_limit=0.15, names_in=names)
    assert rows(names) == stopped == [entry._asdict() for entry in data.unused]
    assert Counter(row["kind"] for row in stopped) == {
        "unreadable": 30,
        "leak": 1,
        "outside": 1,
        "beside": 1,
        "system": 1,
        "harmless": 1,
    }
    assert left_out.summary(data.unused, names) == (
        "not used: 30 unreadable, 1 in a later split too, 1 outside the class folders, 1 beside "
        "train, val and test, 1 notes or labels, 1 system or hidden; every name with its reason: "
        f"{names}"
    )
    write_classes(tmp_path / "clean", PAIR)
    scan(read_folders(tmp_path / "clean"), names_in=names)
    assert not names.exists()


@pytest.mark.parametrize(
    ("limit", "total", "stops"),
    [(0.01, 100, False), (0.01, 99, True), (0.0, 100, True), (0.29, 3, True), (1.0, 1, False)],
)
def test_the_limit_is_a_share_of_what_was_tried(limit: float, total: int, stops: bool) -> None:
    one = [left_out.Unused("a", "unreadable", "why")]
    if stops:
        with pytest.raises(UserError, match=f"1 of {total} pictures cannot be used"):
            left_out.check_unreadable(one, total, limit, None)
    else:
        left_out.check_unreadable(one, total, limit, None)


def test_a_file_above_the_limit_is_refused_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path, PAIR)
    with open(tmp_path / "cat" / "slide.tif", "wb") as file:
        file.write(b"II*\0")
        file.truncate(1_500_000_000)
    was_read: list[bytes] = []
    read = reading.read_regular
    monkeypatch.setattr(
        reading,
        "read_regular",
        lambda path, most: was_read.append(read(path, most)) or was_read[-1],
    )
    data = scan(read_folders(tmp_path), bad_limit=0.5)
    assert data.left_out == (("cat/slide.tif", "larger than 50 MB"),)
    assert len(was_read) == 6


# ---------------------------------------------------------------- copies, and the share of val


@pytest.mark.parametrize(
    ("copies", "in_val", "found"),
    [
        ([1] * 60, 12, False),
        ([40] + [1] * 20, 12, False),
        ([5] * 12, 10, False),
        ([40, 20], 20, True),
        ([40, 1], 1, True),
        ([30, 30], 30, True),
        ([2, 2], 2, True),
        ([11] * 5 + [1] * 5, 11, False),
    ],
)
def test_copies_that_would_overshoot_are_passed_over(
    copies: list[int], in_val: int, found: bool
) -> None:
    for turn in range(20):  # whichever group comes first
        pictures = [
            Picture(
                f"{label}/{group}-{i}.png",
                label,
                "train",
                f"{(group * 7 + turn * 13 + label) % 997:064x}",
                8,
                8,
            )
            for label in (0, 1)
            for group, count in enumerate(copies)
            for i in range(count)
        ]
        data = split(Data(Path(), ("a", "b"), tuple(pictures), (), ()), "0.2")
        assert abs(data.counts()["val"]["a"] - in_val) <= 1, turn
        assert bool(data.findings) == found, data.findings
        of_bytes = {(p.sha256, p.split) for p in data.pictures}
        assert len(of_bytes) == len({sha256 for sha256, _ in of_bytes})
