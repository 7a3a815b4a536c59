"""The registry of bases. `find_base` answers an alias, `timm/<arch.tag>`, `hf-hub:org/name` or a
finished run folder."""

import difflib
import importlib.metadata
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.bases import old_names, registry, timm_config
from zoo.bases.licences import forbids_commercial_use
from zoo.bases.rows import (
    PACKAGES,
    TABLE,
    TORCHVISION,
    TORCHVISION_FILES,
    TORCHVISION_URL,
    Row,
)
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.host.text import shell_path


@dataclass(frozen=True)
class Base:
    """A pretrained model that a run can start from. Fields that only a catalogue row knows are None
    for other bases."""

    alias: str
    """Name the user types: `vit_base_21k`; for other bases the name as it was typed."""
    architecture: str | None
    """timm's architecture, `vit_base_patch16_224`; None until the Hub's or the run folder's
    config.json is read."""
    tag: str
    """timm's pretrained tag, `augreg_in21k`; empty for Hub repositories and run folders."""
    hub_id: str | None
    """Hub repository of the weights, `timm/vit_base_patch16_224.augreg_in21k`; None for a run
    folder, and for weights that have a `url`."""
    pretrained_on: str | None = None
    """Pretraining data: `ImageNet-21k`, `ImageNet-1k`, `LVD-142M`; two stages as `ImageNet-21k,
    then ImageNet-1k`."""
    params_m: float | None = None
    """Parameters without the classification head, in millions."""
    gmacs: float | None = None
    """Multiply-accumulates of one picture at `input_size`, in billions (timm's benchmark table)."""
    input_size: int | None = None
    """Side of the (square) input of the pretrained configuration, in pixels."""
    licence: str | None = None
    """Licence identifier as timm's pretrained configuration gives it: `apache-2.0`, `cc-by-nc-4.0`,
    ..."""
    top1: float | None = None
    """Published ImageNet-1k top-1 in percent, of these weights or of their ImageNet-1k fine-tune
    (timm's results)."""
    package: str | None = None
    """pip package that carries the weights, so that no download is needed."""
    folder: Path | None = None
    """A finished run folder used as base."""
    url: str | None = None
    """Address of a weight file that lies outside the Hub (torchvision's)."""


def _base(row: Row) -> Base:
    alias, timm_name, pretrained_on, params_m, gmacs, input_size, licence, top1 = row
    architecture, tag = timm_name.split(".", 1)
    file = TORCHVISION_FILES.get(timm_name)
    return Base(
        alias,
        architecture,
        tag,
        None if file else f"timm/{timm_name}",
        pretrained_on,
        params_m,
        gmacs,
        input_size,
        licence,
        top1,
        package=PACKAGES.get(alias),
        url=TORCHVISION_URL + file if file else None,
    )


ROWS: tuple[Base, ...] = tuple(map(_base, (*TABLE, *TORCHVISION)))
"""The catalogue, family by family."""
BY_ALIAS = {row.alias: row for row in ROWS}
BY_HUB_ID = {row.hub_id: row for row in ROWS if row.hub_id}
BY_TIMM_NAME = {f"{row.architecture}.{row.tag}": row for row in ROWS}

NOT_OFFERED = {"alexnet": ("AlexNet", "resnet18_1k")}
"""Part of the name, without punctuation -> the model that timm lacks, and an alias near it in size
and purpose."""


def find_base(name: str) -> Base:
    """The base a user means by `name`, tried in this order:

    an alias (`vit_base_21k`); one of the user's own (zoo/bases/registry.py); `hf-hub:org/name`,
    also with `@revision`; the path of a finished run folder; `timm/<architecture.tag>`, also
    without `timm/`. Whether a Hub repository exists is seen only when it is pulled.

    Raises `UserError` for an unfinished run, a model that is not offered, and any other name (with
    the three nearest).
    """
    # before the files here: a folder of that name must not change what a command means
    if name in BY_ALIAS:
        return BY_ALIAS[name]
    if target := registry.own_aliases().get(name):
        return replace(_hub_base(target), alias=name)
    if name.startswith("hf-hub:"):
        return _hub_base(name)
    # after `hf-hub:`, before timm's names: a path is what its owner sees
    if name and os.path.exists(name):
        return _run_base(name)
    _refuse_not_offered(name)
    if match := re.fullmatch(r"(?:timm/)?([a-z0-9_]+)\.([a-z0-9_]+)", name):
        architecture, tag = match.groups()
        row = BY_TIMM_NAME.get(f"{architecture}.{tag}")
        return row or Base(name, architecture, tag, f"timm/{architecture}.{tag}")
    if re.fullmatch(r"(?:timm/)?[a-z0-9_]+", name) and (current := old_names.current_name(name)):
        raise UserError(
            f"{name} is an old name of timm's {current}: give timm/{current} as base, or, to train "
            f"it from random weights, --base {current.partition('.')[0]} --from-scratch."
        )
    raise UserError(
        f"unknown base {name!r}. The nearest: {', '.join(nearest(name))}. Expected an alias from "
        "`python -m zoo list`, timm/<architecture.tag>, hf-hub:org/name or the folder of a "
        "finished run."
    )


