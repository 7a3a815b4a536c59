"""Policies: chains of colour and shape changes of one picture, drawn at random.

What a shape change leaves empty gets the mean colour. torchvision's draw from torch's generator,
timm's from torch's and Python's; both are seeded for each picture.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP, rand_augment_choices, rand_augment_ops
from torchvision.transforms import v2

from finetune.recipe.fields import Recipe

Change = Callable[[Image.Image], Image.Image]
CIFAR_POLICY_UP_TO_PX = 64
"""Up to this size AutoAugment takes the policy found on CIFAR-10's 32 px pictures."""
TIMM_SPREAD = 0.5
"""Standard deviation of timm's magnitude, of 10: mstd0.5 in rand-m9-mstd0.5-inc1, as timm's
training scripts and DeiT have it."""
PADDLECLAS_LEVELS = 10
"""PaddleClas's magnitude is divided by this (ppcls/data/preprocess/ops/randaugment.py)."""
PADDLECLAS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "ShearX": lambda level: (0.3 * level, -0.3 * level),
    "ShearY": lambda level: (0.3 * level, -0.3 * level),
    "TranslateXRel": lambda level: (150 / 331 * level, -150 / 331 * level),
    "TranslateYRel": lambda level: (150 / 331 * level, -150 / 331 * level),
    "Rotate": lambda level: (30 * level,),
    "Color": lambda level: (1 + 0.9 * level, 1 - 0.9 * level),
    # no bits at all would blacken the picture
    "Posterize": lambda level: (max(1, int(4 * level)),),
    "Solarize": lambda level: (256 * level,),
    "Contrast": lambda level: (1 + 0.9 * level, 1 - 0.9 * level),
    "Sharpness": lambda level: (1 + 0.9 * level, 1 - 0.9 * level),
    "Brightness": lambda level: (1 + 0.9 * level, 1 - 0.9 * level),
    "AutoContrast": lambda level: (),
    "Equalize": lambda level: (),
    "Invert": lambda level: (),
}
"""Change -> the arguments that it takes at a level from 0 to 1, one of which is drawn. As they are
published: rotation goes one way only, and a higher level solarises and posterises less."""


def policy_changes(recipe: Recipe, side: int, mean: Sequence[int]) -> tuple[Change, ...]:
    """The policy of a recipe, for pictures of `side` pixels whose mean colour is `mean` (0 to 255);
    empty without one."""
    if recipe.policy == "none":
        return ()
    policy = _policy(recipe, side, mean)
    if recipe.policy_share == 1:
        return (policy,)
    return (lambda view: policy(view) if torch.rand(()) < recipe.policy_share else view,)


def _policy(recipe: Recipe, side: int, mean: Sequence[int]) -> Change:
    """The chain of changes that a policy draws from."""
    if recipe.policy == "autoaugment":
        small = side <= CIFAR_POLICY_UP_TO_PX
        found_on = v2.AutoAugmentPolicy.CIFAR10 if small else v2.AutoAugmentPolicy.IMAGENET
        return v2.AutoAugment(found_on, fill=list(mean))
    if recipe.policy == "augmix":
        return v2.AugMix(severity=recipe.augmix_severity, fill=list(mean))
    return RANDAUGMENT[recipe.randaugment_scale](
        recipe.randaugment_ops, recipe.randaugment_magnitude, mean
    )


def _of_torchvision(ops: int, magnitude: int, mean: Sequence[int]) -> Change:
    return v2.RandAugment(num_ops=ops, magnitude=magnitude, fill=list(mean))


def _of_timm(ops: int, magnitude: int, mean: Sequence[int]) -> Change:
    """timm's rand-mM-nN-mstd0.5-inc1."""
    known = rand_augment_ops(
        magnitude,
        hparams={"img_mean": tuple(mean), "magnitude_std": TIMM_SPREAD},
        transforms=rand_augment_choices("", increasing=True),
    )

    def changed(view: Image.Image) -> Image.Image:
        # not timm's RandAugment, which draws from NumPy's generator
        for which in torch.randint(len(known), (ops,)).tolist():
            view = known[which](view)
        return view

    return changed


def _of_paddleclas(ops: int, magnitude: int, mean: Sequence[int]) -> Change:
    """PaddleClas's RandAugment, but for the empty corners, which are grey there."""
    level = magnitude / PADDLECLAS_LEVELS
    functions: Mapping[str, Any] = NAME_TO_OP
    known = [(functions[name], arguments(level)) for name, arguments in PADDLECLAS.items()]

    def changed(view: Image.Image) -> Image.Image:
        for which in torch.randint(len(known), (ops,)).tolist():
            function, arguments = known[which]
            if arguments:
                drawn = int(torch.randint(len(arguments), ()))
                arguments = arguments[drawn : drawn + 1]
            view = function(
                view, *arguments, fillcolor=tuple(mean), resample=Image.Resampling.BICUBIC
            )
        return view

    return changed


RANDAUGMENT: dict[str, Callable[[int, int, Sequence[int]], Change]] = {
    "torchvision": _of_torchvision,
    "paddleclas": _of_paddleclas,
    "timm": _of_timm,
}
