"""A run folder from a stranger, opened by every command: refused in words, in time; nothing outside
it is touched."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from safetensors.numpy import save_file

from export import bench, verify
from export.options import ExportOptions
from export.pipeline import start as start_export
from export.proof.open_run import open_run
from finetune.evaluation.choices import Place, Wish
from finetune.recipe.run import Run
from finetune.report import thumbnails
from finetune.run_folder.claim import claim
from finetune.write_run import decide_again, finished_subject
from tests.bench.fuzz_folders import NAMES, RAW, fuzz_folders, put_right
from tests.zoo.made_published import made_finished
from zoo.comparison import models
from zoo.contract import bundle, decision, examples, listed_files, run_pictures, rundir
from zoo.files import folders, tables
from zoo.host import disk
from zoo.host.errors import BadImage, UserError
from zoo.publish import card

MOST_SECONDS = 2.0
COMMANDS: dict[str, Callable[[Path], object]] = {
    "finetune --resume": lambda run: claim(Run(resume=run), {}),
    "finetune --out": lambda run: claim(Run(data=str(run.parent / "fruit"), out=run), {}),
    "finetune.decide": lambda run: decide_again(Place(run), Wish()),
    "export": lambda run: start_export(ExportOptions(run, parity_images=1)),
    "export.bench": lambda run: bench.main(bench.BenchOptions((run,))),
    "export.verify": lambda run: verify.main(verify.VerifyOptions(run)),
    "zoo compare": models.rows_of,
    "serve": bundle.open_bundle,
    "card": card.text,
}
READERS: dict[str, Callable[[Path], object]] = {
    "finetune.decide": lambda run: finished_subject(Place(run)),
    "export": lambda run: open_run(run, parity_images=1),
    "expected": lambda run: examples.expected(bundle.open_bundle(run)),
    "zoo compare": models.rows_of,
    "serve": bundle.open_bundle,
    "card": card.text,
}
"""The same as far as they read, for runs of which only a part is wrong: the rest would be exported
in earnest."""
LINKS = (
    "README.md",
    "README.md.tmp",
    "decision.json.tmp",
    "decision.json",
    "FINISHED.json",
    "config.json",
    "local.json",
    "metrics.jsonl",
    "files.csv",
    "model.safetensors",
    "bank.safetensors",
    "figures",
    "figures/more.svg",
    "resume",
    "resume/lock",
    "tensorboard",
    "onnx",
    "onnx/model.onnx",
    "bundles",
    "bundles/onnx",
    "bundles/int8",
    "bundles/onnx/bundle.json",
    "bundles/onnx/timing.json",
    "bundles/onnx/examples",
    "bundles/onnx/examples/7.png",
    "a/b/c/d",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a bundle. Copy it before changing it."""
    return made_finished(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy whose files share their bytes with the original: replace them, never write into
    them."""
    shutil.copytree(made.parent / "fruit", tmp_path / "fruit", copy_function=os.link)
    return Path(shutil.copytree(made, tmp_path / made.name, copy_function=os.link))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user's."""
    folder = tmp_path / "victim"
    (folder / "onnx").mkdir(parents=True)
    for name in ("bashrc", "onnx/thesis.txt", "onnx/model.onnx"):
        (folder / name).write_text("years of work")
    return folder


def content_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def refusal(command: str, run: Path) -> str:
    """What a command says about a run that it must refuse, within the time that it may take."""
    began = perf_counter()
    with pytest.raises(UserError) as error:
        COMMANDS[command](run)
    assert perf_counter() - began < MOST_SECONDS, command
    return str(error.value)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", LINKS)
def test_every_command_refuses_a_link_and_touches_nothing_behind_it(
    run: Path, victim: Path, name: str
) -> None:
    path = run / name
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(victim if "." not in path.name else victim / "bashrc")
    before = content_of(victim)
    for command in COMMANDS:
        if command == "card" or (
            command in ("serve", "export.verify", "export.bench") and name == "FINISHED.json"
        ):
            # the card is of a run that was opened; a run without its manifest is refused before
            # that
            continue
        assert "is a link" in refusal(command, run), command
    assert content_of(victim) == before
    assert path.is_symlink()


@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "x", "bundles/onnx/model.onnx", "metrics.jsonl"]
)
def test_every_command_refuses_a_pipe_without_waiting_for_it(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    for command in COMMANDS.keys() - {"card"}:
        seen = refusal(command, run)
        # a folder without config.json and bundle.json is no run to those that look for a bundle
        assert "pipe, socket or device" in seen or (
            name == "config.json" and "something else" in seen
        ), command


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "metrics.jsonl",
        "onnx/model.onnx",
        "bundles/onnx/timing.json",
        "resume",
        "bundles",
        "figures",
        "bundles/onnx/examples",
    ],
)
def test_a_folder_in_place_of_a_file_or_the_other_way_round_is_refused(
    run: Path, name: str
) -> None:
    expected_file = "." in name
    remove(run / name)
    if expected_file:
        (run / name).mkdir()
    else:
        replace(run / name, b"x")
    bundled = ("export.bench", "export.verify", "serve")
    for command in (
        bundled
        if name.startswith("bundles/")
        else ("finetune --resume", "finetune.decide", "export")
    ):
        assert f"expected a {'file' if expected_file else 'folder'}" in refusal(command, run), (
            command
        )


