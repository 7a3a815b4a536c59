"""The command line and everything before training: flags, help, devices, run folders, and what bad
input gets."""

import dataclasses
import hashlib
import importlib.util
import math
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch.distributed.run import get_args_parser

from finetune import explain
from finetune.data import dataset, held_out, scanning
from finetune.data.loader import PictureSource, evaluation_batches
from finetune.flags import MAY_BE_EMPTY, SWITCHES, parse
from finetune.machine import device
from finetune.pipeline import start
from finetune.presets import resolve
from finetune.recipe import other_flags
from finetune.recipe.field_docs import field_docs
from finetune.recipe.fields import ROWS, TYPES, Recipe, flag_of
from finetune.recipe.run import Run
from finetune.run_folder import going_on
from finetune.run_folder.claim import claim, held
from finetune.run_folder.order import Order, recorded_order, resumed_order
from finetune.run_folder.recorded_data import check_same_data, with_recorded_names
from finetune.sources.class_folders import read_folders
from finetune.sources.data_source import DataSource
from finetune.sources.listed_pictures import Listing
from tests.finetune.made_pictures import contents, png, write_classes
from zoo.contract import rundir
from zoo.files import checks
from zoo.files.same_paths import nfc
from zoo.host.errors import BadImage, UserError, run_main
from zoo.network.trial import Trial
from zoo.picture.preprocess import Preprocessing

ROOT = Path(__file__).parents[2]
CUDA = torch.cuda.is_available()
HOLD = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(99)
"""
FLAGS = {
    "options": ["--help"],
    "run options": [
        "--data",
        "--base",
        "--out",
        "--resume",
        "--device",
        "--workers",
        "--bad-limit",
        "--columns",
        "--root",
        "--group-by",
        "--labels",
        "--fix",
        "--advise",
    ],
    "recipe options": [
        "--recipe",
        "--epochs",
        "--batch-size",
        "--image-size",
        "--fit",
        "--lr",
        "--optimizer",
        "--seed",
        "--amp",
        "--val",
        "--probe-only",
    ],
    "less-usual options": [
        "--stem",
        "--probe",
        "--features",
        "--warmup",
        "--schedule",
        "--decay-at",
        "--decay-factor",
        "--decay-power",
        "--weight-decay",
        "--label-smoothing",
        "--erasing",
        "--erasing-area",
        "--erasing-ratio",
        "--erasing-fill",
        "--crop-area",
        "--crop-ratio",
        "--flip",
        "--drop-path",
        "--dropout",
        "--batch-norm",
        "--clip-norm",
        "--accumulate",
        "--sam-rho",
        "--ema",
        "--compile",
        "--patience",
        "--layer-decay",
        "--start-size",
        "--from-scratch",
        "--init",
        "--zero-gamma",
        "--teacher",
        "--distill-temperature",
        "--distill-weight",
        "--policy",
        "--policy-share",
        "--randaugment-scale",
        "--randaugment-ops",
        "--randaugment-magnitude",
        "--augmix-severity",
        "--augmix-consistency",
        "--rotate",
        "--color-jitter",
        "--hue-jitter",
        "--pca-noise",
        "--crop-padding",
        "--mixup",
        "--cutmix",
        "--cutout",
        "--cutout-side",
        "--gridmask",
        "--gridmask-kept",
        "--gridmask-rotate",
        "--gridmask-growth",
        "--hide-and-seek",
        "--hide-and-seek-share",
        "--loss",
        "--focal-gamma",
        "--ohem-share",
        "--balance",
        "--threads",
    ],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "pins"))
    return tmp_path


@pytest.fixture
def takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is tried: test_fitting.py has what they refuse, and these tests are about
    folders."""
    monkeypatch.setattr(Trial, "refused", lambda *_, **__: None)


@pytest.fixture
def animals(here: Path) -> Path:
    """Two classes of ten pictures in `animals/`."""
    return write_classes(here / "animals", {"cat": 10, "dog": 10})


