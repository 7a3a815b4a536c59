"""What fine-tuning does to scores of "unknown": four small data sets, each foreign to the three
others, at 0 (linear probe), 1 and all epochs of one training.

    python -m tests.bench.unknown_epochs features --emoji EMOJI_FOLDER --out FOLDER    train, and
    keep features
    python -m tests.bench.unknown_epochs scores --out FOLDER                           try scores on
    them

Sets are those of `picture_sets`, so many pictures of each class for training, validation and test:
COUNTS. Each score has its threshold where the product has it: 5 % of
the validation pictures are above it.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finetune import pipeline
from finetune.augment.picture import normalise
from finetune.data import foreign
from finetune.data.loader import Batch, evaluation_batches
from finetune.evaluation import passes
from finetune.plan import Plan, make_plan
from finetune.recipe.run import Run
from finetune.run_folder import checkpoint
from tests.bench.picture_sets import write_set
from zoo.contract import rejection
from zoo.contract.decision import knn_distance, softmax, unit

COUNTS = {"train": 40, "val": 15, "test": 20}
SETS = ("emoji", "digits", "letters", "photos")
EPOCHS = (0, 1, 8)
FOREIGN = 80
"""Pictures of each foreign set."""
SIZE = 64
Features = dict[str, dict[str, np.ndarray]]
"""Pictures (train, val, test or a foreign set) -> layer -> values [N, ...]."""
Score = Callable[[Features, Features], dict[str, np.ndarray]]
"""From the features after training, and of the base before it -> pictures -> score [N], larger =
more foreign."""


def shuffled(picture: Image.Image, random: np.random.Generator, grid: int = 4) -> Image.Image:
    """The picture's parts in another order."""
    pixels = np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    side = SIZE // grid
    tiles = pixels.reshape(grid, side, grid, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    tiles = tiles[random.permutation(len(tiles))].reshape(grid, grid, side, side, 3)
    return Image.fromarray(tiles.swapaxes(1, 2).reshape(SIZE, SIZE, 3))


@torch.inference_mode()
def features(model: nn.Module, batches: Iterable[Batch], plan: Plan) -> dict[str, np.ndarray]:
    """Logits, embedding, and mean and deviation over places of the feature map after each stage."""
    rows: list[dict[str, Tensor]] = []
    model.eval()
    for images, _ in batches:
        x = normalise(images, plan.source.pre)
        last, stages = model.forward_intermediates(x)  # type: ignore[operator]
        row = {
            "logits": model.forward_head(last),
            "embedding": model.forward_head(last, pre_logits=True),
        }
        for i, stage in enumerate(stages):
            row |= {f"mean{i}": stage.mean((2, 3)), f"deviation{i}": stage.std((2, 3))}
        rows.append(row)
    return {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}


def keep_features(name: str, epochs: int, sets: dict[str, Path], out: Path) -> None:
    """Train on one set, and write the features of its own pictures, of the other sets' and of made
    ones."""
    path = out / f"{name}-{epochs}.npz"
    if path.exists():
        return
    given = {"image_size": SIZE, "threads": 1, "features": "fp32", "seed": 0} | (
        {"epochs": epochs} if epochs else {"probe_only": True}
    )
    run = Run(data=str(sets[name]), out=out / "runs" / f"{name}-{epochs}", device="cpu")
    device, claimed = pipeline.claim_checked(run, given)
    ready = pipeline.make_ready(make_plan(run, claimed.order, claimed, device))
    plan, best = ready.plan, pipeline.fine_tune(ready)
    checkpoint.load_best(plan.folder, plan.model, best)
    claimed.lock.release()
    found = {}
    for split in COUNTS:
        found[split] = features(
            plan.model, evaluation_batches(plan.data.of(split), plan.source), plan
        )
    random = np.random.default_rng(2)
    noise = rejection.noise(2 * FOREIGN)
    strangers = {
        other: [Image.open(p) for p in spread(folder.glob("test/*/*.png"))]
        for other, folder in sets.items()
        if other != name
    }
    strangers |= {"even noise": noise[:FOREIGN], "smooth noise": noise[FOREIGN:]}
    own = [Image.open(p) for p in spread(sets[name].glob("train/*/*.png"))]
    strangers["shuffled"] = [shuffled(p, random) for p in own]
    for other, pictures in strangers.items():
        upright = [on_white(p) for p in pictures]
        found[other] = features(plan.model, foreign.batches(upright, plan.source.pre), plan)
    labels = {split: np.array([p.label for p in plan.data.of(split)]) for split in COUNTS}
    right = (found["test"]["logits"].argmax(1) == labels["test"]).mean()
    print(f"{name}, {epochs} epochs: test top-1 {right:.1%}", flush=True)
    np.savez(
        path,
        **{
            f"{group}/{layer}": value
            for group, layers in found.items()
            for layer, value in layers.items()
        },
        **{f"{split}/label": value for split, value in labels.items()},
    )


def spread(paths: Iterable[Path]) -> list[Path]:
    """FOREIGN of them, of all classes."""
    ordered = sorted(paths)
    return [ordered[i * len(ordered) // FOREIGN] for i in range(FOREIGN)]


def on_white(picture: Image.Image) -> Image.Image:
    """Without transparency."""
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def knn(*layers: str, neighbours: int = 10, base: bool = False) -> Score:
    """Distance to the nearest training pictures in these layers, each scaled to length 1; `base`:
    before training."""

    def score(found: Features, of_base: Features) -> dict[str, np.ndarray]:
        source = of_base if base else found
        shortest = [rejection.shortest_length(source["train"][layer]) for layer in layers]

        def joined(group: str) -> np.ndarray:
            return np.concatenate(
                [
                    unit(source[group][layer], least)
                    for layer, least in zip(layers, shortest, strict=True)
                ],
                1,
            )

        of_train = joined("train")
        return {
            group: knn_distance(
                joined(group), unit(of_train), neighbours, float(np.sqrt(len(layers)))
            )
            for group in found
        }

    return score


def energy(found: Features, _: Features) -> dict[str, np.ndarray]:
    """Of Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020."""
    return {
        group: -np.log(np.exp(layers["logits"].astype(np.float64)).sum(1))
        for group, layers in found.items()
    }


def softmax_score(found: Features, _: Features) -> dict[str, np.ndarray]:
    """How little probable the most probable class is."""
    return {group: -softmax(layers["logits"]).max(1) for group, layers in found.items()}


def total(*scores: Score) -> Score:
    """The sum of scores, each in standard deviations of validation pictures."""

    def score(found: Features, base: Features) -> dict[str, np.ndarray]:
        each = [one(found, base) for one in scores]
        return {
            group: sum((one[group] - one["val"].mean()) / one["val"].std() for one in each)  # type: ignore[misc]
            for group in found
        }

    return score


def fitted(*scores: Score) -> Score:
    """A logistic regression of scores, fitted on validation pictures against made outliers
    (`shuffled`)."""

    def score(found: Features, base: Features) -> dict[str, np.ndarray]:
        from sklearn.linear_model import LogisticRegression

        each = [one(found, base) for one in scores]
        columns = {
            group: np.stack(
                [(one[group] - one["val"].mean()) / one["val"].std() for one in each], 1
            )
            for group in found
        }
        known, made = columns["val"], columns["shuffled"]
        line = LogisticRegression(class_weight="balanced").fit(
            np.concatenate([known, made]), np.repeat([0, 1], [len(known), len(made)])
        )
        return {group: line.decision_function(values) for group, values in columns.items()}

    return score


LAST = "embedding"
STAGE = ("mean2", "deviation2")
"""Of the stage at a stride of 8 pixels."""
SCORES: dict[str, Score] = {
    "max softmax": softmax_score,
    "energy": energy,
    "kNN 1": knn(LAST, neighbours=1),
    "kNN 10 (before)": knn(LAST),
    "kNN 10 + energy": total(knn(LAST), energy),
    "base before training, kNN 10": knn(LAST, base=True),
    "base + kNN 10": total(knn(LAST, base=True), knn(LAST)),
    **{f"stage {i}: mean": knn(f"mean{i}") for i in range(5)},
    "stage 2: mean, deviation": knn(*STAGE),
    "embedding + stage 2: mean": knn(LAST, "mean2"),
    "embedding + stage 3: mean": knn(LAST, "mean3"),
    "embedding + stage 1: mean, deviation": knn(LAST, "mean1", "deviation1"),
    "embedding + stage 2: mean, deviation (chosen)": knn(LAST, *STAGE),
    "the same, kNN 1": knn(LAST, *STAGE, neighbours=1),
    "the same + energy": total(knn(LAST, *STAGE), energy),
    "embedding + stage 3: mean, deviation": knn(LAST, "mean3", "deviation3"),
    "kNN 10, stage 2, energy, fitted on shuffled parts": fitted(knn(LAST), knn(*STAGE), energy),
}


def load_features(path: Path) -> Features:
    """What `keep_features` wrote."""
    found: Features = {}
    with np.load(path) as arrays:
        for name in arrays:
            group, layer = name.split("/")
            found.setdefault(group, {})[layer] = arrays[name]
    return found


def print_scores(out: Path) -> None:
    """A row a score: of the foreign sets of all data sets, the least and the mean share called
    unknown (and AUROC)."""
    kept = {
        (name, epochs): load_features(path)
        for name in SETS
        for epochs in EPOCHS
        if (path := out / f"{name}-{epochs}.npz").exists()
    }
    print(
        "| score | "
        + " | ".join(f"{epochs} epochs" for epochs in EPOCHS)
        + " | least AUROC | own |"
    )
    print("|" + " --- |" * (len(EPOCHS) + 3))
    for title, score in SCORES.items():
        shares: dict[int, list[float]] = {epochs: [] for epochs in EPOCHS}
        apart, own = [], []
        for (name, epochs), found in kept.items():
            values = score(found, kept[name, 0])
            threshold = rejection.threshold(values["val"])
            own.append((values["test"] > threshold).mean())
            for group in set(values) - set(COUNTS) - {"shuffled"}:
                shares[epochs].append(float((values[group] > threshold).mean()))
                apart.append(rejection.auroc(values["test"], values[group]))
        print(
            f"| {title} | "
            + " | ".join(
                f"{min(of):.0%}, {np.mean(of):.0%}" if of else "" for of in shares.values()
            )
            + f" | {min(apart):.2f} | {np.mean(own):.1%} |",
            flush=True,
        )


def print_sets(out: Path, title: str) -> None:
    """One score, a row for each data set and length of training."""
    for name in SETS:
        for epochs in EPOCHS:
            if (path := out / f"{name}-{epochs}.npz").exists():
                values = SCORES[title](
                    found := load_features(path), load_features(out / f"{name}-0.npz")
                )
                threshold = rejection.threshold(values["val"])
                cells = [
                    f"{group} {(values[group] > threshold).mean():.0%}"
                    for group in found
                    if group not in COUNTS
                ]
                print(
                    f"| {name}, {epochs} | {', '.join(cells)} | own "
                    f"{(values['test'] > threshold).mean():.0%} |"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("features", "scores"))
    parser.add_argument("--emoji", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--epochs", nargs="+", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    if arguments.what == "features":
        # the last epoch is kept, whatever it is worth
        passes.Scores.better_than = lambda self, other: True
        folders = {
            name: write_set(name, arguments.emoji, arguments.out / "sets" / name, COUNTS)
            for name in SETS
        }
        for epochs in arguments.epochs:
            for one in arguments.sets:
                keep_features(one, epochs, folders, arguments.out)
    else:
        print_scores(arguments.out)
        for score_title in ("kNN 10 (before)", "embedding + stage 2: mean, deviation (chosen)"):
            print(f"\n{score_title}")
            print_sets(arguments.out, score_title)
