"""Models: a base with a fresh head, a finished run, and what the rest of the program asks a model.

    build(base, labels)      timm's model with the base's weights and a fresh head for these labels
    load(run)                the model of a finished run folder
    forward(model, x)        logits, embedding and feature map, from one pass
    features(model, x)       pooled features, so that head(model) applied to them gives the logits
    data_config(model)       input size and normalisation, as timm names them
"""

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

from zoo import rundir, weights, wide_resnet
from zoo.catalog import Base
from zoo.errors import UserError
from zoo.weights import Weights

PLAIN_TRANSFORMERS = frozenset({"vision_transformer", "deit", "beit", "eva"})
"""timm modules of plain vision transformers: their position embeddings can be resized to any multiple of the patch."""
OWN_SIZE_ONLY = frozenset({"byoanet"})
"""timm modules whose attention blocks need their own picture size although the configuration does not say so."""
OWN_MODULES = (wide_resnet,)
"""Architectures of our own; importing them registers them with timm, as its own modules do."""
STRIDE = 32
"""Total stride of convolutional nets; picture sizes that are no multiple of it waste a border."""
LEFT_OUT = ("AuxLogits.", "attn_pool.", "mask_token", "lm_head.")
"""Parts that some files hold and a classifier lacks: auxiliary heads and pretraining heads."""
HEAD_NORMS = ("head.", "fc_norm.")
"""Layers before the classifier that weights without a classifier may lack too."""
RENAMERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
"""Names under which timm's modules keep the function that renames and resizes the tensors of published files."""
OWN_ARGUMENTS = frozenset({
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "checkpoint_path", "cache_dir",
    "scriptable", "exportable", "no_jit", "num_classes", "features_only", "drop_path_rate", "drop_rate"})
"""Arguments of `timm.create_model` that a config.json does not set here: they are ours, or they read files."""
CONFIG_KEYS = frozenset(field.name for field in fields(PretrainedCfg)) - {
    "url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load",
    "label_names", "label_descriptions", "label_offset"}
"""Entries of a pretrained configuration that are kept: not where it lay, nor what its old head meant."""


@dataclass(frozen=True)
class _Source:
    """The model that weights were made for."""

    architecture: str
    config: dict[str, Any]
    """timm's pretrained configuration: input size, normalisation, name of the classifier, ..."""
    arguments: dict[str, Any]
    """Arguments of the architecture that the weights need, from config.json."""

    @property
    def fixed(self) -> bool:
        """Whether the model must be told the picture size when it is made."""
        return bool(self.config.get("fixed_input_size"))

    @property
    def module(self) -> str:
        """timm's module of the architecture, `vision_transformer`."""
        return timm.models.model_entrypoint(self.architecture).__module__.rpartition(".")[2]


def build(base: Base, labels: Sequence[str], *, image_size: int | None = None, drop_path: float = 0.0,
          dropout: float = 0.0, fetched: Weights | None = None) -> nn.Module:
    """timm's model of a base on the CPU, in training mode: a fresh head for `labels`, all else from the base's weights
    (nothing with `weights.RANDOM`).

    `image_size` is the side of the pictures in pixels (None: the base's own); position embeddings are resized to it.
    `drop_path` and `dropout` are rates in [0, 1). `fetched` saves a second `weights.fetch(base)`. Raises `UserError`
    for a size or an option that the architecture does not have, and when weights and model do not fit (both listed).
    """
    assert 0 < len(set(labels)) == len(labels), "labels are distinct"
    fetched = fetched or weights.fetch(base)
    source = _source(base, fetched)
    size = _checked_size(base, source, image_size)
    model = _create(source, len(labels), size, {"drop_path_rate": drop_path, "drop_rate": dropout})
    if fetched is not weights.RANDOM:
        _load_all_but_head(model, source, fetched)
    return model