def finetune(
    cwd: Path, *arguments: str, python: tuple[str, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does: in its own process, without network, with empty caches."""
    own = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cwd / "hf"),
        "ZOOTUNE_HOME": str(cwd / "pins"),
        "COLUMNS": "80",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *python, "-m", "finetune", *arguments],
        cwd=cwd,
        env=os.environ | own | env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def finetune_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported torch."""
    from finetune.__main__ import main

    monkeypatch.setattr(sys, "argv", ["finetune", *arguments])
    with pytest.raises(SystemExit) as end:
        run_main(lambda: parse(main, "finetune", Run))
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(arguments, end.value.code, *capsys.readouterr())


def assert_refused(result: subprocess.CompletedProcess[str], *words: str, lines: int = 2) -> None:
    """Exit code 2, and a short error that holds these words."""
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) <= lines, result.stderr
    assert not [word for word in words if word not in result.stderr], result.stderr


def error_text(check: Callable[[], Any]) -> str:
    """What `check`, which touches no folder, refuses with: two lines at most."""
    with pytest.raises(UserError) as caught:
        check()
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def refusal(run: Callable[[], Any]) -> str:
    """What is said when `run` refuses; nothing that looks finished may appear below the working
    folder, which a test that asks this has made for itself."""
    assert not Path("pyproject.toml").exists(), "would walk the whole checkout"
    before = set(Path().rglob(rundir.FINISHED))
    message = error_text(run)
    assert set(Path().rglob(rundir.FINISHED)) == before
    return message


def refused(words: list[str], given: Mapping[str, Any] | None = None, **run: Any) -> None:
    """The whole run, in this process: it must stop with an error that holds these words."""
    message = refusal(lambda: start(Run(device="cpu", **run), given or {}))
    assert not [word for word in words if word not in message], message


def claimed(given: Mapping[str, Any] | None = None, **run: Any) -> Path:
    """The folder that such a run may write to; let go at once."""
    taken = claim(Run(**run), given or {})
    assert not taken.finished
    assert taken.lock.is_locked
    taken.lock.release()
    return taken.folder


def earlier_run(out: Path, data: Path, given: dict[str, Any], *, finished: bool = False) -> Path:
    """What a run of EfficientNet-Lite0 leaves behind, as far as claiming a folder looks at it."""
    (out / rundir.RESUME).mkdir(parents=True)
    order = Order(data.resolve(), "efficientnet_lite0", given)
    rundir.write_json(out / rundir.LOCAL, order.to_json())
    scanned = scanning.scan(read_folders(data), bad_limit=1.0)
    check_same_data(out, held_out.split(scanned, "0.2"), 0.01, same=False)  # records them
    if finished:
        (out / rundir.RESUME).rmdir()
        rundir.finish(out)
    else:
        (out / rundir.RESUME / "step-000000003").mkdir()
    return out


# ---------------------------------------------------------------- flags and help


@pytest.fixture(scope="module")
def help_and_imports(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """The text of --help, and the modules that were imported for it."""
    result = finetune(tmp_path_factory.mktemp("help"), "--help", python=("-X", "importtime"))
    assert result.returncode == 0
    return result.stdout, {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}


def test_flags_are_pinned(help_and_imports: tuple[str, set[str]]) -> None:
    shown: dict[str, list[str]] = {}
    for line in help_and_imports[0].splitlines():
        if heading := re.match(r"╭─ (.+?) ─", line):
            shown[heading[1]] = []
        elif flag := re.match(r"│ (?:-h, )?(--[\w-]+)", line):
            list(shown.values())[-1].append(flag[1])
    assert shown == FLAGS


def test_flags_are_the_fields_and_the_help_is_their_docstrings(
    help_and_imports: tuple[str, set[str]],
) -> None:
    flags = [flag for heading, group in FLAGS.items() if heading != "options" for flag in group]
    fields = [field.name for cls in (Run, Recipe) for field in dataclasses.fields(cls)]
    assert sorted(flags) == sorted("--" + name.replace("_", "-") for name in fields)
    text = " ".join(help_and_imports[0].replace("│", " ").split())
    missing = [doc for cls in (Run, Recipe) for doc in field_docs(cls).values() if doc not in text]
    assert not missing


def test_help_loads_nothing_heavy(help_and_imports: tuple[str, set[str]]) -> None:
    imported = {name.split(".")[0] for name in help_and_imports[1]}
    assert "tyro" in imported
    assert not imported & {
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "PIL",
        "sklearn",
        "matplotlib",
        "huggingface_hub",
    }


def test_help_is_instant(tmp_path: Path) -> None:
    """Half a second of one core; on a busy machine, where everything takes longer, as many times
    the import of tyro."""

    def cpu_seconds(run: Callable[[], subprocess.CompletedProcess[Any]]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run().returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def one_is_in_time() -> bool:
        tyro_s = cpu_seconds(lambda: subprocess.run([sys.executable, "-c", "import tyro"]))
        return cpu_seconds(lambda: finetune(tmp_path, "--help")) <= max(0.5, 3.5 * tyro_s)

    assert any(one_is_in_time() for _ in range(5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "x", "--imgsz", "3"), ["error: --imgsz is --image-size here"]),
        (("--data", "x", "--epoch", "3"), ["--epoch", "Perhaps you meant", "--epochs INT"]),
        (("--data", "x", "--epochs", "three"), ["--epochs", "'three'"]),
        (("--data", "x", "--epochs", "nan"), ["--epochs", "'nan'"]),
        (("--data", "x", "--lr", "1,5"), ["--lr", "'1,5'"]),
        (("--data", "x", "--fit", "stretch"), ["--fit", "'stretch'", "squash", "crop", "pad"]),
    ],
)
def test_wrong_flags(tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    result = finetune(tmp_path, *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert not [word for word in words if word not in result.stderr], result.stderr
    assert not contents(tmp_path)


ALL_FLAGS = ["help", *other_flags.flags_of(Run, Recipe)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "--data x --imgsz 64 --batch 8 --lr0 0.1 --model y --project p",
            [
                "--imgsz is --image-size here",
                "--batch is --batch-size",
                "--lr0 is --lr",
                "--model is --base",
                "--project is --out",
            ],
        ),
        ("--data x --learning_rate=0.1", ["--learning_rate is --lr here"]),
        (
            "classify train data=x epochs=3 imgsz=64",
            ["data= is --data", "epochs= is --epochs", "imgsz= is --image-size"],
        ),
        ("--data x -b 8 -j 2", ["-b is --batch-size", "-j is --workers"]),
        ("--nc 3", ["--nc is not needed, because classes are the names of the folders"]),
        (
            "--data x --save_period 5 --cache --nproc 2 --fp16 --gradient_checkpointing "
            "--push_to_hub -c x.yaml --momentum 1",
            [
                "--save_period is not needed, because the best weights",
                "--cache is not needed",
                "--fp16 is --amp here",
                "--nproc: several processes are started by torchrun --standalone --nproc-per-node "
                "N -m finetune",
                "--gradient_checkpointing: a batch",
                "--push_to_hub: python -m zoo push RUN",
                "-c: settings are flags",
                "--momentum: optimizers have",
            ],
        ),
        (
            "-o Global.epochs=3 Global.save_interval=1",
            ["-o: settings are flags", "Global.save_interval= is not needed"],
        ),
        ("--data imgsz=3 --image_size 64 --val batch=4 --workers -5 --foo --help model.pt", []),
    ],
)
def test_flags_of_other_programs_are_answered_with_ours(command: str, words: list[str]) -> None:
    if not words:
        return other_flags.check_flags(command.split(), ALL_FLAGS)
    message = error_text(lambda: other_flags.check_flags(command.split(), ALL_FLAGS))
    assert not [word for word in words if word not in message], message


def test_every_flag_of_others_has_one_meaning_and_is_none_of_ours() -> None:
    tables = (other_flags.OURS, other_flags.NOT_NEEDED, other_flags.ELSEWHERE)
    theirs = [name for table in tables for names in table.values() for name in names]
    assert len(theirs) == len(set(theirs))
    assert not set(theirs) & set(ALL_FLAGS)
    assert set(other_flags.OURS) <= set(ALL_FLAGS)
    assert {f"--{name}" for name in ALL_FLAGS} == {
        flag for flags in FLAGS.values() for flag in flags
    }


def test_what_answers_a_flag_of_others_names_flags_and_commands_that_exist() -> None:
    answers = " ".join((*other_flags.NOT_NEEDED, *other_flags.ELSEWHERE)).replace(
        "--standalone --nproc-per-node", ""
    )
    assert set(re.findall(r"--([a-z-]+)", answers)) <= {*ALL_FLAGS, "to"}
    for name in re.findall(r"python -m ([\w.]+)", answers):
        assert importlib.util.find_spec(name)


def test_every_flag_of_torchrun_is_answered_where_it_stands_behind_our_name() -> None:
    parser = get_args_parser()
    flags = {
        flag
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--")
    }
    asked = sorted(flags - {"--help", "--print-completion", "--print_completion"})
    answer = error_text(lambda: other_flags.check_flags(asked, ALL_FLAGS))
    assert not [
        flag for flag in asked if f"{flag}: " not in answer and f"{flag} is --out" not in answer
    ]


EMPTY_OR_LONG = {"": "empty one", "x" * 5000: "4,096", "x/" * 2000: "4,096"}


@pytest.mark.parametrize("value", EMPTY_OR_LONG, ids=lambda value: f"{len(value)} characters")
def test_no_flag_takes_an_empty_value_or_one_longer_than_a_path(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in set(ALL_FLAGS) - {"help"} - SWITCHES - (set() if value else MAY_BE_EMPTY):
        for words in ([f"--{name}", value], [f"--{name}={value}"]):
            result = finetune_here(monkeypatch, capsys, "--data", "x", *words)
            assert_refused(result, f"--{name}", EMPTY_OR_LONG[value], lines=1)
            assert len(result.stderr) < 400


@pytest.mark.parametrize(
    ("module", "expected"),
    [("finetune", "such as --data 'my pictures/'"), ("finetune.explain", "such as --name value")],
)
def test_a_folder_without_its_flag_is_answered_with_the_flag(
    monkeypatch: pytest.MonkeyPatch, module: str, expected: str
) -> None:
    kind = {"finetune": Run, "finetune.explain": explain.Situation}[module]
    monkeypatch.setattr("sys.argv", [module, "my pictures/", "--epochs", "1"])
    with pytest.raises(UserError, match=rf"^my pictures/: expected a flag .*{expected}"):
        parse(lambda: None, module, kind)


def test_no_switch_takes_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(SWITCHES) == ["from-scratch", "probe-only", "zero-gamma"]
    for words in (["--{}", "True"], ["--{}", "-1"], ["--{}=1"], ["--{}", ""]):
        for name in SWITCHES:
            given = ["--data", "x", *(word.format(name) for word in words)]
            result = finetune_here(monkeypatch, capsys, *given)
            assert_refused(result, f"--{name}", "no value behind a switch")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2, 10**10, 1e300])
