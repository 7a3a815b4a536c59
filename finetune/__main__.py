"""`python -m finetune --data PATH --base NAME`: from a folder of pictures to a finished run folder.

Flags are generated from `Run` and `Recipe`; nothing heavy is imported until they are parsed.
"""

import dataclasses
import os
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from finetune import other_flags
from finetune.recipe import MEASURED, USUAL, Recipe, field_docs
from finetune.run import Run
from zoo.errors import run_main


def overrides(fields: tuple[str, ...]) -> type:
    """A dataclass of some of Recipe's fields, all of them optional: None (or False) = the recipe decides."""
    types, docs = typing.get_type_hints(Recipe), field_docs(Recipe)
    rows: list[Any] = []
    for name in fields:
        kind, choices = types[name], typing.get_args(types[name])
        if name == "lr":
            argument = tyro.conf.arg(help=docs[name], help_behavior_hint="", metavar="FLOAT|find")
            rows.append((name, Annotated[float | typing.Literal["find"] | None, argument], None))
            continue
        if name in MEASURED:
            choices = ("auto", *choices)
            kind = typing.Literal[choices]
        if kind is bool:
            rows.append((name, Annotated[bool, tyro.conf.arg(help=docs[name], help_behavior_hint="")], False))
        else:
            metavar = "{" + ",".join(choices) + "}" if choices else kind.__name__.upper()
            argument = tyro.conf.arg(help=docs[name], help_behavior_hint="", metavar=metavar)
            rows.append((name, Annotated[kind | None, argument], None))
    return dataclasses.make_dataclass("Settings", rows, frozen=True)


Usual = overrides(USUAL)
LessUsual = overrides(tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in USUAL))


def given_by(*settings: object) -> dict[str, Any]:
    """The recipe fields that the command line sets."""
    values = {name: value for part in settings for name, value in vars(part).items()}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def main(
    run: tyro.conf.OmitArgPrefixes[Run],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Fine-tune a pretrained base on a folder of pictures.

    What is not given, the recipe decides from the data, the base and the device, and says why.
    """
    given = given_by(recipe, less_usual)
    # a thread that waits must not spin: two of torch's threads beside any other work lose four fifths of their speed
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if run.advise is not None:
        from finetune.advise import run_advised

        run_advised(run, given, most=run.advise[1])
        return
    from finetune.job import start

    start(run, given)


def parse(command: Callable[..., None], module: str, *classes: type) -> None:
    """Run a command with the words of the command line; those of other programs are answered with ours.

    `classes`: the dataclasses that its flags are generated from.
    """
    other_flags.check(sys.argv[1:], ["help", *other_flags.flags_of(*classes, Usual, LessUsual)])
    tyro.cli(command, prog=f"python -m {module}", config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune", Run), joins=True)
