"""Models: a base with a fresh head, and a finished run.

build_network(base, labels)   timm's model with the base's weights and a fresh head for these labels
load_network(run)             the model of a finished run folder
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.host.errors import UserError, first_line
from zoo.network import guard, of_torch, renaming, weights
from zoo.network.source import (
    PLAIN_TRANSFORMERS,
    Source,
    from_config,
    has_cifar_stem,
    registered,
    size_step,
    with_cifar_stem,
)
from zoo.network.weights import Weights

LEFT_OUT = ("AuxLogits.", "attn_pool.", "mask_token", "lm_head.")
"""Parts that some files hold and a classifier lacks: auxiliary heads and pretraining heads."""
RATES = {"drop_path_rate": "drop-path", "drop_rate": "dropout"}
"""timm's argument for a rate -> our option, as it is typed behind `--`."""
HEAD_NORMS = ("head.", "fc_norm.")
"""Layers before the classifier that weights without a classifier may lack too."""


class NoSuchOption(UserError):
    """An architecture lacks an option that was asked for."""


def build_network(
    base: Base,
    labels: Sequence[str],
    *,
    image_size: int | None = None,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    fetched: Weights | None = None,
    cifar_stem: bool = False,
) -> nn.Module:
    """timm's model of a base on the CPU, in training mode: a fresh head for `labels`, all else from
    the base's weights (nothing with `weights.RANDOM`).

    `image_size` is the side of the pictures in pixels (None: the base's own); position embeddings
    are resized to it. `drop_path` and `dropout` are rates in [0, 1). `fetched` saves a second
    `weights.fetch(base)`. `cifar_stem`: as `Description` says. Raises `UserError` for a size or an
    option that the architecture does not have, and when weights and model do not fit (both listed).
    """
    assert 0 < len(set(labels)) == len(labels), "labels are distinct"
    fetched = fetched or weights.fetch(base)
    source = source_of(base, fetched)
    if cifar_stem:
        source = with_cifar_stem(source, trained=fetched is not weights.RANDOM)
    size = _checked_size(base, source, image_size)
    rates = {"drop_path_rate": drop_path, "drop_rate": dropout}
    _check_fits_weights(source, len(labels), size, fetched)
    model = _create(source, len(labels), size, rates)
    if fetched is not weights.RANDOM:
        _load_all_but_head(model, source, fetched)
    return model


def load_network(run: Path) -> nn.Module:
    """The model of a finished run folder, in evaluation mode; `UserError` if its files changed
    since then."""
    # these two only: hashing every file of a run takes seconds
    rundir.open_finished(run, verify=(rundir.CONFIG, rundir.WEIGHTS))
    config = rundir.read_json(run / rundir.CONFIG, kind=dict)
    source = from_config(config, str(run))
    path = run / rundir.WEIGHTS
    fetched = Weights(path, f"run folder {run}", None, "", None, config)
    _check_fits_weights(source, source.config["num_classes"], None, fetched)
    model = _create(source, source.config["num_classes"], None, {})
    state = weights.load_state(fetched, {})
    if lines := renaming.differences(renaming.shapes(model.state_dict()), renaming.shapes(state)):
        raise UserError(
            weights.mismatch(f"{path} does not fit {source.architecture} of config.json", lines)
        )
    # before it is loaded: NaN would spread to every answer
    weights.check_finite(path, state)
    model.load_state_dict(state)
    return model.eval()


def without_memory(
    base: Base, fetched: Weights, *, image_size: int | None = None, classes: int = 2, **rates: float
) -> nn.Module:
    """The network of a base on torch's meta device, where tensors have shapes only; `rates` as timm
    names them."""
    source = source_of(base, fetched)
    with _meta_device(source, fetched):
        return _create(source, classes, image_size, rates)


def allowed_size_step(base: Base) -> int | None:
    """What the picture's side must be a multiple of; None if only the base's own size will do.

    The patch for plain vision transformers, 32 for nets without a fixed size. (A size of its own is
    always allowed.) For a Hub repository this pulls the weights, because only its config.json tells
    the architecture.
    """
    if base.architecture and not base.folder:
        return size_step(registered(base.architecture, base.tag, base.alias))
    return size_step(source_of(base, weights.fetch(base)))


def source_of(base: Base, fetched: Weights) -> Source:
    """The model that the weights of a base were made for."""
    if base.architecture and not base.folder:
        return registered(base.architecture, base.tag, base.alias)
    if fetched.config is None:
        raise UserError(
            f"{base.alias} has no config.json: expected one in timm's layout, which names the "
            "architecture. Choose another base (python -m zoo list)."
        )
    return from_config(fetched.config, base.alias)