def test_no_number_is_taken_beyond_its_range(value: float) -> None:
    for name in ("workers", "bad_limit"):
        message = error_text(lambda name=name: Run(data="x", **{name: value}))  # type: ignore[misc]
        assert message.startswith(flag_of(name))
    for name, kind in TYPES.items():
        if kind in (int, float):
            assert error_text(lambda name=name: resolve.check_given({name: value})).startswith(
                flag_of(name)
            )  # type: ignore[misc]


@pytest.mark.parametrize("value", [1e-300, 1e-40, 1e-9])
def test_a_number_that_rounding_makes_nothing_of_is_refused(value: float) -> None:
    for name in ("mixup", "cutmix", "clip_norm", "sam_rho"):
        message = error_text(lambda name=name: resolve.check_given({name: value}))  # type: ignore[misc]
        assert "expected 0 (off), or a value from " in message
        resolve.check_given({name: 0.0})
        resolve.check_given({name: ROWS[name].least})


def test_main_hands_over_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import tyro

    from finetune.__main__ import main

    seen: list[tuple[Run, dict[str, Any]]] = []
    monkeypatch.setattr("finetune.pipeline.start", lambda run, given: seen.append((run, given)))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    for arguments in (
        ["--data", "x"],
        ["--data", "x", "--out", "y", "--flip", "0", "--probe-only", "--val", "v", "--seed", "0"],
    ):
        tyro.cli(main, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    assert seen == [
        (Run(data="x"), {}),
        (Run(data="x", out=Path("y")), {"flip": 0.0, "probe_only": True, "val": "v", "seed": 0}),
    ]


# ---------------------------------------------------------------- the one error for people


def test_a_user_error_is_printed_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> None:
        raise UserError("expected this, seen that.")

    with pytest.raises(SystemExit) as caught:
        run_main(wrong)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: expected this, seen that.\n")


def test_other_ends_of_a_command() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise AssertionError("ours")

    codes = []
    for main in (lambda: None, lambda: 3, stop):
        with pytest.raises(SystemExit) as caught:
            run_main(main)
        codes.append(caught.value.code)
    assert codes == [None, 3, 130]
    with pytest.raises(AssertionError, match="ours"):  # our own invariants keep their traceback
        run_main(broken)


def test_a_bad_image_crosses_process_borders() -> None:
    error = pickle.loads(pickle.dumps(BadImage("a/b.png", "cut off")))
    assert (type(error), error.name, error.reason, str(error)) == (
        BadImage,
        "a/b.png",
        "cut off",
        "a/b.png: cut off",
    )


# ---------------------------------------------------------------- bad input, through the real
# command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--data is missing", "digits"]),
        (("--data", "x", "--workers", "-5"), ["--workers -5", "-1"]),
        (("--data", "x", "--bad-limit", "5"), ["--bad-limit 5", "0 to 1", "0.05"]),
        (("--resume", "runs/x", "--out", "x"), ["--resume", "--base and --out", "remove these"]),
    ],
)
def test_refused_before_anything_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    assert_refused(finetune(tmp_path, *arguments), *words, lines=1)
    assert not contents(tmp_path)


