"""The long-tail tools on a classifier of frozen features: cheap, and without the noise of
fine-tuning.

    python -m tests.bench.long_tail_head emoji 0 1 2

Data and tools as in tests/bench/long_tail.py; the numbers are seeds. One pass of EfficientNet-Lite0
at 64 px over the pictures, then for each tool a linear layer is trained with the loss and the order
of epochs that a run would have (AdamW 3e-3, cosine, 20 epochs, batch 32, no weight decay, features
standardised). Prints top-1 and balanced accuracy on test, and recall of the three smallest classes.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from statistics import mean

import torch
from sklearn.metrics import recall_score
from torch import nn

from finetune.augment.picture import seed_everything
from finetune.data import dataset, scanning
from finetune.data.loader import PictureSource, epoch_order, evaluation_batches, steps_per_epoch
from finetune.evaluation import passes
from finetune.recipe.fields import Recipe
from finetune.sources.class_folders import read_folders
from finetune.train.losses import loss_function
from tests.bench.long_tail import TOOLS, thin
from tests.made_recipe import made_recipe
from zoo.bases import catalog
from zoo.network import weights
from zoo.network.build import build
from zoo.picture.preprocess import Preprocessing

Part = tuple[torch.Tensor, torch.Tensor]
"""(float32 [N, D], int64 [N])."""


def features(
    data: Path, pictures_of: dict[str, list[dataset.Picture]], classes: tuple[str, ...]
) -> dict[str, Part]:
    """Standardised features and labels of train and test."""
    base = catalog.find("efficientnet_lite0")
    model = build(
        base, classes, image_size=64, drop_path=0.0, dropout=0.0, fetched=weights.fetch(base)
    )
    own = Preprocessing.from_config(model.pretrained_cfg)
    pre = dataclasses.replace(own, size=64, crop_mode="squash", crop_pct=1.0)
    source = PictureSource(data, pre, workers=0, pin=False)
    seen = {
        name: passes.extract(
            model, evaluation_batches(pictures, source), pre, total=len(pictures), precision="fp32"
        )
        for name, pictures in pictures_of.items()
    }
    centre, scale = seen["train"][0].mean(0), seen["train"][0].std(0) + 1e-6
    return {
        name: ((x_ND.float() - centre) / scale, labels) for name, (x_ND, labels) in seen.items()
    }


def train_head(train: Part, recipe: Recipe) -> nn.Linear:
    """A linear layer trained as the recipe says."""
    x_ND, labels = train
    counts_C = torch.bincount(labels)
    seed_everything(recipe.seed, "head")
    head = nn.Linear(x_ND.shape[1], len(counts_C))
    loss, optimizer = (
        loss_function(recipe, counts_C),
        torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.0),
    )
    per_epoch = int(steps_per_epoch(len(labels), recipe.batch_size))
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * per_epoch)
    for epoch in range(recipe.epochs):
        order = torch.tensor(epoch_order(labels.tolist(), recipe, epoch))
        for chosen in order.split(recipe.batch_size)[:per_epoch]:
            optimizer.zero_grad()
            loss(head(x_ND[chosen]), labels[chosen]).backward()
            optimizer.step()
            decay.step()
    return head


def main(data: Path, seeds: list[int]) -> None:
    """One row for each tool, the seeds' values side by side."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "long-tail"
        print("training pictures of each class:", *thin(data, root))
        scanned = scanning.scan(read_folders(root))
        parts = features(
            root, {split: scanned.of(split) for split in ("train", "test")}, scanned.classes
        )
    labels = parts["test"][1]
    smallest = torch.bincount(parts["train"][1]).argsort()[:3]
    print("| tool | top-1 | balanced | mean recall of the three smallest |\n|" + " --- |" * 4)
    for tool, settings in TOOLS.items():
        rows = []
        for seed in seeds:
            recipe = made_recipe(epochs=20, seed=seed, label_smoothing=0.0, **settings)
            answers = train_head(parts["train"], recipe)(parts["test"][0]).argmax(1)
            recall = recall_score(labels, answers, average=None)
            rows.append(
                ((answers == labels).float().mean().item(), recall.mean(), recall[smallest].mean())
            )
        cells = [
            f"{', '.join(f'{100 * value:.1f}' for value in column)} ({100 * mean(column):.1f})"
            for column in zip(*rows, strict=True)
        ]
        print(f"| {tool} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
