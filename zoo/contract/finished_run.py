"""A finished run as one value: what several readers need of its files.

Each file is read when it is first asked for, so nobody needs more than it uses. Files that only
one reader has use for (predictions.csv, metrics.jsonl, the weights) are left to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.contract import report, rundir
from zoo.contract.report import Report
from zoo.files import checks
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, or the files that take the place of its own in a published copy."""

    folder: Path
    instead: Mapping[str, Path] = field(default_factory=dict)
    """Name of a file -> file that is read in its place."""

    def file(self, name: str) -> Path:
        """Where a file of the run is read."""
        return self.instead.get(name, self.folder / name)

    def _json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = rundir.read_json(self.file(name), kind=dict)
        return content

    @property
    def name(self) -> str:
        """The run folder's name."""
        # resolved, because `.` has no name
        return self.folder.resolve().name

    @cached_property
    def report(self) -> Report:
        """report.json: the final numbers."""
        return report.read_report_json(self.file(rundir.REPORT))

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """recipe.json: field -> `{"value": ..., "why": ...}`."""
        return self._json(rundir.RECIPE)

    @cached_property
    def data(self) -> dict[str, Any]:
        """data.json: classes, counts, digest and findings."""
        return self._json(rundir.DATA)

    @cached_property
    def data_digest(self) -> str:
        """What names the pictures that a run was made of, with their labels and splits."""
        with checks.of(self.file(rundir.DATA)):
            return checks.name(self.data["digest"])

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, in the layout of timm."""
        return self._json(rundir.CONFIG)

    @cached_property
    def decision(self) -> dict[str, Any]:
        """decision.json, with how it was fitted (`decision.read_decision` gives what decides)."""
        return self._json(rundir.DECISION)

    @cached_property
    def pre(self) -> Preprocessing:
        """How a picture becomes the network's input."""
        with checks.of(self.file(rundir.CONFIG)):
            return Preprocessing.from_config(self.config["pretrained_cfg"])

    @cached_property
    def labels(self) -> list[str]:
        """The classes in the order of the network's outputs."""
        with checks.of(self.file(rundir.CONFIG)):
            return list(checks.names(self.config["label_names"]))
