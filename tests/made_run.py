"""A made-up run folder with real small pictures: what `finetune` leaves behind, without
training."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from finetune.data import dataset
from finetune.data.dataset import Data
from finetune.data.picture_columns import Picture
from finetune.evaluation import predictions, predictions_csv
from finetune.evaluation.predictions import NOWHERE, Answers
from finetune.figures import certainty, confusion, learning
from finetune.figures.drawing import Drawing
from zoo.contract import decision, rundir
from zoo.contract.decision import Sets
from zoo.contract.report import BaseSummary, BestWeights, ProbeResult, Report
from zoo.files import typed_json
from zoo.picture.preprocess import Preprocessing

FRUIT = ("apple", "apricot", "banana", "cherry", "fig", "grape", "kiwi", "lemon", "mango", "pear")
RECIPE = {
    "recipe": ("auto", "the default"),
    "epochs": (8, "interpolated between the anchors for 1,000 training pictures"),
    "batch_size": (32, "the default on the CPU"),
    "image_size": (96, "twice the median short side, 48 px"),
    "fit": ("squash", "measured: the whole picture counts"),
    "lr": (0.003, "interpolated between the anchors"),
    "optimizer": ("adamw", "the default"),
    "amp": ("off", "fp32 training is faster on this CPU"),
    "val": ("0.2", "the data has no val folder"),
    "probe_only": (False, "the default"),
    "warmup": ("10%", "the default"),
    "label_smoothing": (0.1, "set by hand"),
    "flip": (0.5, "measured: the probe has 88.1% right on select, 87.4% on its mirror images"),
}
PASSES = {"none": 1, "flip": 2, "five": 5, "multiscale": 3}


@dataclass(frozen=True)
class Made:
    """What the made-up run is like."""

    right: float = 0.9
    """About this share of the answers is right."""
    epochs: int = 8
    """0: nothing but the probe."""
    probe: bool = True
    test: bool = True
    licence: str | None = "apache-2.0"
    counts: dict[str, int] = field(default_factory=dict)
    """Class -> training pictures, where it is not three times the evaluated ones."""
    findings: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    file_names: Sequence[str] = ("{}.png",)
    """Name of the evaluated pictures of each class, in turn; `{}` is a running number."""
    sides: Sequence[int] = (32, 40, 48, 64)
    """Short sides of the evaluated pictures, in turn; the long side is a quarter more."""
    views: str = "flip"
    measured: bool = True
    """Whether the views were measured against each other, not set by hand."""
    temperature: float = 1.5
    coverage: float | None = 0.9
    """None: no prediction sets."""
    foreign: bool = True
    """Whether there is an unknown score with its threshold, and foreign pictures."""
    heatmaps: bool = True
    warnings: tuple[str, ...] = ()
    crop_mode: str = "squash"


def made_run(
    folder: Path, *, classes: Sequence[str] = FRUIT, pictures: int = 30, made: Made | None = None
) -> tuple[Path, Path]:
    """Write a run's files and its evaluated pictures below `folder`: (run folder, data folder).

    `pictures`: of each class, in each of val and test. Not written: the weights, TensorBoard,
    report.html and the card.
    """
    made = made or Made()
    run, root = folder / "fruit-efficientnet_lite0", folder / "fruit"
    run.mkdir(parents=True)
    data, brightness = made_data(root, classes, pictures, made)
    table, fitted = made_answers(data, brightness, made)
    predictions_csv.write_predictions(run / rundir.PREDICTIONS, table)
    dataset.write_files_csv(run / rundir.FILES, data)
    (run / rundir.METRICS).write_text(
        "".join(
            json.dumps({"step": step, "name": name, "value": value}) + "\n"
            for step, name, value in made_events(made)
        )
    )
    pre = Preprocessing(96, made.crop_mode, 0.875 if made.crop_mode == "center" else 1.0)
    for name, content in {
        rundir.REPORT: typed_json.json_of(
            made_report(predictions_csv.read_predictions(run, classes), fitted, made)
        ),
        rundir.DATA: {
            "classes": classes,
            "counts": data.counts(),
            "val": data.val_rule,
            "halved": data.halved,
            "digest": data.digest(),
            "findings": data.findings,
            "left_out": data.left_out,
        },
        rundir.RECIPE: {name: {"value": value, "why": why} for name, (value, why) in RECIPE.items()}
        | {"probe_only": {"value": made.epochs == 0, "why": "set by hand"}},
        rundir.CONFIG: {
            "architecture": "tf_efficientnet_lite0",
            "num_classes": len(classes),
            "label_names": classes,
            "pretrained_cfg": pre.to_config(),
        },
        rundir.DECISION: fitted,
    }.items():
        # as rundir.write_json, which cannot hold a file name that is not UTF-8
        (run / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return run, root


@contextmanager
def drawing_only(*names: str) -> Iterator[None]:
    """Inside, of the functions of finetune/figures/ only these draw; the others give an empty
    frame.

    For tests that look at other things: a figure takes longer than all the rest of a page.
    """

    def frame(name: str) -> Drawing:
        return Drawing(name, "<svg/>", 350, 230, "not drawn")

    drawn_by = {
        name: module
        for module in (certainty, confusion, learning)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
        and getattr(value, "__annotations__", {}).get("return") is Drawing
    }
    assert set(drawn_by) > set(names)
    with pytest.MonkeyPatch.context() as patch:
        for name in set(drawn_by) - set(names):
            patch.setattr(drawn_by[name], name, lambda *_, name=name, **__: frame(name))
        yield


def made_data(
    root: Path, classes: Sequence[str], pictures: int, made: Made
) -> tuple[Data, dict[str, float]]:
    """Pictures of val and test are written; those of train are only listed. And path -> brightness
    of a written one."""
    found, brightness = [], {}
    for label, name in enumerate(classes):
        for split in ("train", "val", *(["test"] if made.test else [])):
            count = made.counts.get(name, 3 * pictures) if split == "train" else pictures
            for i in range(count):
                path = f"{split}/{name}/{made.file_names[i % len(made.file_names)].format(i)}"
                side = made.sides[i % len(made.sides)]
                if split == "train":
                    content = path.encode("utf-8", "surrogateescape")
                else:
                    content, brightness[path] = made_picture(label, f"{split} {i}", side)
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)
                found.append(
                    Picture(
                        path, label, split, hashlib.sha256(content).hexdigest(), side * 5 // 4, side
                    )
                )
    data = Data(
        root,
        tuple(classes),
        tuple(found),
        made.findings,
        made.left_out,
        "0.2 of train, per class, by sha256",
    )
    return data, brightness


@cache
def made_picture(label: int, number: str, side: int = 32) -> tuple[bytes, float]:
    """A PNG of 5:4 and its brightness, 0 to 1: a disc in the class's colour on pale stripes; no two
    are the same."""
    own, of_class = Random(f"{label} {number}"), Random(label)
    wide = side * 5 // 4
    picture = Image.new("RGB", (wide, side), tuple(own.randrange(200, 256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for x in range(own.randrange(8), wide, 8):
        draw.line((x, 0, x + 8, side), fill=(own.randrange(225, 256),) * 3, width=2)
    colour = tuple(of_class.randrange(220) for _ in range(3))
    draw.circle(
        (own.randrange(wide // 3, wide - wide // 3), own.randrange(side // 3, side - side // 3)),
        side // 3,
        fill=colour,
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), float(np.asarray(picture).mean() / 255)


def made_logits(labels_N: np.ndarray, classes: int, right: float) -> np.ndarray:
    """float64 [N, classes]; over-confident; wrong answers are mostly a neighbour of the class."""
    random = np.random.default_rng(len(labels_N))
    logits, rows = random.normal(size=(len(labels_N), classes)), np.arange(len(labels_N))
    step = random.integers(1, 3, len(labels_N))
    said = np.where(
        random.random(len(labels_N)) < right,
        labels_N,
        (labels_N + step * (labels_N % 3 > 0) + (labels_N % 3 == 0)) % classes,
    )
    logits[rows, said] += 3 + 6 * random.random(len(labels_N)) * np.where(said == labels_N, 1, 0.6)
    return 1.5 * logits


def made_answers(
    data: Data, brightness: Mapping[str, float], made: Made
) -> tuple[Answers, dict[str, Any]]:
    """The table of val, test and two foreign sets, and the content of decision.json that gives
    it."""
    val = data.of("val")
    half = (
        {p.path: name for name in ("select", "calibrate") for p in data.of(name)}
        if data.halved
        else {}
    )
    pictures = [*val, *data.of("test")]
    splits = np.array(
        [half.get(p.path, p.split) for p in pictures]
        + (["noise"] * 60 + ["digits"] * 60) * made.foreign
    )
    away = len(splits) - len(pictures)
    labels = np.array([p.label for p in pictures] + [NOWHERE] * away)
    random = np.random.default_rng(7)
    plain = np.concatenate(
        [
            made_logits(labels[: len(pictures)], len(data.classes), made.right),
            1.5 * random.normal(size=(away, len(data.classes))),
        ]
    )
    views = {
        name: np.stack(
            [plain, *(plain + 0.6 * random.normal(size=plain.shape) for _ in range(passes - 1))], 1
        )
        for name, passes in PASSES.items()
        if made.measured or name == made.views
    }
    spread = {"noise": (0.55, 0.08), "digits": (0.4, 0.1)}
    scores = np.array(
        [np.clip(random.normal(*spread.get(name, (0.2, 0.06))), 0, 2) for name in splits]
    )
    fitting = np.isin(splits, ["calibrate"] if half else ["val"])
    probabilities = decision.temper(decision.average(views[made.views]), made.temperature)
    own = np.sort(probabilities[fitting, labels[fitting]])
    sets = (
        Sets(made.coverage, float(own[int((1 - made.coverage) * len(own))]))
        if made.coverage
        else None
    )
    inside = decision.in_set(probabilities, sets) if sets else np.ones_like(probabilities, bool)
    plainly, rows = decision.softmax(plain), np.arange(len(labels))
    measured = (
        {
            name: decision.temper(decision.average(logits), made.temperature)
            for name, logits in views.items()
        }
        if made.measured
        else {}
    )
    table = Answers(
        data.classes,
        np.array(
            [p.path for p in pictures] + [f"{name}/{i}" for i, name in enumerate(splits[-away:])]
            if away
            else [p.path for p in pictures]
        ),
        splits,
        labels,
        probabilities.argmax(1),
        probabilities.max(1),
        np.where(labels >= 0, probabilities[rows, labels], np.nan),
        np.argsort(-probabilities, 1, kind="stable")[:, :5],
        plainly.argmax(1),
        plainly.max(1),
        np.where(labels >= 0, plainly[rows, labels], np.nan),
        scores,
        inside.sum(1),
        inside[rows, labels] & (labels >= 0),
        np.array([p.width for p in pictures] + [96] * away),
        np.array([p.height for p in pictures] + [96] * away),
        np.array([brightness[p.path] for p in pictures] + [0.5] * away),
        {name: np.where(fitting, p.argmax(1), NOWHERE) for name, p in measured.items()},
        {name: np.where(fitting, p[rows, labels], np.nan) for name, p in measured.items()},
    )
    unknown = (
        {"neighbours": 5, "threshold": float(np.quantile(scores[fitting], 0.95))}
        if made.foreign
        else None
    )
    return table, {
        "temperature": made.temperature,
        "views": made.views,
        "unknown": unknown,
        "sets": {"coverage": sets.coverage, "least_probability": sets.least_probability}
        if sets
        else None,
        "fitted": made_fitted(table.where(fitting), unknown, made),
    }


def made_fitted(own: Answers, unknown: Mapping[str, float] | None, made: Made) -> dict[str, Any]:
    """How the decision came about, from the pictures it was fitted on."""
    none_loss = -np.log(own.views_label_probability["none"]) if made.measured else 0
    views = []
    for name, said in own.views_predicted.items():
        loss, right = -np.log(own.views_label_probability[name]), said == own.label
        none_right = own.views_predicted["none"] == own.label
        views.append(
            {
                "views": name,
                "passes": PASSES[name],
                "pictures": len(own),
                "top1": right.mean(),
                "loss": loss.mean(),
                "gain": (none_loss - loss).mean(),
                "gain_error": (none_loss - loss).std(ddof=1) / len(own) ** 0.5,
                "only_it_right": int((right & ~none_right).sum()),
                "only_none_right": int((~right & none_right).sum()),
            }
        )
    split = str(own.split[0])
    return {
        "split": split,
        "pictures": len(own),
        "note": predictions.headline(own)[1],
        "views": {
            "why": f"measured: {made.views} gains most" if made.measured else "set by hand",
            "table": views,
        },
        "temperature": {
            "loss_before": predictions.mean_loss(own.plain_label_probability),
            "loss_after": predictions.mean_loss(own.label_probability),
        },
        "unknown": {
            "references": 300,
            "rejected": float((own.unknown_score > unknown["threshold"]).mean()),
        }
        if unknown
        else None,
        "warnings": made.warnings,
    }


def made_events(made: Made, per_epoch: int = 34) -> list[tuple[int, str, float]]:
    """Curves as they usually look."""
    events: list[tuple[int, str, float]] = (
        [(0, "probe/seconds", 4.2), (0, "probe/penalty", 0.1)] if made.probe else []
    )
    total = per_epoch * made.epochs
    for step in range(total + 1):
        gone = step / max(1, total)
        if step % 10 == 0 or step % per_epoch == 0:
            wave = 0.05 * np.sin(step * 1.7)
            events += (
                [
                    (step, "train/loss", 0.55 + 1.2 * np.exp(-4 * gone) + wave),
                    (step, "train/lr", 0.003 * min(1, 10 * gone) * (1 + np.cos(np.pi * gone)) / 2),
                ]
                if step
                else []
            )
        if step % per_epoch == 0:
            events += [
                (step, "select/top1", 0.84 + 0.08 * gone - 0.05 * (0 < gone < 0.2)),
                (step, "select/loss", 0.32 + 0.4 * np.exp(-3 * gone)),
            ]
    return [(step, name, float(value)) for step, name, value in events]


def made_report(table: Answers, fitted: Mapping[str, Any], made: Made) -> Report:
    """report.json, with the numbers that the predictions give; without curves, as earlier versions
    wrote it."""
    own = table.of(predictions.headline(table)[0])
    per_class = predictions.class_numbers(table)
    wrong = [str(own.path[i]) for i in predictions.most_wrong(own)]
    threshold = (fitted["unknown"] or {}).get("threshold")
    return Report(
        probe=ProbeResult(0.84, kept=not made.epochs) if made.probe else None,
        best=BestWeights(
            made.epochs, 34 * made.epochs, top1=0.92, top5=0.99, loss=0.34, pictures=300
        ),
        base=BaseSummary(
            name="efficientnet_lite0",
            architecture="tf_efficientnet_lite0",
            hub_id="timm/tf_efficientnet_lite0.in1k",
            licence=made.licence,
            pretrained_on="ImageNet-1k",
        ),
        device="cpu",
        versions={"python": "3.11.2", "torch": "2.14.1", "timm": "1.0.31"},
        headline=predictions.headline_numbers(table, per_class),
        splits={name: predictions.split_numbers(table.of(name)) for name in table.splits},
        per_class=per_class,
        unknown=None if threshold is None else predictions.unknown_numbers(table, threshold),
        heatmaps={path: made_heatmap(path) for path in wrong} if made.heatmaps else {},
        seconds=127.3,
    )


def made_heatmap(path: str, side: int = 3) -> tuple[tuple[float, ...], ...]:
    """A map with its top somewhere near the middle."""
    random = np.random.default_rng(list(path.encode("utf-8", "surrogateescape")))
    down, across = random.uniform(0.5, side - 1.5, 2)
    y, x = np.mgrid[:side, :side]
    heat = np.exp(-((y - down) ** 2 + (x - across) ** 2))
    rows = ((heat - heat.min()) / (heat.max() - heat.min())).round(3).tolist()
    return tuple(map(tuple, rows))
