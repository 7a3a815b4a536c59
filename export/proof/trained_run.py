"""What is exported: a finished run with its model, its decision and its pictures."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch
from PIL import Image

from export.graph import onnx_file
from export.graph.deployed import Deployed, DeployedParts
from export.graph.pieces import Pieces
from export.proof import judging, torch_answer
from export.proof.judging import Labelled
from export.proof.product import Product
from zoo.contract import bundle, model_metadata, rejection, run_pictures, rundir
from zoo.contract.decision import Decision
from zoo.contract.finished_run import FinishedRun
from zoo.contract.splits import OF_VAL
from zoo.files import checks, tables
from zoo.files.folders import picture_bytes, shown
from zoo.files.same_paths import located
from zoo.host.errors import BadImage, UserError
from zoo.picture import tta

EXPORTERS_LOG = "exporter.log"
"""In `bundles/`: what torch's exporter said when it refused an architecture."""
NOISE = 50
"""Pictures of noise that the trained model and a lossy one answer."""
JUDGED = 5_000
"""At most so many labelled pictures judge a lossy model; 0.2 points are 10 of them."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, ready to be exported."""

    run: Path
    labels: list[str]
    parts: DeployedParts
    root: Path
    """Folder of the run's pictures."""
    pictures: Mapping[str, Path]
    """Validation pictures for the proof: path relative to the data folder -> file."""

    max_loss: float | None = None
    """Points of accuracy that a precision which rounds may lose; None: as `judging.LOST_POINTS`
    says."""

    def may_lose(self, precision: str) -> float:
        """Return the points of accuracy that this precision may lose."""
        return judging.LOST_POINTS[precision] if self.max_loss is None else self.max_loss

    # --- its graph, as files

    @cached_property
    def pieces(self) -> Pieces:
        """What was traced of the graph, for all targets."""
        return Pieces(self.parts, self.run / bundle.BUNDLES / EXPORTERS_LOG)

    def write(self, deployed: Deployed, path: Path) -> None:
        """Write the deployed graph as an ONNX file that says what it is."""
        self.pieces.write(deployed, path, model_metadata.metadata(self.described(deployed.outputs)))

    @property
    def onnx_model(self) -> Path:
        """The model of the finished bundle for `onnx`."""
        return bundle.open_bundle(self.run).model

    def deployed_onnx(self) -> Deployed:
        """Return the graph of that model."""
        # bundles of earlier versions do not say it, and all of them have ONNX's Resize
        resize = bundle.open_bundle(self.run).content.get("resize", "op")
        return Deployed(self.parts, resize="op" if resize == "op" else "matmul").eval()

    def describe(self, target: str, product: Product, precision: str) -> dict[str, Any]:
        """Return the content of bundle.json."""
        return {
            "target": target,
            "model": product.model,
            "precision": precision,
            "resize": product.resize,
            **self.described(product.outputs, product.decision),
            "versions": {
                "torch": torch.__version__,
                "timm": timm.__version__,
                "onnx": onnx.__version__,
                "opset": onnx_file.OPSET,
            },
            "status": product.status,
            **product.facts,
        }

    def described(self, outputs: Sequence[str], decision: Decision | None = None) -> dict[str, Any]:
        """Return the description of the bundle, which its model file holds too; `decision` is the
        bundle's, if it differs from the run's."""
        decision = decision or self.parts.decision
        outputs = list(outputs)
        # a score without a threshold is no answer
        if not decision.unknown and bundle.UNKNOWN_SCORE in outputs:
            outputs.remove(bundle.UNKNOWN_SCORE)
        return {
            "labels": self.labels,
            "preprocessing": self.parts.pre.to_config(),
            "decision": decision.to_json(),
            "outputs": outputs,
            "run": {
                "name": self.run.resolve().name,
                "architecture": FinishedRun(self.run).config["architecture"],
                "weights_sha256": rundir.digest(self.run / rundir.WEIGHTS),
                "finished_sha256": rundir.finished_sha256(self.run),
            },
        }

    # --- its pictures, and what the trained model answers

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Class name -> its place among the labels."""
        return dict(zip(self.labels, range(len(self.labels)), strict=True))

    @cached_property
    def labelled(self) -> list[Labelled]:
        """At most `JUDGED` pictures of test (of val where there is no test), with the run's answers
        to them; `UserError` if one is gone."""
        return self.answered(("test",)) or self.validated

    @cached_property
    def validated(self) -> list[Labelled]:
        """The same for pictures of val."""
        return self.answered(OF_VAL)

    def answered(self, splits: Sequence[str]) -> list[Labelled]:
        """Return the run's answers to the pictures of these splits."""
        table = self.run / rundir.PREDICTIONS
        rows = {}
        for row in tables.rows(table, ("path", "split", "label", "predicted")):
            if row["split"] in splits:
                rows[row["path"]] = row
        chosen = sample(rows, JUDGED)
        self.check(chosen, "labelled")
        labelled = []
        with checks.of(table, "Copy the run folder again, or train it again."):
            for name in chosen:
                row = rows[name]
                score = float(row.get("unknown_score") or "nan")
                label, predicted = self.numbers[row["label"]], self.numbers[row["predicted"]]
                labelled.append(Labelled(located(self.root, name), label, predicted, score))
        return labelled

    def by_torch(self, picture: Image.Image) -> Mapping[str, np.ndarray]:
        """Return the outputs that the trained model gives for a picture, but for the map."""
        views = tta.prepare_views(picture, self.parts.pre, tta.VIEWS[self.parts.decision.views])
        return torch_answer.answer_by_torch(self.parts, views, has_map=False).outputs

    @cached_property
    def noise_scores(self) -> np.ndarray:
        """The unknown scores that the trained model gives to `NOISE` pictures of noise."""
        answers = map(self.by_torch, rejection.noise(NOISE))
        return np.array([answer[bundle.UNKNOWN_SCORE] for answer in answers])

    def training(self, count: int) -> list[Path]:
        """Return up to `count` training pictures; `UserError` if one is gone."""
        chosen = sample(names_of(self.run, "train"), count)
        self.check(chosen, "training")
        return [located(self.root, name) for name in chosen]

    def check(self, names: Collection[str], kind: str) -> None:
        """`UserError` if one of these pictures is not where it was, or has other bytes than
        files.csv recorded.

        Their bytes go into proofs and bundles, and a stranger's run may name any file of this
        machine.
        """
        recorded = run_pictures.recorded_hashes(self.run, names)
        files = {name: located(self.root, name) for name in names}
        unknown = next((name for name in names if name not in recorded), None)
        if unknown is not None:
            raise UserError(
                f"{self.run / rundir.FILES} lacks {shown(unknown)}, one of {len(names)} {kind} "
                "pictures: copy the run folder again."
            )
        if gone := [name for name, file in files.items() if not file.is_file()]:
            raise UserError(
                f"{self.root} lacks {len(gone)} of {len(names)} {kind} pictures of {self.run}, for "
                f"example {shown(gone[0])}: name the folder that holds them with --data."
            )
        for name, file in files.items():
            try:
                picture_bytes(file, recorded[name])
            except BadImage as error:
                raise UserError(
                    f"{error}: expected the {kind} pictures of {self.run} as they were. Restore "
                    "them, or name the folder that holds them with --data."
                ) from None

    def sizes(self) -> list[tuple[int, int]]:
        """Return (width, height) of the run's pictures."""
        rows = run_pictures.read_files(self.run)
        return [(int(row["width"]), int(row["height"])) for row in rows]


def names_of(run: Path, split: str) -> list[str]:
    """Return the pictures of a split, as paths relative to the data folder."""
    return [row["path"] for row in run_pictures.files_rows(run) if row["split"] == split]


def sample(names: Iterable[str], count: int | None) -> list[str]:
    """Return at most `count` of the names (None: all), each once, and the same each time."""
    # dict, not set, whose order differs from process to process
    drawn = list(dict.fromkeys(names))
    random.Random(0).shuffle(drawn)
    return drawn[:count]