@pytest.mark.parametrize("name", [name for name in NAMES if not folders.is_plain(name)])
@pytest.mark.parametrize("manifest", ["FINISHED.json", "bundles/onnx/FINISHED.json"])
def test_a_manifest_names_files_of_its_own_folder_only(run: Path, manifest: str, name: str) -> None:
    content = rundir.read_json(run / manifest)
    content["files"][name] = "0" * 64
    replace(run / manifest, json.dumps(content).encode())
    opens: Callable[[], object] = lambda: bundle.open_bundle(run / "bundles/onnx")  # noqa: E731 (one of two)
    if manifest == "FINISHED.json":
        opens = lambda: rundir.open_finished(run)  # noqa: E731
    with pytest.raises(UserError, match="expected names of files in this folder"):
        opens()


def test_the_kernels_page_map_is_not_opened(run: Path) -> None:
    for name in ("../../../../../../../../proc/self/pagemap", "/proc/self/pagemap"):
        replace(
            run / "FINISHED.json", json.dumps({"version": 1, "files": {name: "0" * 64}}).encode()
        )
        for command in COMMANDS.keys() - {"finetune --resume", "finetune --out", "card"}:
            assert "pagemap" in refusal(command, run) or command in (
                "serve",
                "export.verify",
                "export.bench",
            )


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "decision.json",
        "data.json",
        "report.json",
        "recipe.json",
        "local.json",
        "FINISHED.json",
        "bundles/onnx/bundle.json",
        "bundles/onnx/parity.json",
        "bundles/onnx/examples/expected.json",
    ],
)
def test_a_json_file_with_what_json_has_not_is_refused_by_those_who_read_it(
    run: Path, name: str
) -> None:
    """The digests are right, so that only the content is wrong."""
    replace(run / name, b'{"version": 1, "files": {}, "a": NaN}')
    put_right(run)
    refused = 0
    for opens in READERS.values():
        try:
            opens(run)
        except UserError:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", [1]),
        ("config.json", {"architecture": "x", "label_names": "abc", "pretrained_cfg": [1]}),
        ("decision.json", []),
        ("report.json", {"headline": {"split": 3}}),
        ("report.json", {"headline": None}),
        ("data.json", {"classes": {"a": 1}}),
        ("recipe.json", {"lr": 3}),
        ("local.json", {"data": "pictures"}),
        ("local.json", ["/"]),
        ("bundles/onnx/bundle.json", {"version": 1, "labels": [1]}),
        ("bundles/onnx/parity.json", {"rungs": [1]}),
        ("bundles/onnx/parity.json", []),
    ],
)
def test_values_of_another_type_are_an_error_that_names_the_file(
    run: Path, file: str, content: object
) -> None:
    replace(run / file, json.dumps(content).encode())
    put_right(run)
    said = []
    for opens in READERS.values():
        try:
            opens(run)
        except UserError as error:
            said.append(str(error))
    assert [text for text in said if Path(file).name in text or "its card is made of" in text]


