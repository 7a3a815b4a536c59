"""A made-up run folder with real small pictures: what `finetune` leaves behind, without training."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from finetune import dataset, evaluate
from finetune.dataset import Data, Picture
from zoo import rundir

FRUIT = ("apple", "apricot", "banana", "cherry", "fig", "grape", "kiwi", "lemon", "mango", "pear")
RECIPE = {
    "recipe": ("auto", "the default"), "epochs": (8, "interpolated between the anchors for 1,000 training pictures"),
    "batch_size": (32, "the default on the CPU"), "image_size": (96, "twice the median short side, 48 px"),
    "fit": ("squash", "measured: the whole picture counts"), "lr": (0.003, "interpolated between the anchors"),
    "optimizer": ("adamw", "the default"), "amp": ("off", "fp32 training is faster on this CPU"),
    "val": ("0.2", "the data has no val folder"), "probe_only": (False, "the default"),
    "warmup": ("10%", "the default"), "label_smoothing": (0.1, "set by hand"),
    "flip": (0.5, "measured: the probe has 88.1% right on select, 87.4% on its mirror images"),
}


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


def made_run(folder: Path, *, classes: Sequence[str] = FRUIT, pictures: int = 30,
             made: Made | None = None) -> tuple[Path, Path]:
    """Write a run's files and its evaluated pictures below `folder`: (run folder, data folder).

    `pictures`: of each class, in each of val and test. Not written: the weights, TensorBoard, report.html and the card.
    """
    made = made or Made()
    run, root = folder / "fruit-efficientnet_lite0", folder / "fruit"
    run.mkdir(parents=True)
    data = made_data(root, classes, pictures, made)
    parts = {split: (found, made_logits(found, len(classes), made.right))
             for split in ("val", "test") if (found := data.of(split))}
    evaluate.write_predictions(run / rundir.PREDICTIONS, list(parts.values()), classes)
    dataset.write_files_csv(run / rundir.FILES, data)
    (run / rundir.METRICS).write_text("".join(
        json.dumps({"step": step, "name": name, "value": value}) + "\n" for step, name, value in made_events(made)))
    for name, content in {
        rundir.REPORT: made_report(data, parts, made),
        rundir.DATA: {"classes": classes, "counts": data.counts(), "val": data.val_rule,
                      "halved": data.halved(data.of("val")), "digest": data.digest(),
                      "findings": data.findings, "left_out": data.left_out},
        rundir.RECIPE: {name: {"value": value, "why": why} for name, (value, why) in RECIPE.items()}
        | {"probe_only": {"value": made.epochs == 0, "why": "set by hand"}},
        rundir.CONFIG: {"architecture": "tf_efficientnet_lite0", "num_classes": len(classes), "label_names": classes},
        rundir.DECISION: rundir.TRIVIAL_DECISION,
    }.items():
        # as rundir.write_json, which cannot hold a file name that is not UTF-8
        (run / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return run, root


def made_data(root: Path, classes: Sequence[str], pictures: int, made: Made) -> Data:
    """Pictures of val and test are written; those of train are only listed."""
    found = []
    for label, name in enumerate(classes):
        for split in ("train", "val", *(["test"] if made.test else [])):
            count = made.counts.get(name, 3 * pictures) if split == "train" else pictures
            for i in range(count):
                path = f"{split}/{name}/{made.file_names[i % len(made.file_names)].format(i)}"
                content = made_picture(label, i) if split != "train" else path.encode("utf-8", "surrogateescape")
                if split != "train":
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)
                found.append(Picture(path, label, split, hashlib.sha256(content).hexdigest(), 40, 32))
    return Data(root, tuple(classes), tuple(found), made.findings, made.left_out, "0.2 of train, per class, by sha256")


def made_picture(label: int, number: int) -> bytes:
    """A PNG of 40 x 32: a disc in the class's colour on pale stripes; no two are the same."""
    own, of_class = Random(f"{label} {number}"), Random(label)
    picture = Image.new("RGB", (40, 32), tuple(own.randrange(200, 256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for x in range(own.randrange(8), 40, 8):
        draw.line((x, 0, x + 8, 32), fill=(own.randrange(225, 256),) * 3, width=2)
    colour = tuple(of_class.randrange(220) for _ in range(3))
    draw.circle((own.randrange(12, 28), own.randrange(11, 21)), 10, fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def made_logits(pictures: Sequence[Picture], classes: int, right: float) -> torch.Tensor:
    """float32 [N, classes]; wrong answers are mostly a neighbour of the class."""
    generator = torch.Generator().manual_seed(len(pictures))
    logits = torch.randn(len(pictures), classes, generator=generator)
    draw = torch.rand(len(pictures), generator=generator)
    step = torch.randint(1, 3, (len(pictures),), generator=generator)
    labels = torch.tensor([p.label for p in pictures])
    said = torch.where(draw < right, labels, (labels + step * (labels % 3 > 0) + (labels % 3 == 0)) % classes)
    logits[torch.arange(len(pictures)), said] += 5 + 4 * torch.rand(len(pictures), generator=generator)
    return logits


def made_events(made: Made, per_epoch: int = 34) -> list[tuple[int, str, float]]:
    """Curves as they usually look."""
    events: list[tuple[int, str, float]] = [(0, "probe/seconds", 4.2), (0, "probe/penalty", 0.1)] if made.probe else []
    total = per_epoch * made.epochs
    for step in range(total + 1):
        gone = step / max(1, total)
        if step % 10 == 0 or step % per_epoch == 0:
            wave = 0.05 * np.sin(step * 1.7)
            events += [(step, "train/loss", 0.55 + 1.2 * np.exp(-4 * gone) + wave),
                       (step, "train/lr", 0.003 * min(1, 10 * gone) * (1 + np.cos(np.pi * gone)) / 2)] if step else []
        if step % per_epoch == 0:
            events += [(step, "select/top1", 0.84 + 0.08 * gone - 0.05 * (0 < gone < 0.2)),
                       (step, "select/loss", 0.32 + 0.4 * np.exp(-3 * gone))]
    return [(step, name, float(value)) for step, name, value in events]


def made_report(data: Data, parts: dict[str, tuple[list[Picture], torch.Tensor]], made: Made) -> dict[str, Any]:
    """report.json, with the numbers that the predictions give."""
    splits = dict(parts)
    halved = data.halved(data.of("val"))
    for half in ("select", "calibrate") if halved else ():
        wanted = {p.path for p in data.of(half)}
        rows = [i for i, p in enumerate(parts["val"][0]) if p.path in wanted]
        splits[half] = ([parts["val"][0][i] for i in rows], parts["val"][1][rows])
    headline = "test" if "test" in parts else "calibrate" if halved else "val"
    note = {"test": "read once, at the end", "calibrate": "half of val that took no part in choosing the epoch",
            "val": "the epoch was chosen on these pictures, so the number is optimistic: add a test folder"}[headline]
    pictures, logits = splits[headline]
    per_class = evaluate.per_class(logits.argmax(1).tolist(), [p.label for p in pictures], data.classes)
    f1 = [row["f1"] for row in per_class if row["f1"] is not None]
    return {
        "headline": {"split": headline, "note": note, "macro_f1": sum(f1) / len(f1),
                     **numbers(pictures, logits)},
        "splits": {name: numbers(*part) for name, part in splits.items()},
        "probe": {"select_top1": 0.84, "kept": not made.epochs} if made.probe else None,
        "best": {"epoch": made.epochs, "step": 34 * made.epochs, "top1": 0.92, "top5": 0.99, "loss": 0.34,
                 "pictures": 300},
        "per_class": per_class,
        "base": {"name": "efficientnet_lite0", "architecture": "tf_efficientnet_lite0", "licence": made.licence,
                 "hub_id": "timm/tf_efficientnet_lite0.in1k", "pretrained_on": "ImageNet-1k"},
        "device": "cpu", "versions": {"python": "3.11.2", "torch": "2.14.1", "timm": "1.0.31"}, "seconds": 127.3,
    }


def numbers(pictures: Sequence[Picture], logits: torch.Tensor) -> dict[str, Any]:
    """Scores of one split, with the interval of top-1."""
    scores = evaluate.score(logits, torch.tensor([p.label for p in pictures]))
    right = round(scores.top1 * scores.pictures)
    return scores.to_json() | {"top1_interval": evaluate.wilson_interval(right, scores.pictures)}