def load(run: Path) -> nn.Module:
    """The model of a finished run folder, in evaluation mode; `UserError` if its files changed since then."""
    rundir.open_finished(run, verify=(rundir.CONFIG, rundir.WEIGHTS))
    config = rundir.read_json(run / rundir.CONFIG, kind=dict)
    source = _from_config(config, str(run))
    model = _create(source, config["num_classes"], None, {})
    path = run / rundir.WEIGHTS
    state = weights.load_state(Weights(path, f"run folder {run}", None, "", None, config), {})
    if lines := _differences(_shapes(model.state_dict()), _shapes(state)):
        raise UserError(weights.mismatch(f"{path} does not fit {source.architecture} of config.json", lines))
    model.load_state_dict(state)
    return model.eval()


def allowed_size_step(base: Base) -> int | None:
    """What the picture's side must be a multiple of; None if only the base's own size will do.

    The patch for plain vision transformers, 32 for nets without a fixed size. (A size of its own is always allowed.)
    For a Hub repository this pulls the weights, because only its config.json tells the architecture.
    """
    if base.architecture and not base.folder:
        return _size_step(_registered(base.architecture, base.tag, base.alias))
    return _size_step(_source(base, weights.fetch(base)))


def data_config(model: nn.Module) -> dict[str, Any]:
    """timm's `input_size` (3, height, width), `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode` of a model."""
    config = resolve_model_data_config(model)
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = tuple(built_for or config["input_size"][-2:])
    return config | {"input_size": (3, *size), "mean": tuple(config["mean"]), "std": tuple(config["std"])}


class Forward(NamedTuple):
    """What one forward pass gives."""

    logits: Tensor
    """[B, classes]."""
    embedding: Tensor
    """Pooled features [B, D]."""
    feature_map: Tensor
    """Features at each place, in the architecture's own layout (zoo/cam.py reads it)."""


def forward(model: nn.Module, x: Tensor) -> Forward:
    """Logits, embedding and feature map of pictures [B, 3, H, W]."""
    network: Any = model
    feature_map = network.forward_features(x)
    embedding = network.forward_head(feature_map, pre_logits=True).flatten(1)
    return Forward(network.forward_head(feature_map), embedding, feature_map)


def features(model: nn.Module, x: Tensor) -> Tensor:
    """Pooled features [B, D] of pictures [B, 3, H, W]; `head(model)` applied to them gives the logits."""
    network: Any = model
    return network.forward_head(network.forward_features(x), pre_logits=True).flatten(1)