@pytest.mark.parametrize(
    "text", [raw for raw in RAW if raw != '"\\ud800"'], ids=lambda raw: raw[:8]
)
def test_json_that_is_deep_long_doubled_or_no_number_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    began = perf_counter()
    with pytest.raises(UserError, match=r"data\.json is not readable as JSON"):
        rundir.read_json(tmp_path / "data.json")
    assert perf_counter() - began < MOST_SECONDS


def test_a_json_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    for name, most in (("data.json", rundir.MOST_BYTES), *rundir.SMALL.items()):
        with open(tmp_path / name, "wb") as file:
            file.truncate(100 * 2**30)  # without a byte on the disk
        with pytest.raises(UserError, match=f"expected at most {most:,}"):
            rundir.read_json(tmp_path / name)


def test_a_bank_that_is_damaged_or_of_another_shape_is_refused(run: Path) -> None:
    path, right = run / rundir.BANK, np.ones((3, 2), np.float32)
    for tensors in (
        {"other": right},
        {decision.BANK_KEY: right[0]},
        {decision.BANK_KEY: right.astype(np.float64)},
        {decision.BANK_KEY: right[:0]},
        {decision.BANK_KEY: right * np.float32("nan")},
    ):
        path.unlink()
        save_file(tensors, path)
        with pytest.raises(UserError, match=r"bank\.safetensors: expected"):
            decision.read_bank(run)
    for content in (b"", b"x", b"\xff" * 100, (2**60).to_bytes(8, "little") + b"{}"):
        replace(path, content)
        with pytest.raises(UserError, match=r"bank\.safetensors: expected a safetensors file"):
            decision.read_bank(run)
    path.unlink()
    save_file({decision.BANK_KEY: right}, path)
    assert decision.read_bank(run, neighbours=3).shape == (3, 2)
    with pytest.raises(UserError, match="with 4 references at least"):
        decision.read_bank(run, neighbours=4)


# --- pictures


def with_row(run: Path, path: str, sha256: str) -> None:
    lines = (run / rundir.FILES).read_text()
    replace(run / rundir.FILES, f"{lines}{path},ant,val,{sha256},1,1\n".encode())


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../../x", "./x", "", "..", "a\0b"])
def test_a_picture_has_a_path_below_the_data_folder(run: Path, path: str) -> None:
    with_row(run, path, "0" * 64)
    with pytest.raises(UserError, match=r"files\.csv"):
        run_pictures.read_files(run)


