"""A published run that was pulled has no pictures of its own: it is exported with those of a
labelled folder."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from export.proof.open_run import open_run
from export.targets.tensorrt import profile
from tests.export.made_export import LABELS
from tests.zoo.made_published import made_finished
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.publish import staging


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a push would send of a run, in a folder of its own."""
    folder = tmp_path_factory.mktemp("pulled")
    run = made_finished(folder / "home")
    (folder / "stage").mkdir()
    for name, path in staging.staged(
        run, folder / "stage", repo="me/insects", examples=False
    ).items():
        (folder / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "run" / name)
    assert not (folder / "run" / rundir.FILES).exists()
    return folder / "run"


def labelled(folder: Path, within: str = "") -> Path:
    """Two pictures of each class, in folders named like it."""
    for shade, name in enumerate(LABELS):
        (folder / within / name).mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (30 + number, 20), (shade * 100, number * 90, 60)).save(
                folder / within / name / f"{number}.png"
            )
    return folder


@pytest.mark.parametrize("within", ["", "val", "test"])
def test_its_proof_is_on_the_pictures_of_a_labelled_folder(
    pulled: Path, tmp_path: Path, within: str
) -> None:
    data = labelled(tmp_path / "data", within)
    if within == "val":
        labelled(data, "train")
    trained = open_run(pulled, data=data, parity_images=4)
    assert len(trained.pictures) == 4
    assert {Path(name).parent.as_posix() for name in trained.pictures} <= {
        f"{within}/{label}".strip("/") for label in LABELS
    }
    found = {one.path.relative_to(data).as_posix(): one for one in trained.labelled}
    assert len(found) == 6
    assert {(Path(name).parent.name, LABELS[one.label]) for name, one in found.items()} == {
        (x, x) for x in LABELS
    }
    assert {one.predicted for one in found.values()} <= {0, 1, 2}
    assert len(trained.training(5)) == 5
    assert profile(trained)["opt"][1:3] == [20, 31] or profile(trained)["opt"][1:3] == [20, 32]


def test_a_folder_is_read_as_training_reads_it(
    pulled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(tmp_path / "data")
    for odd in ("@eaDir", "ant/@eaDir", "val"):
        (data / odd).mkdir()
    shutil.copyfile(data / "ant" / "1.png", data / "ant" / "@eaDir" / "thumbnail.png")
    for name in ("Thumbs.db", "notes.txt", "cut.png"):
        (data / "ant" / name).write_bytes(
            b"\x89PNG\r\n\x1a\n" if name == "cut.png" else b"no picture"
        )
    trained = open_run(pulled, data=data)
    assert len(trained.pictures) == len(trained.labelled) == 6
    assert "left out: " in capsys.readouterr().out


def test_without_pictures_it_is_said_what_is_missing(pulled: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no files\.csv: .*published copy, .*--data"):
        open_run(pulled)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected pictures in class folders, seen none"):
        open_run(pulled, data=tmp_path / "empty")
    (labelled(tmp_path / "data") / "bees").mkdir()
    with pytest.raises(UserError, match=r"expected .* classes of the run, seen 'bees'; near: bee"):
        open_run(pulled, data=tmp_path / "data")
