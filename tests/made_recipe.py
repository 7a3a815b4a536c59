"""Recipes for tests: every value fixed, so that a change of `auto` does not change what a test
trains."""

import dataclasses
from typing import Any

from finetune.recipe.fields import Recipe

FIXED = Recipe(
    recipe="auto",
    epochs=2,
    batch_size=32,
    image_size=64,
    fit="squash",
    stem="own",
    lr=1e-3,
    optimizer="adamw",
    seed=0,
    amp="off",
    val="0.2",
    probe_only=False,
    probe="on",
    features="fp32",
    warmup="10%",
    schedule="cosine",
    decay_at="",
    decay_factor=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
    erasing=0.25,
    erasing_area=1 / 3,
    erasing_ratio=1 / 0.3,
    erasing_fill="noise",
    crop_area=0.5,
    crop_ratio=4 / 3,
    flip=0.5,
    drop_path=0.0,
    dropout=0.0,
    batch_norm="train",
    clip_norm=0.0,
    threads=2,
    decay_power=1.0,
    accumulate=1,
    sam_rho=0.0,
    ema=0.0,
    compile="off",
    patience=0,
    layer_decay=1.0,
    start_size=0,
    from_scratch=False,
    init="timm",
    zero_gamma=False,
    teacher="",
    distill_temperature=4.0,
    distill_weight=0.5,
    policy="none",
    policy_share=1.0,
    randaugment_scale="torchvision",
    randaugment_ops=2,
    randaugment_magnitude=9,
    augmix_severity=3,
    augmix_consistency=0.0,
    rotate=0.0,
    color_jitter=0.0,
    hue_jitter=0.0,
    pca_noise=0.0,
    crop_padding=0,
    mixup=0.0,
    cutmix=0.0,
    cutout=0.0,
    cutout_side=0.5,
    gridmask=0.0,
    gridmask_kept=0.6,
    gridmask_rotate=0.0,
    gridmask_growth=0.0,
    hide_and_seek=0.0,
    hide_and_seek_share=0.5,
    loss="cross-entropy",
    focal_gamma=2.0,
    ohem_share=0.5,
    balance="none",
)
SHORT = {"epochs": 2, "image_size": 32, "lr": 1e-3, "features": "fp32", "threads": 1}
"""What the shared finished run was given; nothing that decides its bits is measured."""


def made_recipe(**values: Any) -> Recipe:
    """The fixed recipe with some values changed."""
    return dataclasses.replace(FIXED, **values)