def test_a_picture_is_used_only_with_the_recorded_bytes(run: Path, victim: Path) -> None:
    secret = run.parent / "secret.png"
    shutil.copyfile(next((run.parent / "fruit").rglob("*.png")), secret)
    with_row(run, "../secret.png", "0" * 64)
    rundir.finish(run)
    replace(run / "local.json", json.dumps({"data": str(run.parent / "fruit")}).encode())
    rundir.finish(run)
    with pytest.raises(UserError, match=r"secret\.png: its bytes are not those .*\(sha256\)"):
        open_run(run)
    with pytest.raises(BadImage, match="its bytes are not those"):
        folders.picture_bytes(secret, "0" * 64)
    assert "<img" not in thumbnails.thumbnail(secret, "0" * 64)
    # whoever has the bytes knows their digest: a validation folder beside the data folder is still
    # taken
    assert "<img" in thumbnails.thumbnail(secret, rundir.digest(secret))
    with pytest.raises(UserError, match="without a size"):
        rundir.digest(Path("/proc/self/pagemap"))
    for odd in (Path("/proc/self/pagemap"), Path("/dev/zero"), victim):
        with pytest.raises(BadImage, match="expected"):
            folders.picture_bytes(odd, "0" * 64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path\n",
        "path,label,split,sha256,width\n",
        "path," * 500 + "\n",
        "path,label,split,sha256,width,height\na,b\n",
        "path,label,split,sha256,width,height\n" + "x" * 2_000_000,
        "path,label,split,sha256,width,height\nx,ant,val," + "0" * 64 + ",²,1\n",
    ],
)
def test_a_table_of_another_form_is_refused(run: Path, text: str) -> None:
    replace(run / rundir.FILES, text.encode())
    with pytest.raises(UserError, match=r"files\.csv"):
        run_pictures.read_files(run)
    (run / rundir.FILES).unlink()
    with pytest.raises(UserError, match="is missing"):
        list(tables.rows(run / rundir.FILES, ("path",)))


# --- writing and showing


def test_a_temporary_file_is_new(run: Path, victim: Path) -> None:
    for name in ("x.json.tmp", "x.json"):
        (run / name).symlink_to(victim / "bashrc")
    written = []
    disk.write_whole(run / "x.json", lambda path: (written.append(path), path.write_text("new")))
    disk.write_whole(run / "x.json", lambda path: (written.append(path), path.write_text("new")))
    assert len({*written}) == 2
    assert not (run / "x.json").is_symlink()
    assert content_of(victim)["bashrc"] == "years of work"
    mask = os.umask(0o027)
    try:
        rundir.write_text(run / "x.json", "new")
    finally:
        os.umask(mask)
    assert (run / "x.json").stat().st_mode & 0o777 == 0o640


def test_only_listed_files_are_shown_and_only_as_they_were(run: Path, victim: Path) -> None:
    opened = bundle.open_bundle(run)
    assert listed_files.listed_file(run, "README.md") == run / "README.md"
    assert opened.file("examples/1.png") == opened.folder / "examples/1.png"
    (run / "more.md").write_text("more")
    assert listed_files.listed_file(run, "more.md") is opened.file("more.md") is None
    assert listed_files.listed_file(run, "../x") is None
    replace(run / "README.md", b"other")
    with pytest.raises(UserError, match="changed since"):
        listed_files.listed_file(run, "README.md")
    shutil.rmtree(opened.folder / "examples")
    (opened.folder / "examples").symlink_to(victim)
    with pytest.raises(UserError, match="is not a folder"):
        opened.file("examples/1.png")


def test_expected_answers_are_of_listed_pictures(run: Path) -> None:
    file = run / "bundles/onnx/examples/expected.json"
    for name in ("../../private.png", "/etc/passwd", "2.png", "."):
        replace(file, json.dumps({name: {"label": "bee"}}).encode())
        put_right(run)
        with pytest.raises(UserError, match="expected names of pictures beside it"):
            examples.expected(bundle.open_bundle(run))


def test_a_folder_of_too_many_or_too_deep_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MOST_ENTRIES", 5)
    for number in range(6):
        (tmp_path / str(number)).touch()
    with pytest.raises(UserError, match="more than 5 files and folders"):
        folders.look_through(tmp_path)
    monkeypatch.undo()
    (tmp_path / "/".join("d" * 20)).mkdir(parents=True)
    with pytest.raises(UserError, match="at most 16 folders inside each other"):
        folders.look_through(tmp_path)


def test_mutants_of_a_run_give_nothing_but_errors_for_people(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # beside `made`, whose files the mutants share
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = fuzz_folders(500, 7, template=made)
    assert found.failures == []
    assert found.accepted > 100 < found.refused
    assert found.slowest_s < MOST_SECONDS, found.slowest
    assert found.grown_mb < 300
