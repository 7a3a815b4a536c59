"""report.json is one typed value: every key has its field, and no byte changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.contract import report, rundir
from zoo.contract.finished_run import FinishedRun
from zoo.files import typed_json
from zoo.host.errors import UserError


def test_reading_and_writing_a_report_gives_the_same_bytes(
    finished_run: Path, tmp_path: Path
) -> None:
    found = FinishedRun(finished_run).report
    report.write_report_json(tmp_path, found)
    written = (tmp_path / rundir.REPORT).read_bytes()
    assert written == (finished_run / rundir.REPORT).read_bytes()
    assert found.curves is not None
    assert found.heatmaps is not None


def test_a_report_of_an_earlier_version_is_read_and_written_without_what_it_lacks(
    finished_run: Path,
) -> None:
    content = rundir.read_json(finished_run / rundir.REPORT)
    del content["curves"], content["heatmaps"], content["unknown"]["weakest"]
    found = typed_json.dataclass_of(report.Report, content)
    assert (found.curves, found.heatmaps) == (None, None)
    assert json.dumps(typed_json.json_of(found)) == json.dumps(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it["headline"].pop("top1"), "expected the key top1"),
        (lambda it: it["headline"].update(top1="most"), "headline: top1: expected a number"),
        (lambda it: it["headline"].update(top1=1.5), "expected shares from 0 to 1"),
        (lambda it: it.update(per_class={}), "per_class: expected a list"),
        (lambda it: it["probe"].update(kept=1), "expected true or false"),
    ],
)
def test_a_damaged_report_names_the_file_and_the_key(
    finished_run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    content = rundir.read_json(finished_run / rundir.REPORT)
    change(content)
    rundir.write_json(tmp_path / rundir.REPORT, content)
    with pytest.raises(UserError, match=words) as refused:
        report.read_report_json(tmp_path / rundir.REPORT)
    assert str(tmp_path / rundir.REPORT) in str(refused.value)
    assert "Copy the run folder again" in str(refused.value)


def test_the_interval_of_a_perfect_share_may_end_a_hair_below_it() -> None:
    report.Plain(1.0, 0.1, (0.757, 0.9999999999999999), 0.0)