def test_missing_data_after_the_device_and_a_gpu_that_torch_cannot_use(
    animals: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = here / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    before = contents(here)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = finetune_here(monkeypatch, capsys, "--data", "animal")
    assert_refused(
        result, "--data animal:", "nothing at this path", "near: animals", "--data digits", lines=1
    )
    first, warning = result.stdout.splitlines()
    assert re.fullmatch(r"device: cpu \(torch \S+ sees no GPU; \d+ CPU cores\)", first)
    assert warning.startswith("warning: this machine has an NVIDIA GPU")
    assert "pip install --force-reinstall torch torchvision" in warning
    assert contents(here) == before


def test_a_base_that_needs_the_network(
    animals: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hf"))
    result = finetune_here(
        monkeypatch, capsys, "--data", "animals", "--base", "vit_base_21k", "--device", "cpu"
    )
    assert_refused(
        result,
        "vit_base_21k",
        "timm/vit_base_patch16_224.augreg_in21k",
        "bases that need no download: efficientnet_lite0",
        "python -m zoo pull vit_base_21k",
        lines=10,
    )
    assert not list(here.rglob(rundir.FINISHED))
    # the next try may go on
    assert claimed(data="animals", base="vit_base_21k") == Path("runs/animals-vit_base_21k")


# ---------------------------------------------------------------- bad input, in this process


def test_data_that_is_no_folder_of_pictures(here: Path) -> None:
    (here / "photo.png").write_bytes(b"x")
    refused(["--data photo.png", "a file", "expected a folder"], data="photo.png")
    refused(["--data nowhere/at/all", "nothing at this path"], data="nowhere/at/all")
    assert set(contents(here)) == {"photo.png"}
    (here / "empty").mkdir()
    refused(["empty has no class folder", "at least two folders"], data="empty")
    write_classes(here / "half", {"cat": 3, "dog": 0})
    refused(
        [
            "no picture in ",
            f"{Path('half', 'dog')}: expected at least one",
            "Add pictures, or remove",
        ],
        data="half",
    )


def test_one_class_and_then_two(here: Path) -> None:
    write_classes(here / "animals", {"cat": 10})
    refused(["animals has one class folder (cat)", "at least two folders"], data="animals")
    write_classes(here / "animals", {"dog": 10}, first=10)
    assert claimed(data="animals") == Path("runs/animals-efficientnet_lite0")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("vit_bsae_21k", ["unknown base 'vit_bsae_21k'", "vit_base_21k, ", "python -m zoo list"]),
        ("alexnet", ["alexnet is not offered", "resnet18_1k"]),
        ("animals", ["animals is a folder without FINISHED.json"]),
    ],
)
def test_bases_that_are_not_there(animals: Path, here: Path, base: str, words: list[str]) -> None:
    before = contents(here)
    refused(words, data="animals", base=base)
    assert contents(here) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"recipe": "warm-up-step"},
            ["--recipe warm-up-step", "auto, warmup-step", "did you mean warmup-step?"],
        ),
        ({"epochs": 0}, ["--epochs 0", "from 1"]),
        ({"val": "1.5"}, ["--val 1.5", "between 0 and 1"]),
        ({"val": "nan"}, ["--val nan", "between 0 and 1"]),
        ({"val": "animals/val"}, ["--val ", "animals/val", "0.2", "existing folder"]),
        ({"image_size": 100}, ["--image-size 100", "multiple of 32"]),
        ({"warmup": "two epochs"}, ["'two epochs'", "'10%'"]),
        ({"warmup": "3 epochs", "epochs": 2}, ["'3 epochs'", "the length of the run"]),
    ],
)
def test_a_wrong_setting_does_not_block_the_next_try(
    animals: Path, given: dict[str, Any], words: list[str]
) -> None:
    before = contents(Path())
    refused(words, given, data="animals")
    assert contents(Path()) == before  # no folder either
    corrected = {"seed": 1}
    out = claimed(corrected, data="animals")
    assert out == Path("runs/animals-efficientnet_lite0")
    assert rundir.read_json(out / rundir.LOCAL)["given"] == corrected


@pytest.mark.parametrize("name", ["image_size", "start_size"])
def test_a_side_that_the_base_does_not_take_is_refused_before_the_data_is_read(
    animals: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "scan", None)
    refused([flag_of(name, 33), "multiple of 32"], {name: 33}, data="animals")


def test_what_was_there_before_a_refused_run_stays(animals: Path, here: Path) -> None:
    refused(["multiple of 32"], {"image_size": 100}, data="animals", out=Path("new/folder/run"))
    assert not (here / "new").exists()
    (here / "mine" / "run").mkdir(parents=True)
    refused(["multiple of 32"], {"image_size": 100}, data="animals", out=Path("mine/run"))
    assert not list((here / "mine" / "run").iterdir())
    taken = claim(Run(data="animals", out=Path("new/run")), {})
    # the error names this file
    (here / "new" / "run" / rundir.LEFT_OUT).write_text("path,reason\n")
    with pytest.raises(UserError), held(taken):
        raise UserError(f"refused, see {Path('new/run') / rundir.LEFT_OUT}")
    assert [path.name for path in (here / "new" / "run").iterdir()] == [rundir.LEFT_OUT]
    assert claimed(data="animals", out=Path("new/run")) == Path("new/run")


# ---------------------------------------------------------------- run folders


