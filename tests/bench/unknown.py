"""AUROC of several unknown scores on finished runs: test pictures against noise, digits and parts
of photographs.

python -m tests.bench.unknown runs/emoji-efficientnet_lite0
"""

import sys
from pathlib import Path

import numpy as np
import torch

from finetune.augment.picture import normalise
from finetune.data import foreign
from finetune.data.loader import Batch, evaluation_batches
from finetune.evaluation import passes, reference_bank
from finetune.evaluation.choices import Place
from finetune.evaluation.subject import Subject
from finetune.write_run import finished_subject
from zoo.contract import rejection
from zoo.contract.decision import knn_distance, softmax
from zoo.network.forward import forward


@torch.inference_mode()
def seen(subject: Subject, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings, logits)."""
    parts = [forward(subject.model, normalise(images, subject.source.pre)) for images, _ in batches]
    return (
        torch.cat([part.embedding for part in parts]).numpy(),
        torch.cat([part.logits for part in parts]).numpy(),
    )


def main(run: Path) -> None:
    """One table."""
    subject = finished_subject(Place(run, device="cpu"))
    pre = subject.source.pre
    train = passes.sample(subject.data.of("train"), reference_bank.REFERENCES)
    references, _ = seen(subject, list(evaluation_batches(train, subject.source)))
    lengths = np.linalg.norm(references, axis=1)
    bank = references / lengths[:, None]
    noise = rejection.noise(foreign.PICTURES)
    digits = next(one.pictures for one in foreign.sets_for([]) if one.name == "digits")
    sets = {
        "even noise": noise[: foreign.PICTURES // 2],
        "smooth noise": noise[foreign.PICTURES // 2 :],
        "noise": noise,
        "digits": digits,
        "photos": foreign.photos(),
    }
    known = seen(subject, list(evaluation_batches(subject.data.of("test"), subject.source)))
    strangers = {
        name: seen(subject, list(foreign.batches(pictures, pre))) for name, pictures in sets.items()
    }

    def line(title: str, score: object) -> None:
        row = [f"{rejection.auroc(score(*known), score(*them)):.3f}" for them in strangers.values()]  # type: ignore[operator]
        print(f"| {title} | {' | '.join(row)} |")

    print(f"| {run.name} | {' | '.join(sets)} |\n|{' --- |' * (len(sets) + 1)}")
    line("max softmax", lambda _, logits: -softmax(logits).max(1))
    line("energy", lambda _, logits: -np.log(np.exp(logits.astype(np.float64)).sum(1)))
    for neighbours in (1, 5, 10, 20, 50):
        for share in (0.0, rejection.WEAK, 0.25):
            shortest = float(np.quantile(lengths, share)) if share else 1e-12
            line(
                f"kNN {neighbours}" + (f", weak below {share:.0%}" if share else ""),
                lambda embedding, _, k=neighbours, s=shortest: knn_distance(embedding, bank, k, s),
            )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(Path(name))
