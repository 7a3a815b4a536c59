"""Recipes of published systems, by name. Each function gives what its source says, and a reason for
every value.

What a source leaves open is named so ("not published"); what every recipe decides alike, such as
input side, precision and validation, is added by finetune/presets/every_preset.py. Where fewer
epochs are given than published, warm-up and boundaries keep their share of the run.
"""

from finetune.presets.anchors import interpolate
from finetune.presets.every_preset import HEAVY, cifar_input, is_heavy
from finetune.presets.strengths import PADDLECLAS
from finetune.recipe.facts import Choices, Facts, Given

SMALL_M = 12
"""Bases below so many million parameters are small: ResNet-18 (11.2) is the largest that lost by
label smoothing."""
FINE_TUNING_RATES = ((1_000, 0.001), (100_000, 0.01))
"""Pictures and rate at batch 256; PaddleClas, Tricks for Training, section 9."""
STEPS_OFF: Choices = {
    "decay_at": ("", "not used by this schedule"),
    "decay_factor": (0.1, "not used by this schedule"),
}


def warmup_step(facts: Facts, given: Given) -> Choices:
    """Fine-tuning from ImageNet-21k weights with warm-up and step decay (Deng, Liu, Xiao).

    Published protocol: Adam 1e-3 without weight decay, batch 64, 40 epochs, linear warm-up per step
    over the first 10 epochs, x0.1 after epoch 30, Random Erasing with probability 0.5, label
    smoothing 0.1, cross-entropy. No probe: the published head starts at random.

        python -m finetune --data mydataset/ --base vit_base_21k --recipe warmup-step

    Its figures were not reproduced here (they need ImageNet-21k weights and the publication's
    data).
    """
    published = "published protocol"
    return {
        "epochs": (40, published),
        "batch_size": (64, published),
        "lr": (1e-3, published),
        "optimizer": ("adam", published),
        "warmup": ("25%", "published: 10 of 40 epochs"),
        "schedule": ("step", published),
        "decay_at": ("75%", "published: after epoch 30 of 40"),
        "decay_factor": (0.1, published),
        "weight_decay": (0.0, published),
        "label_smoothing": (0.1, published),
        "erasing": (0.5, published),
        "crop_area": (0.5, "not published; as in auto"),
        "flip": (0.5, "not published; as in auto"),
        "drop_path": (0.0, "not published; off"),
        "batch_norm": ("train", "not published; as in scratch training"),
        "clip_norm": (0.0, "not published; off"),
        "probe": ("off", "the published protocol starts from a random head"),
    }


def paddleclas(facts: Facts, given: Given) -> Choices:
    """PaddleClas, "Tricks for Training" (docs/en/models/Tricks_en.md, version 2.2).

    SGD with momentum (--optimizer adam, adamw, rmsprop, adadelta), cosine decay (--schedule step,
    polynomial, exponential) after 5 epochs of warm-up. Rate at batch 256: fine-tuning 0.001 up to
    1,000 pictures, 0.01 from 100,000 on (between them interpolated here), from scratch 0.1; linear
    in the batch. For small bases: weight decay 3e-5, crops from 0.2 of the area and of narrower
    shapes (--crop-ratio; how narrow is not published), no label smoothing. Its eight augmentations
    are --policy autoaugment, --policy randaugment, --mixup, --cutmix, --cutout, --gridmask,
    --hide-and-seek and --erasing, each as strong as there.

    Published, ImageNet-1k top-1: weight decay 3e-5 for 1e-4 brings MobileNetV1_x0_25 from 50.41 to
    51.45 %, crops from 0.2 for 0.08 MobileNetV2_x0_25 from 52.35 to 53.18 %, smoothing ResNet50_vd
    from 77.9 to 78.4 % and ResNet18 from 70.98 to 70.81 %; the eight augmentations bring ResNet50
    from 77.31 to between 77.43 (Hide-and-Seek) and 78.39 % (CutMix), and with heavy ones weight
    decay 7e-5 for 1e-4 from 77.65 to 78.04 %. Not reproduced here.

        python -m finetune --data mydataset/ --base hgnetv2_b4_21k_1k --recipe paddleclas --cutmix
        0.2
    """
    batch_size = _batch(facts, 256)
    batch = given.get("batch_size", batch_size[0])
    if given.get("from_scratch"):
        epochs, rate = (120, "published for ResNet50"), 0.1
        start = "from scratch"
    else:
        epochs = (20, "not published for fine-tuning")
        rate = interpolate(facts.pictures, FINE_TUNING_RATES)
        start = f"for {facts.pictures:,} pictures"
    return {
        **STEPS_OFF,
        **_off("erasing", "drop_path", "clip_norm"),
        **_shared(),
        **_paddleclas_strength(facts, given),
        **PADDLECLAS,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": (
            _rounded(rate * batch / 256),
            f"published: {rate:.2g} at batch 256 {start}, linear in the batch",
        ),
        "optimizer": ("momentum", "published"),
        "warmup": _warmup(given.get("epochs", epochs[0])),
        "schedule": ("cosine", "published as the one to prefer"),
        "decay_at": (
            "25%, 50%, 75%",
            "published for the piecewise schedule: every 30 of 120 epochs",
        ),
        "decay_factor": (0.1, "published for the piecewise schedule"),
    }


