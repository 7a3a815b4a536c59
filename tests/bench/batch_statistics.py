"""What a batch's own statistics do to a linear probe: why fine-tuning with batch norms in training
mode begins far below its probe.

    python -m tests.bench.batch_statistics --emoji emoji --out FOLDER --sets digits icons

For each set of `picture_sets`, EfficientNet-Lite0 at 64 px: test top-1 of the probe, and its loss
on the training pictures in evaluation mode and in training mode (batches of 32). `base`: the base's
statistics, on which the probe is fitted; `own`: those of the training pictures, and a probe on
them.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune import pipeline
from finetune.augment.picture import normalise
from finetune.data.loader import evaluation_batches
from finetune.evaluation import passes
from finetune.plan import Plan, make_plan
from finetune.recipe.run import Run
from finetune.train import probe
from tests.bench.picture_sets import SETS, write_set
from zoo.network import of_torch

COUNTS = {"train": 100, "test": 60}
SIZE, BATCH = 64, 32


def accuracy(plan: Plan) -> float:
    """Test top-1, in evaluation mode."""
    test = plan.data.of("test")
    batches = evaluation_batches(test, plan.source)
    logits_NC, labels_N = passes.logits(plan.model, batches, plan.source.pre, total=len(test))
    return float((logits_NC.argmax(1) == labels_N).float().mean())


@torch.no_grad()
def loss(plan: Plan, *, training: bool) -> tuple[float, float]:
    """(cross-entropy, top-1) on the training pictures; the statistics are as before."""
    before = {name: value.clone() for name, value in plan.model.state_dict().items()}
    plan.model.train(training)
    losses, right, pictures = 0.0, 0.0, plan.data.of("train")
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0)).tolist()
    mixed = [pictures[i] for i in order]
    for images, labels in evaluation_batches(mixed, plan.source):
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            logits = plan.model(normalise(x, plan.source.pre))
            losses += cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    plan.model.load_state_dict(before)
    return losses / len(pictures), right / len(pictures)


@torch.no_grad()
def take_own_statistics(model: nn.Module, plan: Plan) -> None:
    """Set the statistics of batch norms to those of the training pictures."""
    for layer in of_torch.batch_norms(model):
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    model.train()
    for images, _ in evaluation_batches(plan.data.of("train"), plan.source):
        model(normalise(images, plan.source.pre))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emoji", type=Path, default=Path("emoji"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.sets:
        data = write_set(name, arguments.emoji, arguments.out / "sets" / name, COUNTS)
        given = {"image_size": SIZE, "threads": 1, "features": "fp32"}
        run = Run(data=str(data), out=arguments.out / "runs" / name, device="cpu", workers=0)
        device, claimed = pipeline.claim_checked(run, given)
        plan = make_plan(run, claimed.order, claimed, device)
        claimed.lock.release()
        for statistics in ("base", "own"):
            if statistics == "own":
                take_own_statistics(plan.model, plan)
            probe.fit_head(
                plan.model,
                plan.data.of("train"),
                plan.source,
                classes=len(plan.data.classes),
                precision="fp32",
            )
            evaluating, _ = loss(plan, training=False)
            training, right = loss(plan, training=True)
            rows.append(
                f"| {name} | {statistics} | {accuracy(plan):.1%} | {evaluating:.2f} | "
                f"{training:.2f} | {right:.1%} |"
            )
    print("| set | statistics | probe, test top-1 | loss | in training mode | its top-1 |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
