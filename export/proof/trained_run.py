"""What is exported: a finished run with its model, its decision and its pictures; and what a target
makes of it."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch
from PIL import Image

from export.graph import onnx_file
from export.graph.deployed import Deployed, Parts
from export.graph.pieces import Pieces
from export.order import Order
from export.proof import class_folders, judging, parity
from export.proof.judging import Labelled, Rung
from zoo.contract import bundle, decision, model_metadata, rejection, run_pictures, rundir
from zoo.contract.decision import Decision
from zoo.contract.finished_run import FinishedRun
from zoo.files import fields, tables
from zoo.files.folders import picture_bytes, shown
from zoo.files.same_paths import located
from zoo.host import console
from zoo.host.errors import BadImage, UserError
from zoo.network.build import load
from zoo.network.early import early_stage
from zoo.picture import tta
from zoo.picture.decoding import decode

EXPORTERS_LOG = "exporter.log"
"""In `bundles/`: what torch's exporter said when it refused an architecture."""
NOISE = 50
"""Pictures of noise that the trained model and a lossy one answer."""
JUDGED = 5_000
"""Labelled pictures at most that a lossy model is judged on; 0.2 points are 10 of them."""


@dataclass(frozen=True)
class Made:
    """What a target wrote into its folder."""

    deployed: Deployed
    model: str = bundle.MODEL
    """File of the model, relative to the folder."""
    plain: Path | None = None
    """The plain model, `pixel_values` -> `logits`, to be proved with it: an unfinished file beside
    `PLAIN`."""
    status: str = "ok"
    """`ok`, or what could not be shown on this machine."""
    decision: Decision | None = None
    """The file's own, where its embeddings are not those of the trained model."""
    rungs: Sequence[Rung] = ()
    """What was compared already when it was made."""
    labelled_NC: np.ndarray | None = None
    """The probabilities that the file gives for `Subject.labelled`, if they were asked for when it
    was made."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More for bundle.json."""
    engine: Any = None
    """An engine built from the model, which has to answer like it: its `run` is that of an ONNX
    Runtime session."""
    lossy: bool = False
    """Proved to keep the accuracy of the trained model, rather than to answer alike."""
    next_steps: Callable[[Path], Sequence[str]] = lambda folder: ()
    """Commands that the user may want now, for the folder that the bundle gets when it is
    finished."""


