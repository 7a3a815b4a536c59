"""The model that weights were made for: its architecture and its configuration.

registered(architecture, tag, name)   as timm publishes it
from_config(config, where)            as a config.json describes it
size_step(source)                     what the side of its pictures must be a multiple of
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import timm
from timm.models import PretrainedCfg

from zoo.bases import old_names, timm_config
from zoo.host.errors import UserError
from zoo.network import cifar_nets, guard, torchvision_nets, weights

PLAIN_TRANSFORMERS = frozenset({"vision_transformer", "deit", "beit", "eva"})
"""timm modules of plain vision transformers: their position embeddings can be resized to any
multiple of the patch."""
OWN_SIZE_ONLY = frozenset({"byoanet"})
"""timm modules whose attention blocks need their own picture size although the configuration does
not say so."""
OWN_MODULES = (cifar_nets, torchvision_nets)
"""Architectures of our own; importing them registers them with timm, as its own modules do."""
MOST_GROWTH = 2
"""Largest picture size of a stranger's network with a fixed size, in sizes that timm publishes the
architecture for."""
STRIDE = 32
"""Total stride of convolutional nets; picture sizes that are no multiple of it waste a border."""
CONFIG_KEYS = frozenset(field.name for field in fields(PretrainedCfg)) - {
    "url",
    "file",
    "hf_hub_id",
    "hf_hub_filename",
    "source",
    "state_dict",
    "custom_load",
    "label_names",
    "label_descriptions",
    "label_offset",
}
"""Entries of a pretrained configuration that are kept: not where it lay, nor what its old head
meant."""


@dataclass(frozen=True)
class Source:
    """The model that weights were made for."""

    architecture: str
    config: dict[str, Any]
    """timm's pretrained configuration: input size, normalisation, name of the classifier, ..."""
    arguments: dict[str, Any]
    """Arguments of the architecture that the weights need, from config.json."""
    origin: str = ""
    """Whose config.json this is, for errors; empty for timm's own configurations."""

    @property
    def fixed(self) -> bool:
        """Whether the model must be told the picture size when it is made."""
        return bool(self.config.get("fixed_input_size"))

    @property
    def module(self) -> str:
        """timm's module of the architecture, `vision_transformer`."""
        return timm.models.model_entrypoint(self.architecture).__module__.rpartition(".")[2]


def registered(architecture: str, tag: str, name: str) -> Source:
    """The model that timm publishes under this name; `UserError`, which begins with `name`, if
    there is none."""
    if current := old_names.current_name(architecture):
        raise UserError(
            f"{name}: timm {timm.__version__} calls this architecture {current.partition('.')[0]}. "
            "Give that name instead."
        )
    full, known = architecture, []
    if timm.is_model(architecture):
        known = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag:
        full = f"{architecture}.{tag}"
    if not timm.is_model(architecture) or (tag and full not in known):
        seen = f"only {', '.join(known)}" if known else "no such architecture"
        raise UserError(
            f"{name}: expected a model of timm {timm.__version__}, seen {seen}. "
            "python -m zoo list shows the catalogue."
        )
    config = timm.get_pretrained_cfg(full)
    assert config, "is_model"
    return Source(architecture, _kept(config.to_dict()), {})


def from_config(config: Any, where: str) -> Source:
    """Read timm's config.json; also its old form, one flat dict."""
    timm_config.check_config(config, where)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        keys = ", ".join(weights.shown_key(key[:40]) for key in list(config)[:8])
        raise UserError(
            f"{where}: expected a config.json in timm's layout whose 'architecture' is one of timm "
            f"{timm.__version__}, seen {architecture!r} (keys: {keys}). Choose a "
            "repository of timm weights, or pip install -U timm."
        )
    architecture = old_names.current_architecture(architecture)
    top = {key: config[key] for key in ("architecture", "num_classes") if key in config}
    # adds timm's defaults
    full = PretrainedCfg(**_kept((config.get("pretrained_cfg") or config) | top)).to_dict()
    arguments = timm_config.arguments(config, where)
    _check_side(architecture, full, arguments, where)
    return Source(architecture, _kept(full), arguments, where)


def _check_side(
    architecture: str, full: Mapping[str, Any], arguments: Mapping[str, Any], where: str
) -> None:
    """Networks of a fixed size compute tables of all pairs of places, some of them in Python: hours
    for large ones."""
    published = timm.get_pretrained_cfg(architecture)
    module = timm.models.model_entrypoint(architecture).__module__.rpartition(".")[2]
    # their tables of positions are resized, not computed for all pairs
    if published is None or module in PLAIN_TRANSFORMERS:
        return
    asked = arguments.get("img_size") or full["input_size"][1:]
    side = max(asked) if isinstance(asked, list | tuple) else asked
    most = MOST_GROWTH * max(published.input_size[1:])
    # a stranger's file may deny what timm says of the architecture
    fixed = published.fixed_input_size or full["fixed_input_size"] or "img_size" in arguments
    if fixed and side > most:
        raise UserError(
            f"{where}: config.json: expected pictures of at most {most} px for {architecture}, "
            f"seen {side}. Choose another base, or another copy of this one."
        )


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key in CONFIG_KEYS}


def size_step(source: Source) -> int | None:
    """What the picture's side must be a multiple of; None if only the model's own size will do."""
    if source.module not in PLAIN_TRANSFORMERS:
        if source.fixed or source.module in OWN_SIZE_ONLY:
            return None
        return STRIDE
    # by its name, which spares building the network
    if match := re.search(r"_patch(\d+)_", f"{source.architecture}_"):
        return int(match[1])
    with guard.meta_device():
        network: Any = timm.create_model(source.architecture)
    return network.patch_embed.patch_size[0]


def has_cifar_stem(source: Source) -> bool:
    """Whether the architecture also comes with the stem for 32 px; not with arguments of its own,
    which could be another stem."""
    return source.architecture in cifar_nets.CIFAR_RESNETS and not source.arguments


def with_cifar_stem(source: Source, *, trained: bool) -> Source:
    """The same architecture with the stem for 32 px. Trained weights keep their normalisation."""
    assert has_cifar_stem(source), "checked by the recipe"
    architecture = source.architecture + cifar_nets.CIFAR
    if trained:
        config = source.config | {"architecture": architecture}
        return replace(source, architecture=architecture, config=config)
    return registered(architecture, "", architecture)