def test_a_new_folder_records_what_was_asked_for(animals: Path, here: Path) -> None:
    assert claimed({"lr": 0.1, "val": "0.3"}, data="animals", out=Path("a/new/run")) == Path(
        "a/new/run"
    )
    assert rundir.read_json(here / "a/new/run" / rundir.LOCAL) == {
        "data": str(animals.resolve()),
        "base": "efficientnet_lite0",
        "given": {"lr": 0.1, "val": "0.3"},
    }
    assert claimed(data="animals/") == Path("runs/animals-efficientnet_lite0")


def test_paths_that_no_file_system_takes_are_told(animals: Path, here: Path) -> None:
    (here / "round").symlink_to("round")
    long = "x" * 300
    refused([f"--data {long}", "there is nothing"], data=long, out=Path("new"))
    refused(["--data round/x", "there is nothing"], data="round/x", out=Path("new"))
    for out in (long, "round"):
        refused([f"--out {out}", "cannot be read", "another --out"], data="animals", out=Path(out))
    refused(
        ["--val round", "0.2", "existing folder"], {"val": "round"}, data="animals", out=Path("new")
    )
    refused(
        ["--val 20%", "0.2", "existing folder"], {"val": "20%"}, data="animals", out=Path("new")
    )
    refused([r"r\xff", "UTF-8"], data="animals", out=Path(os.fsdecode(b"r\xff")))
    assert not (here / "new").exists()


def test_out_that_cannot_be_a_run_folder(animals: Path, here: Path) -> None:
    (here / "notes").mkdir()
    (here / "notes" / "diary.txt").write_text("dear diary")
    (here / "file").write_text("x")
    before = contents(here)
    refused(
        ["--out notes", "something else", "diary.txt", "another --out"],
        data="animals",
        out=Path("notes"),
    )
    refused(
        ["--out animals", "something else", "another --out"], data="animals", out=Path("animals")
    )
    refused(["--out file is a file", "new folder"], data="animals", out=Path("file"))
    refused([str(Path("file/run")), "another --out"], data="animals", out=Path("file/run"))
    assert contents(here) == before


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("base", "given", "difference"),
    [
        (
            "efficientnet_lite0",
            {"epochs": 3, "seed": 1},
            "--seed is 1, in that run it was not given",
        ),
        ("efficientnet_lite0", {}, "--epochs is not given, in that run it was 3"),
        ("efficientnet_lite0", {"epochs": 4}, "--epochs is 4, in that run it was 3"),
        (
            "resnet18_1k",
            {"epochs": 3},
            "--base is resnet18_1k, in that run it was efficientnet_lite0",
        ),
    ],
)
def test_a_folder_of_another_run(
    animals: Path, here: Path, finished: bool, base: str, given: dict[str, Any], difference: str
) -> None:
    out = earlier_run(here / "run", animals, {"epochs": 3}, finished=finished)
    before = contents(here)
    message = refusal(lambda: claim(Run(data="animals", base=base, out=out), given))
    assert (
        f"holds {'a finished' if finished else 'an unfinished'} run of another command: "
        f"{difference}" in message
    )
    assert "another --out" in message
    assert contents(here) == before


PLACES: dict[str, Callable[[Path], Run]] = {
    "the same command": lambda data: Run(data=str(data), out=Path("run"), device="cpu"),
    "--resume": lambda data: Run(resume=Path("run"), data=str(data), device="cpu"),
}