@dataclass(frozen=True)
class Subject:
    """A finished run, ready to be exported."""

    run: Path
    labels: list[str]
    parts: Parts
    root: Path
    """Folder of the run's pictures."""
    pictures: Mapping[str, Path]
    """Validation pictures for the proof: path relative to the data folder -> file."""

    max_loss: float | None = None
    """Points of accuracy that a precision which rounds may lose; None: as `judging.LOST_POINTS`
    says."""

    def may_lose(self, precision: str) -> float:
        """Points of accuracy that this precision may lose."""
        return judging.LOST_POINTS[precision] if self.max_loss is None else self.max_loss

    @cached_property
    def pieces(self) -> Pieces:
        """What was traced of the graph, for all targets."""
        return Pieces(self.parts, self.run / bundle.BUNDLES / EXPORTERS_LOG)

    def write(self, deployed: Deployed, path: Path) -> None:
        """The deployed graph as an ONNX file that says what it is."""
        self.pieces.write(deployed, path, model_metadata.metadata(self.described(deployed)))

    @property
    def onnx_model(self) -> Path:
        """The model of the finished bundle for `onnx`."""
        return bundle.open_bundle(self.run).model

    def deployed_onnx(self) -> Deployed:
        """The graph of that model."""
        by_op = bundle.open_bundle(self.run).content.get("resize", "op") == "op"
        return Deployed(self.parts, resize="op" if by_op else "matmul").eval()

    @cached_property
    def labelled(self) -> list[Labelled]:
        """Test pictures (else val) and what the run took them for, at most `JUDGED`; `UserError` if
        one is gone."""
        return self.answered(("test",)) or self.validated

    @cached_property
    def validated(self) -> list[Labelled]:
        """The same of val."""
        return self.answered(("val", "select", "calibrate"))

    def answered(self, splits: Sequence[str]) -> list[Labelled]:
        """The run's answers to the pictures of these splits."""
        place = {label: index for index, label in enumerate(self.labels)}
        table = self.run / rundir.PREDICTIONS
        rows = {
            row["path"]: row
            for row in tables.rows(table, ("path", "split", "label", "predicted"))
            if row["split"] in splits
        }
        chosen = sample(rows, JUDGED)
        self.check(chosen, "labelled")
        with fields.of(table, "Copy the run folder again, or train it again."):
            return [
                Labelled(
                    located(self.root, row["path"]),
                    place[row["label"]],
                    place[row["predicted"]],
                    float(row.get("unknown_score") or "nan"),
                )
                for row in chosen.values()
            ]

    def by_torch(self, picture: Image.Image) -> Mapping[str, np.ndarray]:
        """The outputs that the trained model gives for a picture, but for the map."""
        views = tta.prepare(picture, self.parts.pre, tta.VIEWS[self.parts.decision.views])
        return parity.answered(self.parts, views, has_map=False).outputs

    @cached_property
    def noise_scores(self) -> np.ndarray:
        """The unknown scores that the trained model gives to `NOISE` pictures of noise."""
        return np.array(
            [self.by_torch(picture)[bundle.UNKNOWN_SCORE] for picture in rejection.noise(NOISE)]
        )

    def training(self, count: int) -> list[Path]:
        """Up to `count` training pictures; `UserError` if one is gone."""
        rows = {
            row["path"]: row for row in run_pictures.files_rows(self.run) if row["split"] == "train"
        }
        chosen = sample(rows, count)
        self.check(chosen, "training")
        return [located(self.root, name) for name in chosen]

    def check(self, names: Collection[str], kind: str) -> None:
        """`UserError` if one of these pictures is not where it was, or has other bytes than
        files.csv recorded.

        Their bytes go into proofs and bundles, and a stranger's run may name any file of this
        machine.
        """
        recorded = run_pictures.recorded(self.run, names)
        if unknown := [name for name in names if name not in recorded]:
            raise UserError(
                f"{self.run / rundir.FILES} lacks {shown(unknown[0])}, one of {len(names)} {kind} "
                "pictures: copy the run folder again."
            )
        if gone := [name for name in names if not located(self.root, name).is_file()]:
            raise UserError(
                f"{self.root} lacks {len(gone)} of {len(names)} {kind} pictures of {self.run}, for "
                f"example {shown(gone[0])}: name the folder that holds them with --data."
            )
        for name in names:
            try:
                picture_bytes(located(self.root, name), recorded[name])
            except BadImage as error:
                raise UserError(
                    f"{error}: expected the {kind} pictures of {self.run} as they were. Restore "
                    "them, or name the folder that holds them with --data."
                ) from None

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of the run's pictures."""
        return [
            (int(row["width"]), int(row["height"])) for row in run_pictures.read_files(self.run)
        ]

    def describe(self, target: str, made: Made, precision: str) -> dict[str, Any]:
        """The content of bundle.json."""
        return {
            "target": target,
            "model": made.model,
            "precision": precision,
            "resize": made.deployed.resize,
            **self.described(made.deployed, made.decision),
            "versions": {
                "torch": torch.__version__,
                "timm": timm.__version__,
                "onnx": onnx.__version__,
                "opset": onnx_file.OPSET,
            },
            "status": made.status,
            **made.facts,
        }

    def described(self, deployed: Deployed, decision: Decision | None = None) -> dict[str, Any]:
        """What the model file says of itself, too; `decision`: its own, if it is not that of the
        run."""
        run, decision = self.run, decision or self.parts.decision
        outputs = [
            name for name in deployed.outputs if decision.unknown or name != bundle.UNKNOWN_SCORE
        ]
        return {
            "labels": self.labels,
            "preprocessing": self.parts.pre.to_config(),
            "decision": decision.to_json(),
            "outputs": outputs,
            "run": {
                "name": run.resolve().name,
                "architecture": FinishedRun(run).config["architecture"],
                "weights_sha256": rundir.digest(run / rundir.WEIGHTS),
                "finished_sha256": rundir.finished_sha256(run),
            },
        }


