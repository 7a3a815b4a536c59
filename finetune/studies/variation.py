"""What `python -m finetune.compare` varies: `--vary optimizer=sgd,adamw,sam`, bases and seeds, as
runs with their settings. Loads nothing heavy.

A factor is a flag of a recipe, or the base, with the values that it takes. Several factors are
varied one at a time around the first value of each, or all with all (`--grid`). A row is one choice
of their values; with several seeds it has as many cells, each of which is a run.
"""

import dataclasses
import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import tyro

from finetune.flags import MAY_BE_EMPTY, SWITCHES, given_by, overrides
from finetune.recipe import flag_values, other_flags
from finetune.recipe.fields import MEASURED, ROWS, check_bounds, flag_of
from finetune.recipe.run import Run
from zoo.contract import run_name
from zoo.host.errors import UserError

BASE = "base"
AUTO = "auto"
"""Value of a factor whose flag is omitted, so that the recipe decides."""
SAM, RHO = "sam", 0.05
"""SAM is no optimiser of its own: it wraps one. The distance is the one published for ImageNet
(Foret et al., "Sharpness-Aware Minimization", 2021)."""
MOST_RUNS = 1000
"""More are a slip of the keyboard."""


@dataclass(frozen=True)
class FactorValue:
    """One value of a factor."""

    field: str
    """`base`, or a field of the recipe."""
    text: str
    """As it was typed."""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Recipe fields that it sets."""

    @property
    def label(self) -> str:
        """Name it as `optimizer=sgd`; a base by itself."""
        if self.field == BASE:
            return self.text
        return f"{self.field.replace('_', '-')}={self.text}"

    @property
    def meaning(self) -> str:
        """Say what flags stand for a value that is none of the flag itself."""
        if self.field == "optimizer" and self.text.split("+")[-1] == SAM:
            return f"--sam-rho {RHO}, published (Foret et al., 2021)"
        return ""


Factor = tuple[FactorValue, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    row: str
    """Label of the setting, shared by its seeds."""
    name: str
    """Of the run folder, without the data's name."""
    base: str
    given: Mapping[str, Any]
    """Recipe fields that are set, by hand or by a factor."""
    meaning: str
    seed: int | None
    """None where no seeds were asked for."""

    @property
    def label(self) -> str:
        """Name the run itself."""
        return self.row if self.seed is None else f"{self.row}, seed {self.seed}"


def factor_of(text: str) -> Factor:
    """Parse `optimizer=sgd,adamw,sam` with the parser of the flag itself.

    Values are parted by commas, or by semicolons where they hold commas. Raises `UserError`, or
    `SystemExit` with the parser's own words, for what the flag would not take.
    """
    name, equals, values = text.partition("=")
    flag = name.strip().lstrip("-").replace("_", "-")
    known = flag.replace("-", "_")
    if not equals:
        raise UserError(
            f"--vary {text}: expected a flag and its values, as in --vary optimizer=sgd,adamw."
        )
    if known == "seed":
        raise UserError(f"--vary {text}: several seeds are given as --seeds, as in --seeds 3.")
    if known not in (*ROWS, BASE):
        # a name of another program is answered with ours
        other_flags.check_flags([f"--{flag}"], [name.replace("_", "-") for name in (*ROWS, BASE)])
        near = difflib.get_close_matches(known, (*ROWS, BASE), 1, 0)[0].replace("_", "-")
        raise UserError(
            f"--vary {text}: expected base or a flag of python -m finetune that sets a recipe, "
            f"seen {flag!r}; did you mean {near}?"
        )
    texts = [value.strip() for value in values.split(";" if ";" in values else ",")]
    repeated = [value for value, times in Counter(texts).items() if times > 1]
    if len(texts) < 2 or repeated:
        raise UserError(
            f"--vary {text}: expected two different values or more, with commas between them."
        )
    return tuple(FactorValue(known, value, value_changes(known, value)) for value in texts)


