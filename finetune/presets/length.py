"""How long a run of `auto` lasts, and how many pictures are in one of its steps."""

import math

from finetune.presets.anchors import interpolate
from finetune.recipe.facts import Facts

EPOCHS_IN_MINUTES = ((200, 15), (1_000, 6), (10_000, 5), (1_000_000, 4))
"""Pictures and epochs where there is no CUDA GPU: what some minutes allow."""
EPOCHS_ON_A_GPU = ((160, 200), (800, 120), (8_000, 25), (1_000_000, 8))
"""Training pictures and epochs on a CUDA GPU. At batch 64 these are 500 steps for 160 pictures,
1,500 for 800 and 3,125 for 8,000. Published fine-tunings of ViTs take 500 to 2,500 steps for 1,000
pictures (Steiner et al., "How to train your ViT?", 2022), and 8 epochs of ImageNet (20,000 steps at
batch 512; Kolesnikov et al., "Big Transfer", 2020)."""
LEAST_STEPS = 500
"""On a CUDA GPU, however few the pictures are."""
STEPS_BEFORE_LARGER_BATCHES = 1_500
"""Several GPUs make a step larger only as long as a run keeps so many of them."""
ON_THE_CPU, ON_A_GPU = 32, 64
"""Pictures of a step of one process."""


def epochs(facts: Facts, trained_on: int) -> tuple[int, str]:
    """Choose the passes over `trained_on` pictures: on a GPU by the number of steps, elsewhere by
    what minutes allow.

    A batch that is set by hand changes the steps, not the passes.
    """
    if facts.device != "cuda":
        found = round(interpolate(facts.pictures, EPOCHS_IN_MINUTES))
        return found, "what some minutes allow without a CUDA GPU; chosen"
    shortest = math.ceil(LEAST_STEPS * min(trained_on, ON_A_GPU) / trained_on)
    found = max(shortest, math.ceil(interpolate(trained_on, EPOCHS_ON_A_GPU)))
    return found, "published lengths of fine-tunings on a GPU (AugReg, BiT), not measured"


def batch_size(facts: Facts, trained_on: int) -> tuple[int, str]:
    """Choose the pictures of a step, of all processes together. A batch chosen by timing would give
    other weights on a busy day; one that the memory does not hold passes in parts."""
    if facts.device == "cpu":
        return ON_THE_CPU, "fixed on the CPU; never chosen by timing"
    if facts.processes == 1:
        return ON_A_GPU, "usual on a GPU; never chosen by timing"
    seen = epochs(facts, trained_on)[0] * trained_on
    enough = seen // STEPS_BEFORE_LARGER_BATCHES
    size = min(max(enough, ON_A_GPU), ON_A_GPU * facts.processes)
    size = max(size // facts.processes, 1) * facts.processes
    return size, (
        f"{ON_A_GPU} for each of {facts.processes} GPUs, but no more than leave "
        f"{STEPS_BEFORE_LARGER_BATCHES:,} steps"
    )
