"""Flags of other training programs, and ours that mean the same: who knows those is told the name here.

The names are those of the programs' own documentation: Ultralytics (imgsz, lr0, ...), timm's train.py (--opt, --sched,
...), torchvision's references, transformers' run_image_classification.py, PaddleClas and MMPretrain.
"""

import re
from collections.abc import Sequence

from zoo.errors import UserError

OURS = {
    "image-size": ("imgsz", "img-size", "img", "imsize", "input-size", "resize", "size", "train-crop-size",
                   "crop-size", "val-crop-size", "image-shape"),
    "batch-size": ("batch", "bs", "b", "per-device-train-batch-size", "train-batch-size", "samples-per-gpu"),
    "lr": ("lr0", "learning-rate", "base-lr", "blr", "initial-lr"),
    "base": ("model", "arch", "a", "architecture", "backbone", "weights", "model-name-or-path", "model-name",
             "pretrained", "initial-checkpoint", "checkpoint"),
    "out": ("project", "name", "output", "output-dir", "save-dir", "work-dir", "outdir", "experiment", "log-dir",
            "checkpoint-dir"),
    "data": ("data-dir", "data-path", "dataset", "dataset-name", "train-dir", "train-data", "source", "root",
             "image-folder", "data-root"),
    "val": ("val-split", "validation-split", "val-dir", "validation-dir", "split", "train-val-split", "val-ratio",
            "validation-data"),
    "epochs": ("num-train-epochs", "num-epochs", "max-epochs", "n-epochs"),
    "optimizer": ("opt", "optim", "optimiser"),
    "weight-decay": ("wd", "l2"),
    "label-smoothing": ("smoothing",),
    "erasing": ("reprob", "random-erase"),
    "crop-area": ("scale", "rrc-scale"),
    "flip": ("fliplr", "hflip", "horizontal-flip"),
    "dropout": ("drop", "drop-rate"),
    "workers": ("num-workers", "j", "dataloader-num-workers", "workers-per-gpu"),
    "schedule": ("sched", "lr-scheduler", "lr-scheduler-type", "scheduler", "cos-lr"),
    "warmup": ("warmup-epochs", "lr-warmup-epochs", "warmup-steps", "warmup-ratio"),
    "decay-at": ("lr-step-size", "decay-epochs", "decay-milestones", "milestones"),
    "decay-factor": ("lr-gamma", "gamma", "decay-rate"),
    "clip-norm": ("clip-grad", "max-grad-norm", "clip-grad-norm", "gradient-clip-val"),
    "accumulate": ("grad-accum-steps", "gradient-accumulation-steps", "accumulate-grad-batches"),
    "ema": ("model-ema", "model-ema-decay"),
    "policy": ("aa", "auto-augment", "augment"),
    "rotate": ("degrees", "rotation"),
    "color-jitter": ("hsv-h", "hsv-s", "hsv-v", "jitter"),
    "patience": ("early-stopping", "early-stopping-patience"),
    "layer-decay": ("llrd",),
    "compile": ("torchcompile",),
    "amp": ("half", "fp16", "bf16", "mixed-precision", "precision"),
    "device": ("gpu", "gpus", "cuda", "gpu-id", "no-cuda"),
    "probe-only": ("freeze", "linear-probe", "freeze-backbone", "freeze-layers"),
    "balance": ("class-weights", "weighted-sampler"),
    "start-size": ("progressive-resizing",),
}
"""Our flag -> names of others for it, all without dashes at the beginning."""
NOT_NEEDED = {
    "classes are the names of the folders": ("num-classes", "nc", "n-classes", "num-labels", "class-map"),
    "what is trained is always a classifier of pictures": ("task", "mode"),
    "weights and mean and deviation of a base are found by its name": ("mean", "std", "pin-mem"),
}
"""Why there is no such flag -> names of others."""


def check(words: Sequence[str], known: Sequence[str]) -> None:
    """`UserError` for flags of other programs among the words of a command, with ours in their place.

    `known`: flags of the command itself, without dashes. Also for settings written as `imgsz=64`. Other unknown words
    are left to the parser.
    """
    theirs = {name: ours for ours, names in OURS.items() for name in names if ours in known}
    without = {name: why for why, names in NOT_NEEDED.items() for name in names}
    found: dict[str, str] = {}
    for before, word in zip(("", *words), words, strict=False):
        dashes, name = re.match(r"(-*)([A-Za-z][\w.-]*)?", word).groups(default="")  # type: ignore[union-attr]
        # without dashes, what stands behind a flag is its value, whatever it looks like
        is_setting = dashes or ("=" in word and not before.startswith("-"))
        name = name.replace("_", "-").lower()
        if not is_setting or (dashes and name in known):
            continue
        shown = word.partition("=")[0] + ("" if dashes else "=")
        if ours := name if name in known else theirs.get(name):
            found[shown] = f"{shown} is --{ours} here"
        elif name in without:
            found[shown] = f"{shown} is not needed, because {without[name]}"
    if found:
        raise UserError(f"{'; '.join(found.values())}: expected flags of this program, written as --name value. All of "
                        "them: --help")


def flags_of(*classes: type) -> list[str]:
    """The flags that are generated from these dataclasses, without dashes."""
    return [name.replace("_", "-") for cls in classes for name in cls.__dataclass_fields__]  # type: ignore[attr-defined]
