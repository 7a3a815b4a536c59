"""`python -m finetune.predict`: which pictures it answers, what it writes, that it goes on after a
kill, and that it changes nothing of the user's."""

import dataclasses
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.data.loader import EVALUATION_BATCH
from finetune.evaluation import predictions_csv
from finetune.prediction import answer_folder, answer_pictures, sorted_copies
from finetune.prediction.answer_pictures import answer_pictures as predict
from finetune.prediction.answering import HEADER
from finetune.prediction.request import Request
from finetune.sources.imagenet_tars import DEVKIT
from tests.bad_pictures import BAD, ODD, write_bad_pictures
from tests.export.made_export import Made, made_export, onnx_bundle
from tests.finetune.made_ilsvrc import WNIDS, jpeg, write_ilsvrc, write_tar
from tests.finetune.made_pictures import contents, png, rows, write_classes
from tests.unprivileged import read_only
from tests.zoo.made_published import made_finished
from zoo.answer.predict import Predictor
from zoo.contract import report, rundir
from zoo.files import tables
from zoo.host.errors import UserError
from zoo.publish import staging

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def insects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ant, bee and cat, with two views."""
    return made_export(tmp_path_factory.mktemp("insects"), Made())


def asked(run: Path, data: Path | Sequence[Path], out: Path, **more: Any) -> list[dict[str, str]]:
    """The rows that the command writes."""
    several = (data,) if isinstance(data, Path) else tuple(data)
    predict(Request(run, several, out, device="cpu", **more))
    assert {path.name for path in out.iterdir()} <= {
        "predictions.csv",
        "left_out.csv",
        "summary.json",
    }
    return rows(out / "predictions.csv")


def summary(out: Path) -> dict[str, Any]:
    return dict(rundir.read_json(out / "summary.json"))


# --- what is answered, and how well


def test_class_folders_with_splits_give_the_numbers_of_the_run(
    tiny_run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(digits)
    answers = asked(tiny_run, digits, tmp_path / "out")
    printed = capsys.readouterr().out
    of_run = {row["path"]: row for row in rows(tiny_run / "predictions.csv")}
    for row in answers:
        own = of_run.get(row["path"])
        assert row["split_of_run"] == row["split"]
        if own is None:
            assert row["split"] == "train"
            continue
        for name in ("label", "predicted", "set_size", "label_in_set", "width", "top5"):
            assert row[name] == own[name]
        for name in ("confidence", "label_probability", "unknown_score", "brightness"):
            assert float(row[name]) == pytest.approx(float(own[name]), abs=1e-5)
        assert len(row["prediction_set"].split("|")) == int(row["set_size"])
        assert row["prediction_set"].split("|")[0] == row["predicted"]
    assert Counter(row["split"] for row in answers) == {"train": 100, "val": 40, "test": 40}
    test = summary(tmp_path / "out")["others"]
    head = report.read_report_json(tiny_run / "report.json").headline
    assert test["numbers"]["top1"] == head.numbers.top1
    assert test["numbers"]["top1_interval"] == pytest.approx(head.numbers.top1_interval)
    assert test["numbers"]["top5"] == head.numbers.top5
    assert test["numbers"]["ece"] == pytest.approx(head.numbers.ece, abs=1e-4)
    assert test["balanced_accuracy"] == pytest.approx(head.macro_recall)
    assert "140 of them are pictures that the run was trained or tuned on" in printed
    assert f"{head.numbers.top1:.2%}" in printed
    assert len(printed.splitlines()) <= 15
    assert contents(digits) == before

    only = asked(tiny_run, digits, tmp_path / "test", split="test")
    assert [row["path"] for row in only] == [r["path"] for r in answers if r["split"] == "test"]
    assert summary(tmp_path / "test")["numbers"]["top1"] == head.numbers.top1
    assert "others" not in summary(tmp_path / "test")
    with pytest.raises(UserError, match=r"--split val: .* has no splits"):
        asked(tiny_run, digits / "test", tmp_path / "none", split="val")


def test_what_cannot_be_read_is_named_and_the_rest_is_answered_like_the_bundle(
    insects: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    write_bad_pictures(folder / "deep er")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.linear_gradient("L").resize((60, 40)).save(folder / "turned.jpg", exif=turned)
    answers = {row["path"]: row for row in asked(insects, folder, tmp_path / "out")}
    unread = {path for path, row in answers.items() if row["unreadable"]}
    hidden = {".DS_Store", "Thumbs.db", "._x.jpg"}
    assert unread == {f"deep er/{name}" for name in {*BAD, "fifo.jpg"} - hidden}
    assert set(answers) - unread == {f"deep er/{name}" for name in ODD} | {"turned.jpg"}
    left_out = {row["path"]: row["kind"] for row in rows(tmp_path / "out" / "left_out.csv")}
    assert left_out == dict.fromkeys(unread, "unreadable") | {
        f"deep er/{name}": "system" for name in hidden
    }
    assert summary(tmp_path / "out")["unreadable"] == len(unread)
    exported = Path(shutil.copytree(insects, tmp_path / insects.name))
    onnx_bundle(exported)
    bundle = Predictor(exported)
    for path in set(answers) - unread:
        predicted, row = bundle.predict(folder / path), answers[path]
        assert (row["unknown"] == "1") is (predicted.answer.label is None)
        assert row["predicted"] == predicted.answer.top[0][0]
        assert float(row["confidence"]) == pytest.approx(predicted.answer.top[0][1], abs=0.005)
        assert row["top5"].split("|") == [name for name, _ in predicted.answer.top]
        assert row["prediction_set"].split("|") == list(predicted.answer.prediction_set or ())
        assert float(row["unknown_score"]) == pytest.approx(predicted.unknown_score, abs=0.005)
    assert answers["turned.jpg"]["width"] == "40"


def test_folders_that_are_no_classes_are_answered_without_numbers(
    insects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "by date", {"2024/may": 2, "2025": 1})
    (data / "notes.txt").write_text("notes")
    (data / "top.png").write_bytes(png(99))
    answers = asked(insects, data, tmp_path / "out")
    assert [row["path"] for row in answers] == [
        "2024/may/000.png",
        "2024/may/001.png",
        "2025/000.png",
        "top.png",
    ]
    assert {row["label"] + row["label_in_set"] + row["split"] for row in answers} == {""}
    assert "numbers" not in summary(tmp_path / "out")
    assert "so the answers are not measured" in capsys.readouterr().out


def test_class_names_that_the_run_lacks_are_listed(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", {"ant": 1, "wasp": 1, "fly": 1})
    with pytest.raises(UserError, match=r"2 classes that the run does not know: fly, wasp"):
        asked(insects, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(asked(insects, data, tmp_path / "out", labels=False)) == 3
    assert summary(tmp_path / "out")["labelled"] == 0


def test_tables_need_no_labels(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "pictures", {"x": 4})
    named = ["x/000.png", "x/001.png", "x/002.png", "x/gone.png"]
    tables.write_table(data / "a.csv", ["file"], [[name] for name in named])
    answers = asked(insects, data / "a.csv", tmp_path / "a")
    assert [row["path"] for row in answers] == named
    assert "no such file" in answers[3]["unreadable"].lower()
    tables.write_table(
        tmp_path / "b.csv",
        ["path", "kind", "split"],
        [(named[0], "ant", "test"), (named[1], "", "test"), (named[2], "bee", "val")],
    )
    answers = asked(
        insects,
        tmp_path / "b.csv",
        tmp_path / "b",
        columns="label=kind",
        root=str(data),
        split="test",
    )
    assert [row["label"] for row in answers] == ["ant", ""]
    assert summary(tmp_path / "b")["labelled"] == 1
    tables.write_table(tmp_path / "c.csv", ["path", "label"], [(named[0], "wasp")])
    with pytest.raises(UserError, match=r"1 classes that the run does not know: wasp"):
        asked(insects, tmp_path / "c.csv", tmp_path / "c", root=str(data))


def test_pictures_named_one_by_one(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path, {"x": 2, "y": 1})
    files = [data / "y" / "000.png", data / "x" / "001.png"]
    answers = asked(insects, files, tmp_path / "out")
    assert [row["path"] for row in answers] == ["x/001.png", "y/000.png"]
    assert Request(insects, tuple(files)).place.name == "run-predictions-pictures"
    assert Request(insects, (data / "x",)).place == insects.parent / "run-predictions-x"


def test_a_pulled_copy_answers(tmp_path: Path) -> None:
    run = made_finished(tmp_path / "home")
    (tmp_path / "stage").mkdir()
    staged = staging.staged(run, tmp_path / "stage", repo="me/insects", examples=False)
    for name, path in staged.items():
        (tmp_path / "pulled" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "pulled" / name)
    data = write_classes(tmp_path / "data", {"ant": 1, "bee": 1})
    answers = asked(tmp_path / "pulled", data, tmp_path / "out")
    assert [row["label"] for row in answers] == ["ant", "bee"]
    assert {row["split_of_run"] for row in answers} == {""}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_test_tar_of_ilsvrc_gives_a_submission(
    insects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tars = write_ilsvrc(tmp_path / "tars", train=1, val=1)
    tar = tars / "ILSVRC2012_img_test_v10102019.tar"
    pictures = {f"test/ILSVRC2012_test_{i:08}.JPEG": jpeg(1 + i % 3, i) for i in (3, 1, 2)}
    pictures["test/ILSVRC2012_test_00000004.JPEG"] = b"no picture"
    write_tar(tar, pictures)
    asked(insects, tar, tmp_path / "insects")
    assert "the classes of the run are not the WordNet ids" in capsys.readouterr().out
    run = Path(shutil.copytree(insects, tmp_path / "run"))
    config = rundir.read_json(run / "config.json")
    rundir.write_json(run / "config.json", config | {"label_names": sorted(WNIDS[:3])})
    rundir.finish(run)

    predict(Request(run, (tar,), tmp_path / "out", device="cpu", workers=2))
    answers = rows(tmp_path / "out" / "predictions.csv")
    assert [row["path"] for row in answers] == sorted(pictures)
    numbers = {wnid: str(number) for number, wnid in enumerate(WNIDS, 1)}
    expected = [[numbers[name] for name in row["top5"].split("|")] for row in answers[:3]]
    lines = (tmp_path / "out" / "submission.txt").read_text().splitlines()
    assert [line.split() for line in lines] == [*expected, ["1", "2", "3", "4", "5"]]
    unpacked = tmp_path / "unpacked"
    for name in sorted(pictures)[:3]:
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(pictures[name])
    alone = asked(run, unpacked, tmp_path / "alone", labels=False)
    assert [float(row["confidence"]) for row in alone] == pytest.approx(
        [float(row["confidence"]) for row in answers[:3]], abs=1e-5
    )
    (tars / DEVKIT).unlink()
    predict(Request(run, (tar,), tmp_path / "without", device="cpu"))
    assert "is not beside" in capsys.readouterr().out
    assert not (tmp_path / "without" / "submission.txt").exists()
    with pytest.raises(UserError, match=r"are in a tar"):
        predict(Request(run, (tar,), tmp_path / "new", to_folders=tmp_path / "x"))
    write_tar(tar, {"../ILSVRC2012_test_00000001.JPEG": b"x"})
    with pytest.raises(UserError, match=r"expected names like"):
        predict(Request(run, (tar,), tmp_path / "new"))


# --- killed


class Killed(BaseException):
    """Stands for a kill, in this process."""


def _killed_at(moment: int, request: Request) -> None:
    """The command, killed by the system at a moment: at a batch, or at one of the files at the
    end."""
    seen = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == moment:
                # half a row, as a full buffer would leave it
                if real is append:
                    arguments[1].write(b'"half a r')
                    arguments[1].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    append = answer_folder.AnswerFolder.append
    answer_folder.SAVED_EACH_S = 0.0
    answer_folder.AnswerFolder.append = dying(append)  # type: ignore[method-assign]
    answer_pictures.write_left_out = dying(answer_pictures.write_left_out)
    finish = answer_folder.AnswerFolder.finish
    answer_folder.AnswerFolder.finish = dying(finish)  # type: ignore[method-assign]
    sorted_copies.shutil.copy2 = dying(shutil.copy2)  # type: ignore[attr-defined]
    predict(request)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks itself")
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    tiny_run: Path, digits: Path, tmp_path: Path
) -> None:
    from tests.finetune import forked

    whole = Request(tiny_run, (digits,), tmp_path / "whole", device="cpu")
    whole = dataclasses.replace(whole, to_folders=tmp_path / "sorted")
    predict(dataclasses.replace(whole, workers=2))
    broken = dataclasses.replace(
        whole, out=tmp_path / "broken", to_folders=tmp_path / "sorted again"
    )
    # at batches 1 and 3, before each of the two files at the end, and in the sorting
    for moment, done in ((1, 0), (3, 2), (2, 3), (2, 3), (5, None)):
        with forked.started(_killed_at, moment, broken) as command:
            code, printed = command.finish(100)
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), printed
        progress = tmp_path / "broken" / "resume" / "progress.json"
        if done is None:
            assert (tmp_path / "broken" / "summary.json").is_file()
        else:
            pictures = rundir.read_json(progress)["pictures"]
            assert pictures == min(180, done * EVALUATION_BATCH)
    predict(broken)
    for folder, again in (("whole", "broken"), ("sorted", "sorted again")):
        assert contents(tmp_path / folder) == contents(tmp_path / again)


def test_what_was_begun_for_other_pictures_stays(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", {"x": 2})
    asked(insects, data, tmp_path / "out")
    before = contents(tmp_path / "out")
    asked(insects, data, tmp_path / "out")
    (data / "x" / "new.png").write_bytes(png(77))
    with pytest.raises(UserError, match=r"has answers to other pictures"):
        asked(insects, data, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match=r"expected a new or empty folder.*thesis\.doc"):
        asked(insects, data, tmp_path / "full")
    assert contents(tmp_path / "out") == before


# --- sorted


def test_copies_and_links_are_sorted_by_answer(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", {"a": 4, "b": 4}, size=(40, 30))
    before = contents(data)
    answers = asked(insects, data, tmp_path / "out", to_folders=tmp_path / "copies")
    expected = {}
    for row in answers:
        folder = "unknown" if row["unknown"] == "1" else row["predicted"]
        expected[f"{folder}/{row['path']}"] = (data / row["path"]).read_bytes()
    files = {path: content for path, content in contents(tmp_path / "copies").items() if content}
    assert files == expected
    asked(insects, data, tmp_path / "out", to_folders=tmp_path / "links", link=True)
    for path, content in expected.items():
        assert (tmp_path / "links" / path).is_symlink()
        assert (tmp_path / "links" / path).read_bytes() == content
    # again, nothing changes; and what is there is not overwritten
    asked(insects, data, tmp_path / "out", to_folders=tmp_path / "copies")
    first = next(iter(expected))
    (tmp_path / "copies" / first).write_text("mine")
    with pytest.raises(UserError, match=r"is there already and is not .* Nothing is overwritten"):
        asked(insects, data, tmp_path / "out", to_folders=tmp_path / "copies")
    assert (tmp_path / "copies" / first).read_text() == "mine"
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("ant", "bee", "cat", "unknown"):
        (trap / name).symlink_to(data)
    with pytest.raises(UserError, match=r"would write into|leads out of"):
        asked(insects, data, tmp_path / "out", to_folders=trap)
    assert contents(data) == before


def test_folders_of_classes_never_look_the_same_or_escape() -> None:
    names = ["..", "a/b", "a_b", "A_B", "unknown", "Unknown", "con.", "x" * 300, "é", "e\u0301"]
    folders = sorted_copies.class_folders(names)
    assert len({name.casefold() for name in folders.values()}) == len(names) + 1
    assert (folders["unknown"], folders[""]) == ("unknown", "unknown-3")
    for name in folders.values():
        assert name == os.path.basename(name)
        assert name not in ("", ".", "..")
        assert len(name) < 120


def test_pictures_above_the_root_of_a_table_stay_below_the_target(
    insects: Path, tmp_path: Path
) -> None:
    data = write_classes(tmp_path / "data", {"x": 1, "tables": 1})
    tables.write_table(data / "tables" / "a.csv", ["path"], [["../x/000.png"], ["000.png"]])
    target = tmp_path / "sorted"
    asked(insects, data / "tables" / "a.csv", tmp_path / "out", to_folders=target)
    placed = [path.relative_to(target).as_posix() for path in target.rglob("*.png")]
    assert sorted(path.split("/", 1)[1] for path in placed) == ["tables/000.png", "x/000.png"]


# --- refused


def test_wrong_orders_are_refused_before_anything_is_written(insects: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", {"x": 1})
    (tmp_path / "empty").mkdir()
    half = Path(shutil.copytree(insects, tmp_path / "half"))
    (half / "FINISHED.json").unlink()
    for changes, message in (
        ({"run": half}, r"no FINISHED\.json"),
        ({"data": (tmp_path / "empty",)}, r"holds no file that may be a picture"),
        ({"data": (tmp_path / "gone",)}, r"nothing at this path"),
        ({"data": (data, data / "x" / "000.png")}, r"expected picture files, but .*data is none"),
        ({"out": data / "answers"}, r"lie in each other"),
        ({"out": tmp_path}, r"lie in each other"),
        ({"out": insects / "answers"}, r"in the run folder"),
        ({"to_folders": data}, r"would write into"),
        ({"to_folders": tmp_path / "out" / "sorted"}, r"choose another place"),
        ({"columns": "path=x"}, r"--columns path=x has no effect"),
    ):
        order = {"run": insects, "data": (data,), "out": tmp_path / "out", "device": "cpu"}
        with pytest.raises(UserError, match=message):
            predict(Request(**(order | changes)))  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--link has no effect"):
        Request(insects, (data,), link=True)


def test_places_that_may_not_be_written_are_named(insects: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "all" / "data", {"x": 1})
    (tmp_path / "all" / "closed").mkdir()
    run = Path(shutil.copytree(insects, tmp_path / "all" / "run"))
    for path in run.glob("*.safetensors"):
        path.chmod(0o644)
    with read_only(tmp_path / "all", "closed") as top:
        closed = top / "closed"
        order = Request(top / "run", (top / "data",), closed / "out", device="cpu")
        with pytest.raises(UserError, match=r"out cannot be written"):
            predict(order)
        order = dataclasses.replace(order, out=top / "out", to_folders=closed / "sorted")
        with pytest.raises(UserError, match=r"sorted cannot be written"):
            predict(order)


def test_files_none_of_which_is_a_picture(insects: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(50))
    with pytest.raises(UserError, match=r"none of the 1 files can be read"):
        predict(Request(insects, (tmp_path / "film.mp4",), tmp_path / "out", device="cpu"))
    assert len(rows(tmp_path / "out" / "predictions.csv")) == 1


def test_the_table_begins_as_that_of_a_run() -> None:
    assert HEADER[: len(predictions_csv.COLUMNS)] == predictions_csv.COLUMNS


def test_many_rows_take_little_memory(tmp_path: Path) -> None:
    """Rows of pictures without labels are counted and not kept."""
    from finetune.prediction.summary import tally

    row = dict.fromkeys(HEADER, "") | {"path": "x", "predicted": "1", "unknown": "0"}
    tables.write_table(tmp_path / "a.csv", HEADER, (list(row.values()) for _ in range(3000)))
    found = tally(tmp_path / "a.csv", DIGITS)
    assert (found.pictures, found.answers["1"], found.labelled) == (3000, 3000, [])
    assert np.sum(found.tuned_on) == 0