def find_architecture(name: str) -> Base:
    """The architecture a user means, to be trained from random weights: whatever `find_base` knows
    by its architecture, or any of timm's without a tag (`seresnet18`). Whether timm has it is seen
    when it is built.

    Raises `UserError` as `find_base` does, and for a run folder or Hub repository, which stand for
    weights.
    """
    plain = name.removeprefix("timm/")
    known = name in BY_ALIAS or os.path.exists(name)
    if not known and re.fullmatch(r"[a-z0-9_]+", plain):
        base = Base(plain, plain, "", None)
    else:
        base = find_base(name)
    if base.architecture is None or base.folder:
        raise UserError(
            "--from-scratch takes an architecture, such as resnet18 or efficientnet_lite0, but "
            f"{name} stands for weights: remove --from-scratch, or name the architecture."
        )
    return replace(
        base,
        tag="",
        hub_id=None,
        pretrained_on="nothing: random weights",
        top1=None,
        package=None,
        url=None,
        # of timm's code, since there are no weights
        licence="apache-2.0",
    )


def nearest(name: str, count: int = 3) -> list[str]:
    """The aliases most like `name`, which is compared with each row's alias, architecture and timm
    name."""
    wanted = name.lower().removeprefix("timm/").replace("-", "_")
    aliases = {}
    for row in reversed(ROWS):  # so that of several rows with one architecture the first counts
        names = (row.alias, str(row.architecture), f"{row.architecture}.{row.tag}")
        aliases.update(dict.fromkeys(names, row.alias))
    for alias in registry.own_aliases():
        aliases[alias] = alias
    # all of them, because an alias may stand in three rows and the caller wants different ones
    ranked = difflib.get_close_matches(wanted, aliases, n=len(aliases), cutoff=0.0)
    return list(dict.fromkeys(map(aliases.__getitem__, ranked)))[:count]


def _hub_base(name: str) -> Base:
    match = re.fullmatch(r"hf-hub:([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?", name)
    if not match:
        raise UserError(
            f"{name!r}: expected hf-hub:org/name or hf-hub:org/name@revision, with one slash in "
            "org/name."
        )
    # Not the row itself: that could be answered from a pip package, and who writes hf-hub: wants
    # the Hub's file.
    row = BY_HUB_ID.get(match[1])
    licence = row.licence if row else None
    return Base(name, None, "", name.removeprefix("hf-hub:"), licence=licence)


def _run_base(name: str) -> Base:
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(
            f"{name} is a file: expected the folder of a finished run, or an alias such as "
            f"{', '.join(nearest(folder.name))}."
        )
    if not rundir.is_finished(folder):
        raise _unfinished(name, folder)
    rundir.open_finished(folder)
    config = rundir.read_json(folder / rundir.CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise UserError(
            f"{folder / rundir.CONFIG}: expected timm's Hub layout with the key 'architecture', "
            "which is missing: copy the folder again, or train it again."
        )
    # a run folder may come from a stranger too
    timm_config.check_config(config, str(folder))
    pretrained_cfg = config.get("pretrained_cfg") or {}
    size = pretrained_cfg.get("input_size")
    return Base(
        name,
        config["architecture"],
        "",
        None,
        input_size=size[-1] if size else None,
        licence=pretrained_cfg.get("license"),
        folder=folder,
    )


def _unfinished(name: str, folder: Path) -> UserError:
    for part in (rundir.CONFIG, rundir.RECIPE, rundir.RESUME):
        if (folder / part).exists():
            return UserError(
                f"{name} is an unfinished run ({rundir.FINISHED} is missing): finish it with "
                f"`python -m finetune --resume {shell_path(name)}`, then use it as a base."
            )
    return UserError(
        f"{name} is a folder without {rundir.FINISHED} and {rundir.CONFIG}: expected the "
        f"folder of a finished run, or an alias such as {', '.join(nearest(folder.name))}."
    )


def _refuse_not_offered(name: str) -> None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("timm/"))
    for family, (model, alternative) in NOT_OFFERED.items():
        if family in plain:
            raise UserError(
                f"{name} is not offered: timm has no {model}; near alternative: {alternative}."
            )


def package_rows() -> list[Base]:
    """Rows whose weights a pip package carries: no download from the Hub once it is installed."""
    return [row for row in ROWS if row.package]


def is_installed(package: str) -> bool:
    """Whether a pip package (by its distribution name) is installed here."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def offline_bases() -> list[Base]:
    """Rows whose weights are on this machine already, in an installed pip package."""
    return [row for row in package_rows() if row.package and is_installed(row.package)]


def select(
    *,
    text: str = "",
    pretrained_on: str = "",
    licence: str = "",
    max_params_m: float = math.inf,
    commercial: bool = False,
) -> list[Base]:
    """Rows that pass every filter given; texts are compared without regard to case, anywhere in the
    field.

    `text`: words that all occur in alias, timm name, pretraining data or licence. `commercial`:
    without the rows whose licence forbids commercial use.
    """

    def passes(row: Base) -> bool:
        if commercial and forbids_commercial_use(row.licence):
            return False
        if row.params_m is None or row.params_m > max_params_m:
            return False
        everything = (
            f"{row.alias} {row.hub_id or row.url} {row.pretrained_on} {row.licence}".lower()
        )
        return (
            all(word in everything for word in text.lower().split())
            and pretrained_on.lower() in (row.pretrained_on or "").lower()
            and licence.lower() in (row.licence or "").lower()
        )

    return list(filter(passes, ROWS))