@torch.no_grad()
def head(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The classifier: the module with `logits = features @ weight.T + bias` in evaluation mode.

    A linear layer, or a 1x1 convolution ([C, D, 1, 1]). None where there is no such module (two heads, layers between).
    Tried with one random picture each time, so call it once, not per batch.
    """
    network: Any = model
    last: Any = network.get_classifier() if hasattr(network, "get_classifier") else None
    linear = isinstance(last, nn.Linear) or (isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1))
    if not linear or last.bias is None or not hasattr(network, "forward_head"):
        return None
    training = network.training
    seen: list[Tensor] = []
    watch = last.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
    try:
        noise = torch.randn(1, *data_config(model)["input_size"], generator=torch.Generator().manual_seed(0))
        x = noise.to(last.weight.device, last.weight.dtype)
        logits = network.eval()(x)
        watch.remove()
        same = len(seen) == 2 and _close(seen[0], features(model, x)) and _close(seen[1], logits)
    finally:
        watch.remove()
        network.train(training)
    return last if same else None


def set_head(model: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Give the classifier these values: `weight` [C, D], `bias` [C]. The model must be one that `head` finds."""
    last: Any = head(model)
    assert last is not None, "head(model) finds one"
    assert (weight.shape, bias.shape) == (last.weight.flatten(1).shape, last.bias.shape), "[C, D] and [C]"
    with torch.no_grad():
        last.weight.copy_(weight.view_as(last.weight))
        last.bias.copy_(bias)


def _close(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and one.numel() == other.numel() and torch.allclose(
        one.flatten(1), other.flatten(1), rtol=1e-4, atol=1e-5)


def _source(base: Base, fetched: Weights) -> _Source:
    if base.architecture and not base.folder:
        return _registered(base.architecture, base.tag, base.alias)
    if fetched.config is None:
        raise UserError(f"{base.alias} has no config.json: expected one in timm's layout, which names the "
                        "architecture. Choose another base (python -m zoo list).")
    return _from_config(fetched.config, base.alias)


def _registered(architecture: str, tag: str, name: str) -> _Source:
    full = f"{architecture}.{tag}" if tag else architecture
    known = timm.list_models(f"{architecture}.*", pretrained=True) if timm.is_model(architecture) else []
    if not timm.is_model(architecture) or (tag and full not in known):
        seen = f"only {', '.join(known)}" if known else "no such architecture"
        raise UserError(f"{name}: expected a model of timm {timm.__version__}, seen {seen}. "
                        "python -m zoo list shows the catalogue.")
    config = timm.get_pretrained_cfg(full)
    assert config, "is_model"
    return _Source(architecture, _kept(config.to_dict()), {})


def _from_config(config: dict[str, Any], where: str) -> _Source:
    """Read timm's config.json; also its old form, one flat dict."""
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise UserError(f"{where}: expected a config.json in timm's layout whose 'architecture' is one of timm "
                        f"{timm.__version__}, seen {architecture!r} (keys: {', '.join(list(config)[:8])}). Choose a "
                        "repository of timm weights, or pip install -U timm.")
    top = {key: config[key] for key in ("architecture", "num_classes") if key in config}
    full = PretrainedCfg(**_kept((config.get("pretrained_cfg") or config) | top)).to_dict()  # adds timm's defaults
    arguments = {key: value for key, value in (config.get("model_args") or {}).items() if key not in OWN_ARGUMENTS}
    return _Source(architecture, _kept(full), arguments)


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key in CONFIG_KEYS}


def _size_step(source: _Source) -> int | None:
    if source.module not in PLAIN_TRANSFORMERS:
        return None if source.fixed or source.module in OWN_SIZE_ONLY else STRIDE
    if match := re.search(r"_patch(\d+)_", f"{source.architecture}_"):
        return int(match[1])
    with torch.device("meta"):
        network: Any = timm.create_model(source.architecture)
    return network.patch_embed.patch_size[0]


def _checked_size(base: Base, source: _Source, image_size: int | None) -> int | None:
    """`image_size` if one can build for it. Convolutional nets take any, multiples of their stride use it best."""
    own = source.config["input_size"][-1]
    if image_size is None or image_size == own:
        return image_size
    step = _size_step(source)
    if step is None:
        raise UserError(f"{base.alias} takes pictures of {own} px only, not {image_size}: leave the picture size out, "
                        "or choose another base.")
    if image_size % step and source.module in PLAIN_TRANSFORMERS:
        near = sorted({max(step, image_size // step * step), -(-image_size // step) * step})
        raise UserError(f"{base.alias}: expected a picture size that is a multiple of its patch of {step} px, seen "
                        f"{image_size}. The nearest: {' or '.join(map(str, near))}.")
    return image_size


def _create(source: _Source, classes: int, image_size: int | None, rates: dict[str, float]) -> nn.Module:
    """timm's model without weights. A rate of 0 is left out where the architecture lacks the option."""
    arguments: dict[str, Any] = source.arguments | rates | {"num_classes": classes, "pretrained_cfg": source.config}
    if source.arguments:
        arguments["pretrained_model_args"] = dict(source.arguments)
    if image_size and (source.fixed or source.module in PLAIN_TRANSFORMERS):
        arguments["img_size"] = image_size
    while True:
        try:
            return timm.create_model(source.architecture, **arguments)
        except TypeError as error:
            refused = next((name for name in rates if name in arguments and f"'{name}'" in str(error)), None)
            if refused is None and source.arguments:
                raise UserError(f"config.json: expected 'model_args' that {source.architecture} of timm "
                                f"{timm.__version__} takes, seen {source.arguments}: {error}.") from None
            if refused is None:
                raise
            if rate := arguments.pop(refused):
                option = {"drop_path_rate": "drop-path", "drop_rate": "dropout"}[refused]
                raise UserError(f"{source.architecture} has no {option}: expected 0, seen {rate:g}. Leave it out, or "
                                "choose another base.") from None


def _load_all_but_head(model: nn.Module, source: _Source, fetched: Weights) -> None:
    like: dict[str, Tensor] = {}
    if fetched.package:
        with torch.device("meta"):  # the shapes of the model that the file was made for, its head included
            like = _create(source, source.config["num_classes"], None, {}).state_dict()
    raw = weights.load_state(fetched, like)
    heads = _head_names(model, source)
    try:
        state = _as_timm_names_them(model, raw)
    except (KeyError, RuntimeError, AttributeError):
        state = raw  # tensors that timm's own renaming stumbles over: the comparison below names them
    ours = _shapes(model.state_dict())
    state = {name: tensor for name, tensor in state.items()
             if not name.startswith(heads) and (name in ours or not name.startswith(LEFT_OUT))}
    may_lack = heads if source.config.get("num_classes") else (*heads, *HEAD_NORMS)
    expected = {name: shape for name, shape in ours.items() if name in state or not name.startswith(may_lack)}
    if lines := _differences(expected, _shapes(state)):
        raise UserError(weights.mismatch(f"{fetched.path} does not fit {source.architecture}", lines)
                        + "\nChoose the architecture these weights were made for, or another base.")
    model.load_state_dict(state, strict=False)


def _as_timm_names_them(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the renaming and resizing (of position embeddings) that timm applies to its own published files."""
    module = sys.modules[type(model).__module__]
    rename: Callable[..., dict[str, Tensor]] | None = next(
        (getattr(module, name) for name in RENAMERS if hasattr(module, name)), None)
    if rename is None:
        return state
    takes = inspect.signature(rename).parameters
    options: dict[str, Any] = {"model": model} if "model" in takes else {}
    if "adapt_layer_scale" in takes:
        options["adapt_layer_scale"] = True  # DeiT 3's files, as timm's deit.py asks for it
    with warnings.catch_warnings():  # about the way timm resizes BEiT's tables
        warnings.filterwarnings("ignore", message="torch.searchsorted.*non-contiguous")
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
        return rename(state, **options)


def _head_names(model: nn.Module, source: _Source) -> tuple[str, ...]:
    """Prefixes of the classifier's tensors: as the configuration calls it, and as the model does."""
    named = source.config.get("classifier") or ()
    network: Any = model
    last = network.get_classifier()
    heads = last if isinstance(last, tuple) else (last,)
    found = [name for name, module in model.named_modules() if any(module is one for one in heads)]
    return tuple(f"{name}." for name in dict.fromkeys((*((named,) if isinstance(named, str) else named), *found)))


def _shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


def _differences(expected: Mapping[str, list[int]], seen: Mapping[str, list[int]]) -> list[str]:
    """Lines `- name shape` and `+ name shape` for each tensor that is missing, unexpected or of another shape."""
    lines = []
    for name in dict.fromkeys((*expected, *seen)):
        one, other = expected.get(name), seen.get(name)
        if one != other and not (weights.is_counter(name) and None in (one, other)):
            lines += [f"- {name} {one}"] if one is not None else []
            lines += [f"+ {name} {other}"] if other is not None else []
    return lines


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


def describe(base: Base, fetched: Weights) -> Description:
    """A base's size, input and layers, from a model without memory (torch's meta device)."""
    source = _source(base, fetched)
    with torch.device("meta"):
        model = _create(source, 0, None, {})
    return Description(
        source.architecture.partition(".")[0], sum(p.numel() for p in model.parameters()) / 1e6,
        any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()),
        source.config["input_size"][-1], _size_step(source), source.config.get("crop_mode") or "center")