def _paddleclas_strength(facts: Facts, given: Given) -> Choices:
    """Weight decay, smoothing and crops, which PaddleClas sets by the size of the base."""
    if facts.base.params_m < SMALL_M:
        return {
            "weight_decay": (3e-5, "published for small bases"),
            "label_smoothing": (0.0, "published: off for small bases"),
            "crop_area": (0.2, "published for small bases"),
        }
    heavy = is_heavy(given, (*HEAVY, "erasing"))
    weight_decay = (7e-5, "published with heavy augmentation") if heavy else (1e-4, "published")
    return {
        "weight_decay": weight_decay,
        "label_smoothing": (0.1, "published"),
        "crop_area": (0.08, "published"),
    }


def bag_of_tricks(facts: Facts, given: Given) -> Choices:
    """He, Zhang, Zhang, Zhang, Xie and Li, "Bag of Tricks for Image Classification with CNNs", CVPR
    2019.

    SGD with Nesterov momentum, rate 0.1 at batch 256 and linear in the batch, 5 epochs of warm-up,
    cosine, no decay of biases and norms, half precision on GPUs, label smoothing 0.1, mixup 0.2
    over 200 epochs, colours and hue times 0.6 to 1.4, PCA noise 0.1. From scratch also Xavier
    initialisation and zero gamma. Distillation, with --teacher, at temperature 20. ResNet-B, -C and
    -D are resnet50_1k (timm's plain ResNets stride in the 3x3 convolution), resnet50c_1k and
    resnet50d_1k. For very large batches --optimizer lars (not part of the paper).

    Published, ImageNet-1k top-1, from scratch: ResNet-50 75.3 %, ResNet-50-D 77.16, with cosine
    77.91, smoothing 78.31, distillation 78.67 (without mixup), mixup 79.15, both 79.29 %. Not
    reproduced here.

        python -m finetune --data mydataset/ --base resnet50d_1k --recipe bag-of-tricks --teacher
        runs/mydataset-large
    """
    batch_size = _batch(facts, 256)
    batch = given.get("batch_size", batch_size[0])
    scratch = bool(given.get("from_scratch"))
    initialisation: Choices = {}
    if scratch:
        initialisation = {"init": ("xavier", "published"), "zero_gamma": (True, "published")}
    epochs = _epochs(scratch, "published, with mixup")
    why = "published: 0.1 at batch 256, linear in the batch"
    return {
        **STEPS_OFF,
        **_off("erasing", "drop_path", "clip_norm"),
        **_shared(),
        **initialisation,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": _rate(scratch, batch / 256, why),
        "optimizer": ("sgd", "published: Nesterov momentum 0.9"),
        "warmup": _warmup(given.get("epochs", epochs[0])),
        "schedule": ("cosine", "published"),
        "weight_decay": (1e-4, "published"),
        "label_smoothing": (0.1, "published"),
        "mixup": (0.2, "published"),
        "crop_area": (0.08, "published"),
        "color_jitter": (0.4, "published: brightness and saturation times 0.6 to 1.4"),
        "hue_jitter": (0.4, "published: hue times 0.6 to 1.4"),
        "pca_noise": (0.1, "published"),
        "distill_temperature": (20.0, "published; used with a teacher"),
        "distill_weight": (0.5, "published: both terms count the same; used with a teacher"),
    }