def _checked_size(base: Base, source: Source, image_size: int | None) -> int | None:
    """Return `image_size` if the network can be built for it. Convolutional nets take any size, and
    use a multiple of their stride best."""
    own = source.config["input_size"][-1]
    if image_size is None or image_size == own:
        return image_size
    step = size_step(source)
    if step is None:
        raise UserError(
            f"{base.alias} takes pictures of {own} px only, not {image_size}: omit the picture "
            "size, or choose another base."
        )
    if image_size % step and source.module in PLAIN_TRANSFORMERS:
        near = sorted({max(step, image_size // step * step), -(-image_size // step) * step})
        raise UserError(
            f"{base.alias}: expected a picture size that is a multiple of its patch of {step} px, "
            f"seen {image_size}. The nearest: {' or '.join(map(str, near))}."
        )
    return image_size


def _create(
    source: Source, classes: int, image_size: int | None, rates: dict[str, float]
) -> nn.Module:
    """timm's model without weights. A rate of 0 is omitted where the architecture lacks the
    option."""
    arguments: dict[str, Any] = source.arguments | rates
    arguments |= {"num_classes": classes, "pretrained_cfg": source.config}
    # timm takes the arguments of the checkpoint a second time, under a name of their own
    if source.arguments:
        arguments["pretrained_model_args"] = dict(source.arguments)
    if image_size and (source.fixed or source.module in PLAIN_TRANSFORMERS):
        arguments["img_size"] = image_size
    # an architecture may lack both rates, and timm names one at a time
    while True:
        try:
            return timm.create_model(source.architecture, **arguments)
        except renaming.TIMM_ERRORS as error:
            refused = _refused_rate(error, arguments.keys() & rates.keys())
            if refused is None and source.origin:
                raise UserError(
                    f"{source.origin}: config.json: expected 'model_args' and 'pretrained_cfg' "
                    f"that {source.architecture} of timm {timm.__version__} takes, seen "
                    f"{str(source.arguments)[:200]}: {type(error).__name__}: "
                    f"{first_line(error)[:200]}. Choose another base, or another copy of this one."
                ) from None
            if refused is None or not isinstance(error, TypeError):
                raise
            if rate := arguments.pop(refused):
                option = RATES[refused]
                raise NoSuchOption(
                    f"{source.architecture} has no {option}: expected 0, seen {rate:g}. Remove "
                    f"--{option}, or choose another base."
                ) from None


def _refused_rate(error: Exception, asked: Collection[str]) -> str | None:
    """The rate that an error of timm names, of those that were asked for."""
    for name in RATES:
        # timm has no list of the options of an architecture: the error is the only way to know
        if name in asked and f"'{name}'" in str(error):
            return name
    return None


def _meta_device(source: Source, fetched: Weights) -> AbstractContextManager[None]:
    """Inside, a network is built without memory. A stranger's may be no larger than its weights;
    otherwise a `UserError` is raised."""
    if source.origin:
        return guard.meta_device_within(weights.extent(fetched), source.origin)
    return guard.meta_device()


def _check_fits_weights(
    source: Source, classes: int, image_size: int | None, fetched: Weights
) -> None:
    """Raise `UserError` if a stranger's config.json asks for a network to which its weights cannot
    belong."""
    if source.origin:
        with _meta_device(source, fetched):
            _create(source, classes, image_size, {})


def _load_all_but_head(model: nn.Module, source: Source, fetched: Weights) -> None:
    like: dict[str, Tensor] = {}
    if fetched.package:
        # the shapes of the model that the file was made for, its head included
        with guard.meta_device():
            like = _create(source, source.config["num_classes"], None, {}).state_dict()
    raw = renaming.as_stem_takes_them(model, weights.load_state(fetched, like))
    heads = _head_names(model, source)
    ours = renaming.shapes(model.state_dict())
    state = {}
    for name, tensor in renaming.as_timm_names_them(model, raw).items():
        left_out = name.startswith(LEFT_OUT) and name not in ours
        if not left_out and not name.startswith(heads):
            state[name] = tensor
    may_lack = heads if source.config.get("num_classes") else (*heads, *HEAD_NORMS)
    expected = {}
    for name, shape in ours.items():
        if name in state or not name.startswith(may_lack):
            expected[name] = shape
    if lines := renaming.differences(expected, renaming.shapes(state)):
        raise UserError(
            weights.mismatch(f"{fetched.path} does not fit {source.architecture}", lines)
            + "\nChoose the architecture these weights were made for, or another base."
        )
    weights.check_finite(fetched.path, state)
    # not strict, because the head stays fresh; all else was compared above
    model.load_state_dict(state, strict=False)


def _head_names(model: nn.Module, source: Source) -> tuple[str, ...]:
    """Return the prefixes of the classifier's tensors: the name in the configuration, and the one
    in the model."""
    configured = source.config.get("classifier") or ()
    if isinstance(configured, str):
        configured = (configured,)
    network: Any = model
    last = network.get_classifier()
    heads = set(map(id, last if isinstance(last, tuple) else (last,)))
    found = [name for name, module in model.named_modules() if id(module) in heads]
    return tuple(f"{name}." for name in dict.fromkeys((*configured, *found)))


@dataclass(frozen=True)
class Description:
    """What a recipe needs to know about a base, without its weights."""

    architecture: str
    """timm's name, without the tag."""
    params_m: float
    """Parameters without head, in millions."""
    batch_norm: bool
    """Whether there are batch-norm layers."""
    input_size: int
    """The base's own picture side, in pixels."""
    size_step: int | None
    """As `allowed_size_step`."""
    crop_mode: str
    """timm's crop_mode of the base's own evaluation: center, squash or border."""
    layers: int
    """Layers from the input to the head, both counted, as timm's layer decay takes them."""
    cifar_stem: bool = False
    """Whether `build` can give the network the stem that is usual for CIFAR's 32 px."""


def describe(base: Base, fetched: Weights) -> Description:
    """A base's size, input and layers, from a model without memory (torch's meta device)."""
    source, model = source_of(base, fetched), without_memory(base, fetched, classes=0)
    return Description(
        source.architecture.partition(".")[0],
        sum(p.numel() for p in model.parameters()) / 1e6,
        bool(of_torch.batch_norms(model)),
        source.config["input_size"][-1],
        size_step(source),
        source.config.get("crop_mode") or "center",
        _layers(without_memory(base, fetched, classes=2)),
        has_cifar_stem(source),
    )


def _layers(model: nn.Module) -> int:
    """Count the layers to which layer decay gives different rates."""
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    return len({group["lr_scale"] for group in groups})
