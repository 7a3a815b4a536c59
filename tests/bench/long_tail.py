"""What each long-tail tool brings: emoji's training pictures thinned to a long tail, the test
pictures untouched.

    python -m tests.bench.long_tail --data emoji --tools none weights --seeds 0 1

The k-th largest of C classes keeps 50^(-k / (C - 1)) times the largest's pictures (all, if it has
fewer), the first by sha256; k = 0, 1, ... Prints a row of the table for each run: accuracy and
balanced accuracy (mean recall of the classes) on test, of the weights that training chose on select
(itself long-tailed; by top-1, with classes balanced by balanced accuracy) and of the last epoch's.
One thread, so that the figures are the same on any number of cores.
"""

import argparse
import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import balanced_accuracy_score

from finetune.data.loader import evaluation_batches
from finetune.evaluation import passes
from finetune.pipeline import fine_tune, make_ready
from finetune.plan import Plan, make_plan
from finetune.recipe.run import Run
from finetune.run_folder import checkpoint
from finetune.run_folder.claim import claim

RATIO = 50
TOOLS: dict[str, dict[str, Any]] = {
    "none": {"balance": "none"},
    **{name: {"balance": name} for name in ("weights", "effective", "resample", "sqrt-resample")},
    **{name: {"balance": "none", "loss": name} for name in ("focal", "ohem", "logit-adjusted")},
}

HEAD = (
    "| tool | seed | top-1 | balanced | step | last epoch: top-1 | balanced | seconds |\n|"
    + " --- |" * 8
)


def thin(data: Path, out: Path) -> list[int]:
    """Write the long-tailed data to `out`; the training pictures of each class, largest first."""
    shutil.copytree(data / "test", out / "test")
    classes = sorted(
        (data / "train").iterdir(), key=lambda folder: (-len(list(folder.iterdir())), folder.name)
    )
    largest = len(list(classes[0].iterdir()))
    kept = []
    for rank, folder in enumerate(classes):
        by_digest = sorted(
            folder.iterdir(), key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
        )
        chosen = by_digest[: round(largest * RATIO ** (-rank / (len(classes) - 1)))]
        (out / "train" / folder.name).mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, out / "train" / folder.name)
        kept.append(len(chosen))
    return kept


def scores(plan: Plan) -> str:
    """Accuracy and balanced accuracy of the model as it stands, on test, as two cells."""
    test = plan.data.of("test")
    logits_NC, labels = passes.logits(
        plan.model, evaluation_batches(test, plan.source), plan.source.pre, total=len(test)
    )
    answers = logits_NC.argmax(1)
    return (
        f"{(answers == labels).float().mean():.1%} | {balanced_accuracy_score(labels, answers):.1%}"
    )


def measure(data: Path, given: dict[str, Any], out: Path | None = None) -> str:
    """Train once; the cells of its row. In a folder `out` that is kept, a run that was killed goes
    on."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(data=str(data), out=out or Path(folder) / "run", device="cpu")
        claimed = claim(run, given)
        ready = make_ready(make_plan(run, claimed.order, claimed, torch.device("cpu")))
        plan, best = ready.plan, fine_tune(ready)
        last = scores(plan)
        checkpoint.load_best(plan.folder, plan.model, best)
        claimed.lock.release()
        return f"{scores(plan)} | {best.step} | {last} | {time.perf_counter() - began:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "long-tail"
        print("training pictures of each class:", *thin(a.data, data))
        print(HEAD)
        for tool in a.tools:
            for seed in a.seeds:
                given = {
                    "image_size": a.size,
                    "epochs": a.epochs,
                    "seed": seed,
                    "features": "fp32",
                    "threads": 1,
                }
                given |= TOOLS[tool]
                print(f"| {tool} | {seed} | {measure(data, given)} |", flush=True)


if __name__ == "__main__":
    main()