def cifar_sam(facts: Facts, given: Given) -> Choices:
    """ "Deep learning classification optimization practice", on CIFAR-100's pictures of 32 px.

    SAM (Foret et al., 2021) around SGD (--optimizer ranger instead), rate 0.1 at batch 128, 200
    epochs, 5 of warm-up, cosine, weight decay 5e-4 not on biases and norms; padded crop, flip,
    rotation, AutoAugment, Random Erasing, smoothing; Kaiming initialisation from scratch. --policy
    augmix and the long-tail tools (--balance, --loss) belong to it as well; its test-time views are
    measured at the end of every run. ResNets from scratch get pictures of up to 40 px at 32 px, the
    stem for them (--stem cifar), and the policy found on CIFAR-10.

    Published, CIFAR-100 top-1: from ResNet-18 with 75 % to WideResNet-40-10 with SAM, AutoAugment,
    smoothing and test-time views, 84.37 %. Not reproduced here.

        python -m finetune --data cifar100/ --base wide_resnet40_10 --from-scratch --recipe
        cifar-sam
    """
    batch_size = _batch(facts, 128)
    batch = given.get("batch_size", batch_size[0])
    scratch = bool(given.get("from_scratch"))
    initialisation: Choices = {}
    if scratch:
        initialisation = {"init": ("kaiming", "published")}
    epochs = _epochs(scratch, "published")
    return {
        **STEPS_OFF,
        **_off("drop_path", "clip_norm"),
        **_shared(),
        **initialisation,
        **cifar_input(facts, given),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": _rate(scratch, batch / 128, "published: 0.1 at batch 128"),
        "optimizer": ("sgd", "published"),
        "sam_rho": (0.1, "Foret et al.'s for CIFAR-100"),
        "warmup": _warmup(given.get("epochs", epochs[0])),
        "schedule": ("cosine", "published"),
        "weight_decay": (5e-4, "published"),
        "label_smoothing": (0.1, "published"),
        "crop_area": (1.0, "published: a padded crop instead"),
        "crop_padding": (4, "published"),
        "rotate": (15.0, "published: rotation; its angle is not"),
        "policy": ("autoaugment", "published"),
        "erasing": (0.25, "published; its probability is not"),
    }


def resnet18_imagenet(facts: Facts, given: Given) -> Choices:
    """ResNet-18 from scratch on ILSVRC2012 on one consumer GPU, and the same with
    squeeze-and-excitation blocks.

    Published: batch 64 with the rate scaled linearly (0.1 at 256), random crop and flip; top-1
    error 30.86 %, top-5 error 11.66 %. The rest is the usual ImageNet training of residual networks
    (He et al., 2016): momentum 0.9, 90 epochs, x0.1 after 30 and 60, weight decay 1e-4. Not
    reproduced here.

        python -m finetune --data ILSVRC2012/ --base resnet18 --recipe resnet18-imagenet
    """
    batch, epochs = given.get("batch_size", 64), given.get("epochs", 90)
    usual = "usual on ImageNet"
    return {
        **_off("erasing", "drop_path", "clip_norm"),
        **_shared(),
        "from_scratch": (True, "published"),
        "epochs": (90, usual),
        "batch_size": (64, "published"),
        "lr": (_rounded(0.1 * batch / 256), "published: 0.1 at batch 256, linear in the batch"),
        "optimizer": ("momentum", usual),
        "warmup": _warmup(epochs),
        "schedule": ("step", usual),
        "decay_at": (
            f"{epochs / 3:g} epochs, {2 * epochs / 3:g} epochs",
            "usual on ImageNet: after epochs 30 and 60 of 90",
        ),
        "decay_factor": (0.1, usual),
        "weight_decay": (1e-4, usual),
        "label_smoothing": (0.0, "not published; off"),
        "crop_area": (0.08, "published: random crop, as usual on ImageNet"),
    }


def _shared() -> Choices:
    """What these sources have in common."""
    return {
        "flip": (0.5, "published"),
        "batch_norm": ("train", "not published; as in scratch training"),
        "probe": ("off", "published runs start from a random head"),
    }


def _off(*names: str) -> Choices:
    return dict.fromkeys(names, (0.0, "not published; off"))


def _batch(facts: Facts, published: int) -> tuple[int, str]:
    """Pictures a step."""
    if facts.device == "cpu":
        return 32, f"published: {published}; smaller on the CPU, and the rate with it"
    return published, "published"


def _epochs(scratch: bool, published: str) -> tuple[int, str]:
    """200 epochs, or as many as trained weights need."""
    if scratch:
        return 200, published
    return 30, "published for training from scratch: 200"


def _rate(scratch: bool, batches: float, published: str) -> tuple[float, str]:
    """The rate of SGD for a batch of so many times the published one."""
    if scratch:
        return _rounded(0.1 * batches), published
    tenth = "a tenth of it for weights that are trained already (not published)"
    return _rounded(0.01 * batches), f"{published}; {tenth}"


def _warmup(epochs: int) -> tuple[str, str]:
    """5 epochs, or a tenth of a run that is shorter than 20."""
    if epochs >= 20:
        return "5 epochs", "published"
    return "10%", "published: 5 epochs; a tenth of this shorter run"


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