def value_changes(known: str, value: str) -> dict[str, Any]:
    """Give the recipe fields that a value sets; none where the recipe is to decide."""
    if known == BASE or (value == AUTO and known not in ("recipe", *MEASURED)):
        return {}
    if known == "optimizer" and value.split("+")[-1] == SAM:
        wrapped = value.removesuffix(SAM).removesuffix("+")
        inner = value_changes(known, wrapped) if wrapped else {}
        return {**inner, "sam_rho": RHO}
    flag = flag_of(known)
    words = [f"{flag}={value}"]
    if flag[2:] in SWITCHES:
        if value not in ("on", "off"):
            raise UserError(f"--vary {flag[2:]}={value}: expected on and off, as it is a switch.")
        words = [flag] if value == "on" else []
    flag_values.check_values(words, switches=SWITCHES, may_be_empty=MAY_BE_EMPTY)
    # of this one flag: a parser of all of them takes a third of a second
    settings: object = tyro.cli(
        overrides((known,)),
        prog="python -m finetune.compare",
        args=words,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    parsed = given_by(settings)
    check_bounds({name: number for name, number in parsed.items() if number != "find"})
    return parsed


def seeds_of(seeds: Sequence[int], given: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Give the seeds: of one number so many from 0 on, of several these; (None,) for none."""
    if not seeds:
        return (None,)
    if "seed" in given:
        raise UserError(
            f"--seed {given['seed']} and --seeds exclude each other: remove one of them."
        )
    shown = f"--seeds {' '.join(map(str, seeds))}"
    if len(seeds) == 1:
        if not 1 <= seeds[0] <= 100:
            raise UserError(f"{shown}: expected 1 to 100 seeds, or two seeds or more.")
        return tuple(range(seeds[0]))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{shown}: expected different seeds.")
    for seed in seeds:
        check_bounds({"seed": seed})
    return tuple(seeds)


def factors_of(
    bases: Sequence[str], vary: Sequence[str], given: Mapping[str, Any]
) -> tuple[Factor, ...]:
    """Parse all factors, the bases first; `UserError` for one that is set twice."""
    factors = [factor_of(text) for text in vary]
    if bases:
        factors.insert(0, tuple(FactorValue(BASE, base) for base in bases))
    varied: list[str] = []
    for factor in factors:
        fields = {name for value in factor for name in value.changes} | {factor[0].field}
        for name in sorted(fields):
            if name in varied:
                raise UserError(f"{flag_of(name)} is varied twice: remove one of them.")
            if name in given:
                raise UserError(
                    f"{flag_of(name, given[name])} and --vary {flag_of(factor[0].field)[2:]} "
                    "exclude each other: remove one of them."
                )
        varied += fields
    return tuple(factors)


def rows_of_factors(factors: Sequence[Factor], *, grid: bool) -> list[tuple[FactorValue, ...]]:
    """Give the choices of values: all with all, or one at a time around the first of each."""
    if grid:
        return list(product(*factors))
    centre = tuple(factor[0] for factor in factors)
    rows = [centre]
    for place, factor in enumerate(factors):
        rows += [(*centre[:place], value, *centre[place + 1 :]) for value in factor[1:]]
    return rows


def cells(
    factors: Sequence[Factor],
    seeds: Sequence[int | None],
    given: Mapping[str, Any],
    *,
    grid: bool = False,
) -> list[Cell]:
    """Give the runs of a comparison, the seeds of a row one after another."""
    rows = rows_of_factors(factors, grid=grid)
    if len(rows) * len(seeds) > MOST_RUNS:
        raise UserError(
            f"these are {len(rows) * len(seeds):,} runs: expected at most {MOST_RUNS:,}. Give "
            "fewer values or seeds, or remove --grid."
        )
    _refuse_useless(rows, given)
    found = []
    for row in rows:
        for seed in seeds:
            found.append(_cell(row, _label(row, factors), seed, given))
    return _with_own_names(found)


def _refuse_useless(rows: Sequence[Sequence[FactorValue]], given: Mapping[str, Any]) -> None:
    """Raise `UserError` for a setting by hand that is left out of every row."""
    used: set[str] = set()
    for row in rows:
        used |= set(_with_effect(given, row))
    for name in given:
        if name not in used:
            raise UserError(f"{flag_of(name)} has no effect in any of the rows: remove it.")


def _with_effect(given: Mapping[str, Any], row: Sequence[FactorValue]) -> dict[str, Any]:
    """Omit what was given by hand for other values of a factor: --decay-at is of schedule=step, and
    has no effect in the row of schedule=cosine beside it."""
    changed: dict[str, Any] = {}
    for value in row:
        changed |= value.changes
    kept = {}
    for name, setting in given.items():
        other, *values = ROWS[name].needs or ("",)
        if other not in changed or changed[other] in (values or [changed[other]]):
            kept[name] = setting
    return kept


def _label(row: Sequence[FactorValue], factors: Sequence[Factor]) -> str:
    """Name a row by the values in which it differs from the first one, which is named by all."""
    varied = [value for value, factor in zip(row, factors, strict=True) if len(factor) > 1]
    differing = [value for value in varied if value not in [factor[0] for factor in factors]]
    return ", ".join(value.label for value in differing or varied)


def _cell(
    row: Sequence[FactorValue], label: str, seed: int | None, given: Mapping[str, Any]
) -> Cell:
    base, settings, parts, meanings = Run.base, _with_effect(given, row), [], []
    for value in row:
        settings |= value.changes
        if value.field == BASE:
            base = value.text
        else:
            parts.append(value.label)
        if value.meaning and value.label in label:
            meanings.append(f"{value.label}: {value.meaning}")
    if seed is not None:
        settings["seed"] = seed
        parts.append(f"seed={seed}")
    # the seeds of no factor have the name of the base
    return Cell(label, "-".join([base, *parts]), base, settings, "; ".join(meanings), seed)


def _with_own_names(found: Sequence[Cell]) -> list[Cell]:
    """Keep names of folders apart in which a file system's letters make two of them alike, as in
    1e+3 and 1e-3."""
    times = Counter(run_name.default_name("x", cell.name) for cell in found)
    named = []
    for cell in found:
        name = cell.name
        if times[run_name.default_name("x", name)] > 1:
            name += f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        named.append(Cell(cell.row, name, cell.base, cell.given, cell.meaning, cell.seed))
    return named