@pytest.mark.usefixtures("takes_all")
@pytest.mark.parametrize("how", PLACES)
@pytest.mark.parametrize("finished", [False, True])
def test_the_pictures_decide_wherever_they_lie(
    animals: Path, here: Path, how: str, finished: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = earlier_run(here / "run", animals, {}, finished=finished)
    before = rundir.read_json(out / rundir.LOCAL)
    other = write_classes(here / "plants", {"oak": 2, "elm": 2}, first=50)
    (other / "oak" / "notes.txt").write_text("an oak")
    (out / rundir.LEFT_OUT).write_text("what the run left out")
    message = refusal(lambda: start(PLACES[how](other), {}))
    assert str(other) in message
    assert ("oak/000.png" if finished else "oak is new") in message
    assert "another --out" in message
    assert rundir.read_json(out / rundir.LOCAL) == before
    assert (out / rundir.LEFT_OUT).read_text() == "what the run left out"
    moved = animals.rename(here / "elsewhere")
    if finished:
        start(PLACES[how](moved), {})
        assert f"{Path('run')} is already finished" in capsys.readouterr().out
        return
    # as far as the state, which this folder has in name only
    assert "all of them damaged" in refusal(lambda: start(PLACES[how](moved), {}))
    assert f"pictures: {moved}\n" in capsys.readouterr().out
    assert rundir.read_json(out / rundir.LOCAL)["data"] == str(moved)
    assert not (out / rundir.LEFT_OUT).exists()  # all of these pictures are used
    (moved / "cat" / "000.png").write_bytes((other / "oak" / "000.png").read_bytes())
    assert "expected the same bytes" in refusal(lambda: start(PLACES[how](moved), {}))


@pytest.mark.usefixtures("takes_all")
def test_a_validation_folder_may_move_too(
    animals: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = write_classes(here / "val", {"cat": 2, "dog": 2}, first=50)
    out, val = earlier_run(here / "run", animals, {}), {"val": str(held_out)}
    rundir.write_json(out / rundir.LOCAL, Order(animals, "efficientnet_lite0", val).to_json())
    check_same_data(out, scanning.scan(read_folders(animals, val=held_out)), 0.01, same=False)
    (here / "new").mkdir()
    moved = animals.rename(here / "new" / "animals")
    moved_val = {"val": str(held_out.rename(here / "held out"))}  # not beside the data any more
    for run in (
        Run(data=str(moved), out=out, device="cpu"),
        Run(resume=out, data=str(moved), device="cpu"),
    ):
        # as far as the state, which this folder has in name only
        assert ("all of them damaged") in refusal(lambda run=run: start(run, moved_val))  # type: ignore[misc]
        assert f"pictures: {moved} and {here / 'held out'}\n" in capsys.readouterr().out
    assert rundir.read_json(out / rundir.LOCAL)["given"] == moved_val
    refused(["remove --val"], {"val": "0.3"}, resume=out, data=str(moved))


def test_resume_names_the_pictures_that_are_not_there(animals: Path, here: Path) -> None:
    out = earlier_run(here / "run", animals, {})
    animals.rename(here / "elsewhere")
    refused([str(animals), "there is no folder now", f"--resume {out} --data FOLDER"], resume=out)
    (out / rundir.DATA).unlink()  # what a stranger's folder lacks, its local.json may not decide
    (here / "elsewhere").rename(animals)
    refused(["had recorded its pictures", "--data", str(animals)], resume=out)


def added(data: Path) -> None:
    (data / "dog" / "new.png").write_bytes(png(70))


def added_class(data: Path) -> None:
    write_classes(data, {"fox": 1})  # the bytes of a cat


def removed(data: Path) -> None:
    (data / "dog" / "005.png").unlink()


def rewritten(data: Path) -> None:
    of = (data / "dog" / "005.png").stat()
    (data / "dog" / "005.png").write_bytes((data / "cat" / "005.png").read_bytes())
    # as rsync and cp -p leave it
    os.utime(data / "dog" / "005.png", ns=(of.st_atime_ns, of.st_mtime_ns))


def swapped(data: Path) -> None:
    (data / "cat").rename(data / "x")
    (data / "dog").rename(data / "cat")
    (data / "x").rename(data / "dog")


def untouched(data: Path) -> None:
    pass


def copied(data: Path) -> None:
    shutil.copytree(data, data.with_name("copy"))
    shutil.rmtree(data)
    data.with_name("copy").rename(data)


def repaired(data: Path) -> None:
    (data / "dog" / "cut off.png").write_bytes(png(71))


def put_under_two_classes(data: Path) -> None:
    shutil.copy(data / "cat" / "003.png", data / "dog" / "new.png")


def put_under_two_classes_often(data: Path) -> None:
    for number in range(5):
        shutil.copy(data / "cat" / f"{number:03}.png", data / "dog" / f"new {number}.png")


def doubled(data: Path) -> None:
    shutil.copy(data / "cat" / "003.png", data / "cat" / "new.png")


def noted(data: Path) -> None:
    (data / "dog" / "notes.txt").write_text("a dog")
    (data / "dog" / "damaged.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (added, "1 new (dog/new.png)"),
        (added_class, "1 new (fox/000.png)"),
        (removed, "1 missing (dog/005.png)"),
        (rewritten, "1 changed (dog/005.png)"),
        (swapped, "20 changed (cat/000.png, "),
        (untouched, ""),
        (copied, ""),
        (repaired, "1 new (dog/cut off.png)"),
        (put_under_two_classes, "1 not usable now (cat/003.png)"),
        (
            put_under_two_classes_often,
            "a run would stop now, because 10 of 26 pictures stand under two classes",
        ),
        (doubled, "1 new (cat/new.png)"),
        (noted, ""),
    ],
)
def test_a_finished_run_knows_whether_its_pictures_are_the_same(
    animals: Path,
    here: Path,
    change: Callable[[Path], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (animals / "dog" / "cut off.png").write_bytes(png(71)[:40])
    out = earlier_run(here / "run", animals, {}, finished=True)
    local = rundir.read_json(out / rundir.LOCAL)
    rundir.write_json(
        out / rundir.LOCAL, local | {going_on.STATES: going_on.file_states(read_folders(animals))}
    )
    change(animals)
    if change is untouched:
        monkeypatch.setattr(scanning, "scan", None)  # nothing is read
    changed = going_on.changes(out, read_folders(animals))
    assert str(changed).startswith(words)
    assert bool(changed) is bool(words)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (",", ",", False),
        (",", "test,", True),
        (",", ",anna", True),
        (",anna", ",bert", True),
        (",", "val,", True),
        # only the order of the rows
        ("test,", "test,", False),
    ],
)
def test_a_finished_run_knows_whether_its_table_is_the_same(
    animals: Path, here: Path, before: str, after: str, changed: bool
) -> None:
    table, out = here / "t.csv", here / "run"
    paths = [path.relative_to(here).as_posix() for path in sorted(animals.rglob("*.png"))]
    rows = [f"{path},{path.split('/')[-2]}" for path in paths]

    def listing(cells: str, order: int) -> Listing:
        lines = [f"{row},," for row in rows[1:]] + [f"{rows[0]},{cells}"]
        table.write_text("\n".join(["path,label,split,group", *lines[::order]]) + "\n")
        return DataSource(table).listing()

    out.mkdir()
    data = held_out.split(scanning.scan(listing(before, 1)), "0.3")
    check_same_data(out, data, 0.01, same=False)
    states = {going_on.STATES: going_on.file_states(listing(before, 1))}
    rundir.write_json(out / rundir.LOCAL, states)
    for _ in range(2):
        assert bool(going_on.changes(out, listing(after, -1))) is changed
        # the pictures are read and compared, too
        rundir.write_json(out / rundir.LOCAL, {})


def test_the_digest_is_the_same_wherever_a_validation_folder_and_its_data_lie(here: Path) -> None:
    data, val = here / "a" / "train", here / "b" / "val"
    write_classes(data, {"cat": 3, "dog": 3})
    write_classes(val, {"cat": 2, "dog": 2}, first=50)
    out = here / "run"
    out.mkdir()
    scanned = scanning.scan(read_folders(data, val=val))
    check_same_data(out, scanned, 0.01, same=False)
    assert scanned.of("val")[0].path == "../../b/val/cat/000.png"
    rundir.write_json(
        out / rundir.LOCAL, Order(data, "efficientnet_lite0", {"val": str(val)}).to_json()
    )
    recorded = recorded_order(out)
    for new_data, new_val in (
        (here / "moved", val),
        (here / "moved", here / "x" / "y" / "val"),
        (here / "x" / "moved", here / "x" / "y" / "val"),
    ):
        for old, new in ((val, new_val), (data, new_data)):
            new.parent.mkdir(parents=True, exist_ok=True)
            if old != new:
                old.rename(new)
        data, val = new_data, new_val
        tree = read_folders(data, val=val)
        assert scanning.scan(tree).digest() == scanned.digest()
        assert not going_on.changes(out, tree, val=recorded.val_path)
    swapped(val)
    assert str(
        going_on.changes(out, read_folders(data, val=val), val=recorded.val_path)
    ).startswith("4 changed (../")
    assert scanning.scan(read_folders(data, val=val)).digest() != scanned.digest()


def test_a_copy_whose_names_have_the_other_unicode_form_is_the_same_data(here: Path) -> None:
    names = [
        "caf\u00e9/\u00e9.png",
        "caf\u00e9/f.png",
        "caf\u00e9/a.png",
        "cafz/z.png",
        "cafz/b.png",
        "a/a.png",
        "a/b.png",
    ]
    for form in ("NFC", "NFD"):
        for number, name in enumerate(names):
            path = here / form / unicodedata.normalize(form, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number))
    out = earlier_run(here / "run", here / "NFC", {})
    of_run = held_out.split(scanning.scan(read_folders(here / "NFC")), "0.2")
    lines = "".join(
        f"{p.path}\t{of_run.classes[p.label]}\t{p.split}\t{p.sha256}\n" for p in of_run.pictures
    )
    assert of_run.digest() == hashlib.sha256(lines.encode()).hexdigest()  # as it always was
    copy = held_out.split(scanning.scan(read_folders(here / "NFD")), "0.2")
    assert copy.classes != of_run.classes
    # the accent sorts elsewhere, and labels with it
    assert list(map(nfc, copy.classes)) != list(of_run.classes)
    taken = claim(Run(resume=out, data=str(here / "NFD")), {})
    taken.lock.release()
    going = with_recorded_names(taken, copy)
    assert going.classes == of_run.classes
    # the same batches, too
    assert [p[1:] for p in going.pictures] == [p[1:] for p in of_run.pictures]
    for recorded in ("NFC", "NFD"):  # a run that goes on records the names that are there
        for form in ("NFC", "NFD"):
            finished = dataset.of_run(out, here / form)
            assert all(unicodedata.is_normalized(recorded, p.path) for p in finished.pictures)
            source = PictureSource(finished.root, Preprocessing(8), 0, pin=False)
            labels = [
                label
                for _, of_batch in evaluation_batches(finished.pictures, source)
                for label in of_batch
            ]
            assert labels == [p.label for p in finished.pictures]
        check_same_data(out, going, 0.01, same=True)
    assert not going_on.changes(out, read_folders(here / "NFD"))
    write_classes(here / "NFD", {"tea": 2}, first=50)
    more = with_recorded_names(taken, scanning.scan(read_folders(here / "NFD")))
    assert "since this run began: tea is new." in refusal(
        lambda: check_same_data(out, more, 0.01, same=True)
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
SETTINGS = st.sampled_from([f.name for f in dataclasses.fields(Recipe)]) | st.text(max_size=5)
LIKELY = st.sampled_from(
    [
        "x",
        "auto",
        "find",
        "",
        "\0",
        "none",
        0,
        1,
        -1,
        10**400,
        1.5,
        True,
        [],
        {},
        None,
        "0.2",
        "1.5",
    ]
)


@settings(max_examples=150, deadline=None)
@drawn(SETTINGS, JSON | LIKELY)
def test_a_strangers_settings_are_an_order_or_one_error(name: str, value: Any) -> None:
    content = {"data": "/x", "base": "y", "given": {name: value}}
    try:
        with checks.of("local.json"):
            order = Order.from_json(content)
    except UserError:
        return
    assert name in {f.name for f in dataclasses.fields(Recipe)}
    assert order.given == {name: value}
    assert isinstance(value, str | int | float)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", "x", ["epochs", "whole number", "'x'"]),
        ("fit", "stretch", ["fit", "one of squash, crop, pad"]),
        ("probe_only", 1, ["probe_only", "true or false", "1"]),
        ("lr", "fast", ["lr", "number", "'fast'"]),
        ("epoch", 3, ["such as epochs", "'epoch'"]),
        ("val", "a\0b", ["val", "zero bytes"]),
        ("epochs", 0, ["--epochs 0", "from 1"]),
        ("recipe", "best", ["--recipe best", "auto"]),
        ("balance", ["none"], ["balance", "one of none"]),
    ],
)
def test_a_wrong_setting_of_a_strangers_run_is_named(
    animals: Path, here: Path, name: str, value: Any, words: list[str]
) -> None:
    out = earlier_run(here / "run", animals, {})
    rundir.write_json(
        out / rundir.LOCAL, rundir.read_json(out / rundir.LOCAL) | {"given": {name: value}}
    )
    refused(words, resume=out)


