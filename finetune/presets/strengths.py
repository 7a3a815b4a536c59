"""How strong PaddleClas's augmentations are where they are switched on by hand.

Each value has the file that prints it, of ppcls/configs/ImageNet/DataAugment or of
ppcls/data/preprocess/ops in PaddleClas's repository.
"""

from finetune.recipe.facts import Choices

CONFIGS = "published: PaddleClas, ResNet50_"
CODE = "published: PaddleClas, "
ERASING = f"used with erasing; {CONFIGS}RandomErasing.yaml"
GRIDMASK = "used with gridmask"
RANDAUGMENT = f"used by policy randaugment; {CONFIGS}RandAugment.yaml"
PADDLECLAS: Choices = {
    "erasing_area": (0.4, f"{ERASING}: sh 0.4"),
    "erasing_ratio": (1 / 0.3, f"{ERASING}: r1 0.3"),
    "erasing_fill": ("mean", f"{ERASING}: mean 0 after normalisation"),
    "cutout_side": (0.5, f"used with cutout; {CONFIGS}Cutout.yaml: length 112 of 224"),
    "gridmask_kept": (0.5, f"{GRIDMASK}; {CONFIGS}GridMask.yaml: ratio 0.5"),
    "gridmask_rotate": (
        0.0,
        f"{GRIDMASK}; {CONFIGS}GridMask.yaml: rotate 1, which its code draws as 0 degrees",
    ),
    "gridmask_growth": (0.8, f"{GRIDMASK}; {CODE}grid.py: up to epoch 240, of 300"),
    "hide_and_seek_share": (
        0.5,
        f"used with hide-and-seek; {CODE}hide_and_seek.py: hide_prob 0.5",
    ),
    "randaugment_scale": ("paddleclas", RANDAUGMENT),
    "randaugment_ops": (2, f"{RANDAUGMENT}: num_layers 2"),
}
