"""Flags of other training programs, and ours that mean the same: who knows those is told the name
here.

The names are those of the programs' own documentation: Ultralytics (imgsz, lr0, ...), timm's
train.py (--opt, --sched, ...), torchvision's references, transformers' run_image_classification.py
and TrainingArguments, fastai, PaddleClas, MMPretrain, Lightning and torchrun.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from zoo.host.errors import UserError

# The names read as lists, which the formatter would set one a line.
# fmt: off
OURS = {
    "image-size": ("imgsz", "img-size", "img", "imsize", "input-size", "resize", "size",
     "train-crop-size", "crop-size", "val-crop-size", "image-shape", "side", "res", "resolution",
     "input-res", "global.image-shape", "img-sz"),
    "batch-size": ("batch", "bs", "b", "per-device-train-batch-size", "train-batch-size",
     "samples-per-gpu", "batchsize", "train-batch", "mini-batch-size"),
    "lr": ("lr0", "learning-rate", "base-lr", "blr", "initial-lr", "lr-base", "lr-max",
     "optimizer.lr.learning-rate"),
    "base": ("model", "arch", "a", "architecture", "backbone", "weights", "model-name-or-path",
     "model-name", "pretrained", "initial-checkpoint", "checkpoint", "pretrained-model",
     "global.pretrained-model", "arch.name"),
    "out": ("project", "name", "output", "output-dir", "save-dir", "work-dir", "outdir",
     "experiment", "log-dir", "checkpoint-dir", "global.output-dir", "run-name"),
    "data": ("data-dir", "data-path", "dataset", "dataset-name", "train-dir", "train-data",
     "source", "image-folder", "data-root"),
    "val": ("val-split", "validation-split", "val-dir", "validation-dir", "split",
     "train-val-split", "val-ratio", "validation-data", "valid-pct", "val-pct", "valid",
     "val-fraction", "val-size", "validation-size"),
    "epochs": ("num-train-epochs", "num-epochs", "max-epochs", "n-epochs", "nepochs", "n-epoch",
     "global.epochs"),
    "optimizer": ("opt", "optim", "optimiser"),
    "weight-decay": ("wd", "l2", "weight-decay-rate", "optimizer.regularizer.coeff"),
    "label-smoothing": ("smoothing", "label-smoothing-factor", "label-smooth"),
    "erasing": ("reprob", "random-erase", "random-erasing", "random-erase-prob"),
    "crop-area": ("scale", "rrc-scale"),
    "flip": ("fliplr", "hflip", "horizontal-flip"),
    "dropout": ("drop", "drop-rate", "ps", "classifier-dropout"),
    "workers": ("num-workers", "j", "dataloader-num-workers", "workers-per-gpu", "num-worker",
     "n-workers", "worker", "loader-workers"),
    "schedule": ("sched", "lr-scheduler", "lr-scheduler-type", "scheduler", "cos-lr", "lr-schedule",
     "lr-policy"),
    "warmup": ("warmup-epochs", "lr-warmup-epochs", "warmup-steps", "warmup-ratio", "warmup-iters",
     "warmup-proportion", "warmup-epoch"),
    "decay-at": ("lr-step-size", "decay-epochs", "decay-milestones", "milestones"),
    "decay-factor": ("lr-gamma", "gamma", "decay-rate"),
    "clip-norm": ("clip-grad", "max-grad-norm", "clip-grad-norm", "gradient-clip-val"),
    "accumulate": ("grad-accum-steps", "gradient-accumulation-steps", "accumulate-grad-batches",
     "accumulation-steps", "grad-accum", "nbs"),
    "ema": ("model-ema", "model-ema-decay", "use-ema", "ema-decay", "model-ema-warmup"),
    "policy": ("aa", "auto-augment", "augment", "auto-aug", "autoaug", "ra", "randaug",
     "use-randaugment"),
    "rotate": ("degrees", "rotation"),
    "color-jitter": ("hsv-h", "hsv-s", "hsv-v", "jitter", "colorjitter"),
    "patience": ("early-stopping", "early-stopping-patience", "early-stop",
     "early-stopping-rounds"),
    "layer-decay": ("llrd",),
    "compile": ("torchcompile", "torch-compile", "torch-compile-backend", "torch-compile-mode",
     "dynamo-backend"),
    "amp": ("half", "fp16", "bf16", "mixed-precision", "precision", "use-amp", "amp-dtype",
     "native-amp", "apex-amp", "amp-impl", "amp-level", "to-fp16"),
    "device": ("gpu", "gpus", "cuda", "gpu-id", "no-cuda", "use-cpu", "use-gpu", "global.device",
     "device-ids"),
    "probe-only": ("freeze", "linear-probe", "freeze-backbone", "freeze-layers", "feature-extract",
     "freeze-encoder", "freeze-base", "head-only", "linear-probing", "lin-probe"),
    "balance": ("class-weights", "weighted-sampler", "class-weight", "balanced", "oversample"),
    "start-size": ("progressive-resizing",),
    "from-scratch": ("scratch", "no-pretrained", "train-from-scratch"),
    "init": ("weight-init",),
    "teacher": ("distill", "kd", "kd-model-name", "teacher-model", "teacher-path"),
    "drop-path": ("drop-path-rate", "stochastic-depth", "stochastic-depth-prob", "drop-connect"),
    "resume": ("resume-from-checkpoint", "auto-resume", "resume-path", "continue", "restore"),
    "seed": ("data-seed", "random-seed", "manual-seed"),
    "mixup": ("mixup-alpha", "mix-up"),
    "cutmix": ("cutmix-alpha",),
    "batch-norm": ("freeze-bn", "norm-eval"),
    "fit": ("rect", "crop-mode", "resize-mode"),
    "loss": ("criterion", "loss-fn", "loss-function", "bce-loss"),
    "sam-rho": ("rho", "sam"),
    "threads": ("num-threads", "intra-op-threads", "torch-num-threads"),
}
"""Our flag -> names of others for it, all without dashes at the beginning."""
NOT_NEEDED = {
    "classes are the names of the folders": ("num-classes", "nc", "n-classes", "num-labels",
     "class-map", "class-names", "names", "label-names", "label-column-name", "image-column-name",
     "class-num", "arch.class-num"),
    "what is trained is always a classifier of pictures": ("task", "mode", "do-train", "do-eval",
     "do-predict"),
    "weights, mean and deviation of a base are found by its name": ("mean", "std"),
    "batches are brought to the device as it takes them fastest": ("pin-mem", "pin-memory",
     "dataloader-pin-memory", "no-prefetcher", "prefetch-factor", "dataloader-prefetch-factor",
     "persistent-workers", "dataloader-persistent-workers", "channels-last", "fuser", "tf32"),
    "the best weights and the last two checkpoints are kept, as often as costs two percent of the "
    "time": ("save", "save-period", "save-steps", "save-strategy", "save-total-limit",
     "save-only-model", "save-interval", "save-every", "save-freq", "save-best", "save-best-only",
     "save-last", "save-checkpoint", "checkpoint-hist", "checkpoint-interval", "recovery-interval",
     "global.save-interval", "load-best-model-at-end", "nosave"),
    "pictures are read from their files each time, in as many processes as --workers says": (
     "cache", "cache-images", "cache-mode", "use-cache", "overwrite-cache",
     "use-multi-epochs-loader"),
    "each epoch is evaluated on val, and the best weights are chosen by top-1 there": (
     "eval-strategy", "evaluation-strategy", "eval-steps", "eval-interval", "eval-delay",
     "eval-on-start", "val-interval", "val-period", "validate", "noval", "no-val", "eval-metric",
     "metric-for-best-model", "metric", "greater-is-better", "monitor", "global.eval-during-train",
     "global.eval-interval"),
    "answers do not depend on it": ("validation-batch-size", "per-device-eval-batch-size",
     "eval-batch-size", "val-batch-size", "test-batch-size", "eval-accumulation-steps"),
    "losses and rates are written to metrics.jsonl and TensorBoard, and figures to report.html": (
     "log-interval", "logging-steps", "logging-strategy", "logging-dir", "logging-first-step",
     "log-every", "print-freq", "print-interval", "log-level", "disable-tqdm", "verbose",
     "report-to", "log-wandb", "wandb", "use-wandb", "wandb-project", "tensorboard", "tb", "logger",
     "plots", "visualize", "use-visualdl", "global.use-visualdl", "global.print-batch-step"),
    "the same seed gives the same weights on the same machine": ("deterministic",
     "full-determinism", "cudnn-benchmark", "cudnn-deterministic"),
    "the same command goes on where it stopped, and another --out begins anew": ("exist-ok",
     "overwrite-output-dir", "overwrite", "force", "start-epoch", "ignore-data-skip"),
    "an epoch shows every picture, in an order that follows from --seed": ("shuffle", "drop-last",
     "dataloader-drop-last", "epoch-repeats", "remove-unused-columns", "group-by-length"),
    "no code of a repository is run, whatever it says": ("trust-remote-code",),
}
"""Why there is no such flag -> names of others."""
ELSEWHERE = {
    "several processes are started by torchrun --standalone --nproc-per-node N -m finetune, with "
    "its flags before -m": ("nproc", "nproc-per-node", "nnodes", "node-rank", "rdzv-backend",
     "rdzv-endpoint", "rdzv-id", "rdzv-conf", "master-addr", "master-port", "local-addr",
     "local-rank", "max-restarts", "standalone", "monitor-interval", "start-method", "role",
     "redirects", "tee", "module", "no-python", "run-path", "local-ranks-filter", "numa-binding",
     "shutdown-timeout", "signals-to-handle", "event-log-handler", "logs-specs",
     "log-line-prefix-template", "duplicate-stdout-filters", "duplicate-stderr-filters",
     "virtual-local-rank", "dist-url", "dist-backend", "dist-eval", "distributed",
     "multiprocessing-distributed", "world-size", "rank", "num-processes", "num-machines",
     "num-gpus", "n-gpus", "ngpus", "launcher", "strategy", "ddp-backend", "ddp-timeout",
     "ddp-find-unused-parameters", "fsdp", "deepspeed", "sync-bn", "sync-batchnorm"),
    "python -m zoo push RUN user/name publishes a finished run": ("push-to-hub", "hub-model-id",
     "hub-token", "hub-private-repo", "hub-strategy", "hub-revision"),
    "python -m export RUN --to onnx int8 openvino tensorrt writes the files of a finished run": (
     "export", "format", "opset", "torchscript", "int8", "simplify", "save-inference-dir",
     "global.save-inference-dir"),
    "a base is kept where HF_HOME says, and read from there without network; python -m zoo pull "
    "fetches one": ("cache-dir", "token", "use-auth-token", "model-revision", "revision",
     "local-files-only", "offline"),
    "a batch that the memory does not hold passes in parts, by itself on a GPU, else by "
    "--accumulate": ("auto-find-batch-size", "auto-batch", "gradient-checkpointing",
     "grad-checkpointing", "activation-checkpointing"),
    "the length of a run is given in --epochs": ("max-steps", "max-iter", "max-iters", "iterations",
     "num-steps", "total-steps", "steps", "time"),
    "optimizers have their published settings but for --lr and --weight-decay": ("momentum",
     "nesterov", "opt-betas", "opt-eps", "betas", "beta1", "beta2", "eps", "moms", "adam-beta1",
     "adam-beta2", "adam-epsilon", "optim-args", "opt-kwargs"),
    "how the rate rises and falls is set by --warmup, --schedule, --decay-at, --decay-factor and "
    "--decay-power": ("lrf", "min-lr", "lr-min", "final-lr", "eta-min", "warmup-lr",
     "warmup-bias-lr", "warmup-momentum", "lr-cycle-limit", "lr-cycle-mul", "cooldown-epochs",
     "lr-noise", "lr-k-decay", "lr-scheduler-kwargs", "patience-epochs"),
    "--lr find takes the rate from a range test": ("lr-find", "auto-lr-find", "find-lr"),
    "this augmentation is not offered; python -m finetune.show_augment draws those that are": (
     "vflip", "flipud", "shear", "translate", "perspective", "mosaic", "close-mosaic", "copy-paste",
     "bgr", "gaussian-blur", "grayscale-prob", "aug-splits", "aug-repeats", "jsd-loss", "remode",
     "recount", "resplit", "ratio", "train-interpolation", "interpolation", "color-jitter-prob",
     "mixup-prob", "mixup-switch-prob", "mixup-mode", "mixup-off-epoch", "cutmix-minmax",
     "max-zoom", "max-warp", "max-lighting", "p-affine", "p-lighting", "no-aug"),
    "of a part of the pictures, make a folder with links to them, and give that to --data": (
     "fraction", "max-train-samples", "max-eval-samples", "max-samples", "subset", "max-images",
     "limit-train-batches"),
    "settings are flags; --recipe has those of published systems, and recipe.json of a run has all "
    "of its own": ("config", "config-file", "cfg", "c", "hyp", "o", "opts", "options", "override",
     "args"),
}
"""What does it instead -> names of others."""
# fmt: on


def check(words: Sequence[str], known: Sequence[str]) -> None:
    """`UserError` for flags of other programs among the words of a command, with ours in their
    place.

    `known`: flags of the command itself, without dashes. Also for settings written as `imgsz=64`.
    Other unknown words are left to the parser.
    """
    answers = _answers(known)
    found: dict[str, str] = {}
    for before, word in zip(("", *words), words, strict=False):
        [(dashes, name)] = re.findall(r"^(-*)([A-Za-z][\w.-]*)?", word)
        # without dashes, what stands behind a flag is its value, whatever it looks like
        is_setting = dashes or ("=" in word and not before.startswith("-"))
        name = name.replace("_", "-").lower()
        if not is_setting or (dashes and name in known):
            continue
        shown = word.partition("=")[0]
        if not dashes:
            shown += "="
        if name in answers:
            found[shown] = shown + answers[name]
    if found:
        raise UserError(
            f"{'; '.join(found.values())}: expected flags of this program, written as --name "
            "value. All of them: --help"
        )


def _answers(known: Sequence[str]) -> dict[str, str]:
    """Name without dashes -> what is said of it to who knows it from another program."""
    answers: dict[str, str] = {}
    for what, names in ELSEWHERE.items():
        answers |= dict.fromkeys(names, f": {what}")
    for why, names in NOT_NEEDED.items():
        answers |= dict.fromkeys(names, f" is not needed, because {why}")
    for ours, names in OURS.items():
        if ours in known:
            answers |= dict.fromkeys(names, f" is --{ours} here")
    # last: our own names, which stand here only where they were written without dashes
    return answers | {name: f" is --{name} here" for name in known}


def flags_of(*classes: Any) -> list[str]:
    """The flags that are generated from these dataclasses, without dashes."""
    names = (field.name for cls in classes for field in dataclasses.fields(cls))
    return [name.replace("_", "-") for name in names]
