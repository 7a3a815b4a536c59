"""The command line of fine-tuning, made from the fields of `Recipe`. Loads nothing heavy."""

import dataclasses
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from finetune.recipe import flag_values, other_flags
from finetune.recipe.field_docs import field_docs
from finetune.recipe.fields import MEASURED, TYPES, USUAL, Recipe


def overrides(fields: tuple[str, ...]) -> type:
    """A dataclass of some of Recipe's fields, all of them optional: None (or False) = the recipe
    decides."""
    types, docs = typing.get_type_hints(Recipe), field_docs(Recipe)
    rows: list[Any] = []
    # help_behavior_hint: else the help would show None as the default, where the recipe decides
    for name in fields:
        kind, choices = types[name], typing.get_args(types[name])
        # the one field whose flag also takes a word: --lr find
        if name == "lr":
            argument = tyro.conf.arg(help=docs[name], help_behavior_hint="", metavar="FLOAT|find")
            rows.append((name, Annotated[float | typing.Literal["find"] | None, argument], None))
            continue
        if name in MEASURED:
            choices = ("auto", *choices)
            kind = typing.Literal[choices]
        if kind is bool:
            rows.append(
                (
                    name,
                    Annotated[bool, tyro.conf.arg(help=docs[name], help_behavior_hint="")],
                    False,
                )
            )
        else:
            metavar = "{" + ",".join(choices) + "}" if choices else kind.__name__.upper()
            argument = tyro.conf.arg(help=docs[name], help_behavior_hint="", metavar=metavar)
            rows.append((name, Annotated[kind | None, argument], None))
    return dataclasses.make_dataclass("Settings", rows, frozen=True)


Usual = overrides(USUAL)
LessUsual = overrides(tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in USUAL))
SWITCHES = frozenset(name.replace("_", "-") for name, kind in TYPES.items() if kind is bool)
"""Flags that take no value, without dashes."""
MAY_BE_EMPTY = frozenset(["teacher"])
"""Flags whose help gives the empty value a meaning, without dashes."""


def given_by(*settings: object) -> dict[str, Any]:
    """The recipe fields that the command line sets."""
    values = {name: value for part in settings for name, value in vars(part).items()}
    return {
        name: value for name, value in values.items() if value is not None and value is not False
    }


def parse(command: Callable[..., None], module: str, *classes: type) -> None:
    """Run a command with the words of the command line; those of other programs are answered with
    ours.

    `classes`: the dataclasses that its flags are generated from.
    """
    known = ["help", *other_flags.flags_of(*classes, Usual, LessUsual)]
    other_flags.check_flags(sys.argv[1:], known)
    flag_values.check_first(sys.argv[1:], known)
    flag_values.check_values(sys.argv[1:], switches=SWITCHES, may_be_empty=MAY_BE_EMPTY)
    # without a --no-x beside each --x: a switch that is not given is off
    tyro.cli(command, prog=f"python -m {module}", config=(tyro.conf.FlagCreatePairsOff,))