def test_the_same_run_goes_on_from_anywhere(
    animals: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = earlier_run(here / "run", animals, {"epochs": 3})
    before = contents(out)
    assert claimed({"epochs": 3}, data="animals", out=Path("run")) == Path("run")
    monkeypatch.chdir(animals)
    assert claimed({"epochs": 3}, data="../animals", out=out) == out
    taken = claim(Run(resume=out), {})
    taken.lock.release()
    assert taken.order == Order(animals.resolve(), "efficientnet_lite0", {"epochs": 3})
    assert {
        name: content for name, content in contents(out).items() if name != "resume/lock"
    } == before


def test_the_same_run_finished_is_left_alone(
    animals: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = earlier_run(here / "run", animals, {"epochs": 3}, finished=True)
    before = contents(out)
    for run, given in (
        (Run(data="animals", out=out, device="cpu"), {"epochs": 3}),
        (Run(resume=out), {}),
    ):
        assert claim(run, given).finished
        start(run, given)
        assert f"{out} is already finished" in capsys.readouterr().out
    assert contents(out) == before


@pytest.mark.usefixtures("takes_all")
def test_a_finished_run_tells_that_its_pictures_changed_however_it_is_started(
    animals: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = earlier_run(here / "run", animals, {"epochs": 3}, finished=True)
    shutil.copyfile(animals / "cat" / "000.png", animals / "cat" / "new.png")
    for run, given in (
        (Run(data="animals", out=out, device="cpu"), {"epochs": 3}),
        (Run(resume=out, data="animals", device="cpu"), {}),
        (Run(resume=out, device="cpu"), {}),
    ):
        message = refusal(lambda run=run, given=given: start(run, given))  # type: ignore[misc]
        assert "cat/new.png" in message
        assert "another --out" in message
    animals.rename(here / "elsewhere")  # nothing to compare with
    start(Run(resume=out, device="cpu"), {})
    assert f"{out} is already finished" in capsys.readouterr().out


def test_a_finished_run_is_compared_where_its_pictures_are_now(animals: Path, here: Path) -> None:
    out = earlier_run(here / "run", animals, {}, finished=True)
    (here / "moved").mkdir()
    order = resumed_order(Run(resume=out, root=str(here / "moved")), {})
    assert order.options.root == str(here / "moved")
    assert order.source.is_there()
    (here / "moved").rmdir()
    assert not order.source.is_there()


def test_resume_takes_no_settings(animals: Path, here: Path) -> None:
    earlier_run(here / "run", animals, {})
    refused(
        ["--resume", "run", "remove --lr, --batch-size"],
        {"lr": 0.1, "batch_size": 8},
        resume=Path("run"),
    )
    for other in ({"out": Path("run")}, {"base": "vit_base_21k"}):
        refused(["--resume", "--base and --out", "remove these"], resume=Path("run"), **other)


def test_resume_of_what_is_no_run(animals: Path, here: Path) -> None:
    before = contents(here)
    for path in ("animals", "missing", "animals/cat/000.png"):
        refused([f"--resume {path}", "python -m finetune", "local.json"], resume=Path(path))
    assert contents(here) == before


def test_a_folder_in_use_is_free_again_when_its_process_dies(animals: Path) -> None:
    out = claimed(data="animals")
    before = rundir.read_json(out / rundir.LOCAL)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out / rundir.RESUME / "lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        for given in ({}, {"epochs": 3}):  # also another command, while nothing has been saved yet
            message = refusal(lambda given=given: claim(Run(data="animals"), given))  # type: ignore[misc]
            assert f"{out} is in use by another process" in message
            assert "another --out" in message
        assert rundir.read_json(out / rundir.LOCAL) == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert claimed({"epochs": 3}, data="animals") == out


def test_the_sample_is_written_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def write(target: Path) -> Path:
        written.append(target)
        return write_classes(target, {"0": 1, "1": 1})

    monkeypatch.setattr("finetune.run_folder.named_folders.write_digits", write)
    assert [claimed(data="digits"), claimed(data="digits")] == [
        Path("runs/digits-efficientnet_lite0")
    ] * 2
    assert written == [Path("digits")]


# ---------------------------------------------------------------- device


@pytest.mark.skipif(CUDA or torch.backends.mps.is_available(), reason="torch can use a GPU here")
def test_auto_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device, "nvidia_gpu_seen", lambda: None)
    assert device.choose("auto") == torch.device("cpu")
    assert re.fullmatch(
        r"device: cpu \(torch \S+ sees no GPU; \d+ CPU cores\)\n", capsys.readouterr().out
    )


@pytest.mark.skipif(CUDA, reason="torch can use CUDA here")
@pytest.mark.parametrize("gpu", ["nvidia-smi is installed", None])
def test_cuda_that_is_not_there(
    here: Path, gpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "nvidia_gpu_seen", lambda: gpu)
    message = refusal(lambda: start(Run(data="animals", device="cuda"), {}))
    assert message.startswith(f"--device cuda: torch {torch.__version__} cannot use it (")
    assert (device.INSTALL_CUDA in message) == bool(gpu)
    assert ("--device cpu" in message) != bool(gpu)
    assert not contents(here)


@pytest.mark.parametrize("name", ["nonsense", "gpu", "cuda:x", "meta", ""])
def test_devices_that_do_not_exist(here: Path, name: str, animals: Path) -> None:
    message = refusal(lambda: start(Run(data="animals", device=name), {}))
    assert message.startswith(f"--device {name}: expected auto, cpu, cuda, cuda:1")
    assert not (here / "runs").exists()


def test_a_run_folder_inside_the_data_is_refused(animals: Path) -> None:
    refused(
        ["--out ", "stands in the data folder", "elsewhere"],
        data="animals",
        out=animals / "runs" / "one",
    )


def test_the_usual_run_folder_inside_the_data_is_not_blamed_on_a_flag(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(animals)
    message = refusal(lambda: start(Run(data=".", device="cpu"), {}))
    assert message.startswith(f"without --out the run folder is {Path('runs')}")
    assert "choose an --out elsewhere" in message
    assert not (animals / "runs").exists()


def test_a_corrected_command_does_not_inherit_the_recipe_of_the_one_before(animals: Path) -> None:
    out = claimed({"epochs": 2}, data="animals")
    (out / rundir.RECIPE).write_text("decided by the first command")
    claimed({"epochs": 2}, data="animals")
    assert (out / rundir.RECIPE).exists()
    claimed({"epochs": 3}, data="animals")
    assert not (out / rundir.RECIPE).exists()
