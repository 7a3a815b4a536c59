"""A full disk, a full quota and a limit on the size of files: told apart, however a library wraps
them."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from finetune.machine import disk_space
from zoo.host import disk
from zoo.host.errors import UserError, run_main

LACKS = {errno.ENOSPC: disk.FULL, errno.EDQUOT: disk.FULL, errno.EFBIG: disk.TOO_LARGE}


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/runs/pets/model.safetensors")


def in_safetensors(number: int) -> Exception:
    return SafetensorError(
        f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    )


def in_torch(number: int) -> Exception:
    """torch.save raises another error while it handles the system's one."""
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 768 vs 662")
    error.__context__ = system(number)
    return error


@pytest.mark.parametrize(
    "wrapped", [system, in_safetensors, in_torch], ids=lambda wrap: wrap.__name__
)
@pytest.mark.parametrize("number", LACKS, ids=errno.errorcode.get)
def test_each_reason_is_told_by_every_library(
    tmp_path: Path, number: int, wrapped: Callable[[int], Exception]
) -> None:
    lack = disk.no_room(wrapped(number))
    assert lack == LACKS[number]
    with pytest.raises(UserError) as told, disk_space.room_needed(tmp_path / "step-1"):
        raise wrapped(number)
    assert lack.cause in str(told.value)
    assert lack.advice in str(told.value)


def test_torch_hands_the_reason_of_a_file_of_python_on() -> None:
    with pytest.raises((OSError, RuntimeError)) as caught, open("/dev/full", "wb") as file:
        torch.save({"weight": torch.zeros(100_000)}, file)
    assert disk.no_room(caught.value) == disk.FULL


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), RuntimeError("a fault of ours"), MemoryError()],
    ids=repr,
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert disk.no_room(error) is None


@pytest.mark.parametrize("number", LACKS, ids=errno.errorcode.get)
def test_a_command_that_did_not_expect_it_tells_it_without_a_traceback(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise system(number)

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == UserError.exit_code
    told = " ".join(capsys.readouterr().err.split())
    assert f"/data/runs/pets/model.safetensors: {LACKS[number].cause}" in told
    assert LACKS[number].advice in told


def test_a_path_that_is_too_long_is_told_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: os.stat("x/" * 3000))  # type: ignore[arg-type, return-value]
    assert ended.value.code == UserError.exit_code
    told = capsys.readouterr().err
    assert "(6,000 bytes)" in told
    assert "Choose shorter names" in told
    assert len(told) < 300


def test_no_folder_for_temporary_files_is_told_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as ended:
        run_main(tempfile.gettempdir)  # type: ignore[arg-type]
    assert ended.value.code == UserError.exit_code
    told = capsys.readouterr().err
    assert str(tmp_path / "nowhere") in told
    assert "TMPDIR=FOLDER" in told