@dataclass(frozen=True)
class Pulled(Subject):
    """A run that was published: the names of its pictures stayed at home, and others take their
    place in the proof."""

    label_of: Mapping[str, str] = field(default_factory=dict)
    """Picture of the folder of class folders -> class name."""

    def answered(self, splits: Sequence[str]) -> list[Labelled]:
        """What the trained model takes these pictures for; they are held out in any case."""
        place = {label: index for index, label in enumerate(self.labels)}
        chosen = console.track(list(sample(self.label_of, JUDGED).items()), "trained model")
        answers = {name: self.by_torch(decode(self.root / name)) for name, _ in chosen}
        return [
            Labelled(
                self.root / name,
                place[self.label_of[name]],
                int(answer[bundle.PROBABILITIES].argmax()),
                float(answer.get(bundle.UNKNOWN_SCORE, math.nan)),
            )
            for name, answer in answers.items()
        ]

    def training(self, count: int) -> list[Path]:
        """Pictures in place of training pictures."""
        return [self.root / name for name in sample(self.label_of, count)]

    def check(self, names: Collection[str], kind: str) -> None:
        """Nothing is recorded that they could be compared with."""

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of the pictures of the proof."""
        return [decode(path).size for path in self.pictures.values()]


def all_of(*statuses: str) -> str:
    """One status for bundle.json: what could not be shown, or else `ok`."""
    return "; ".join(status for status in statuses if status != "ok") or "ok"


def sample(rows: Mapping[str, Any], count: int) -> dict[str, Any]:
    """At most `count` of the rows, the same each time."""
    names = list(rows)
    random.Random(0).shuffle(names)
    return {name: rows[name] for name in names[:count]}


def _check_bundles(run: Path) -> None:
    """`UserError` unless each earlier bundle is a folder that can be removed and written again."""
    folder = run / bundle.BUNDLES
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.is_dir() and not path.name.startswith("."):
            raise UserError(
                f"{shown(path)} is a file: expected a folder for each target. Remove it."
            )


def open_run(order: Order) -> Subject:
    """Model, decision and pictures of a finished run, none of whose files has changed."""
    run = order.run
    rundir.open_finished(run, verify=True)
    _check_bundles(run)
    found, made_decision = FinishedRun(run), decision.read(run)
    unknown = made_decision.unknown
    bank = (
        torch.from_numpy(decision.read_bank(run, neighbours=unknown.neighbours))
        if unknown
        else None
    )
    model, pre = load(run), found.pre
    if made_decision.early and made_decision.early.stage != early_stage(model, pre.size):
        raise UserError(
            f"{run / rundir.DECISION} names a stage that {found.config['architecture']} does not "
            "have at a stride of 8 pixels: run python -m finetune.decide."
        )
    parts = Parts(model, pre, made_decision, bank)
    labels = found.labels
    if not (run / rundir.FILES).is_file():
        return _pulled(order, labels, parts)
    # as the scan did: ../held is beside the folder, not a link
    root = (order.data or run_pictures.data_root(run)).resolve()
    rows = {
        row["path"]: located(root, row["path"])
        for row in run_pictures.files_rows(run)
        if row["split"] == "val"
    }
    subject = Subject(run, labels, parts, root, sample(rows, order.parity_images), order.max_loss)
    subject.check(subject.pictures, "validation")
    return subject


def _readable(data: Path, label_of: Mapping[str, str]) -> dict[str, str]:
    """The pictures that can be decoded, at most `JUDGED`; of the others it is said that they are
    left out."""
    found = {}
    for name, label in console.track(list(sample(label_of, JUDGED).items()), "reading pictures"):
        try:
            decode(data / name)
        except BadImage as error:
            console.warn(f"left out: {error}")
            continue
        found[name] = label
    if not found:
        raise UserError(f"--data {data}: expected pictures that can be read, seen none.")
    return found


def _pulled(order: Order, labels: list[str], parts: Parts) -> Pulled:
    """A published run with the pictures of `--data`; `UserError` without it."""
    if order.data is None:
        raise UserError(
            f"{order.run} has no {rundir.FILES}: it is a published copy, whose pictures stayed at "
            "home. Name a folder with one folder of pictures for each class with --data: the "
            "export is proved on them."
        )
    label_of = _readable(order.data, class_folders.read(order.data, labels))
    pictures = {name: order.data / name for name in sample(label_of, order.parity_images)}
    return Pulled(order.run, labels, parts, order.data, pictures, order.max_loss, label_of)
