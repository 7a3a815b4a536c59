"""`python -m finetune.explain --base NAME --pictures N --classes N`: the recipe that such a run
would get, with every reason, without pictures or weights.

Nothing heavy is imported until the command line is parsed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import Run
from zoo.host import console
from zoo.host.errors import UserError, run_main

if TYPE_CHECKING:
    from finetune.recipe.facts import Facts
    from finetune.recipe.resolved import Resolved
    from finetune.train.schedule import Schedule

MOST_PICTURES, MOST_CLASSES, MOST_PROCESSES = 10**9, 10**6, 10**5
"""More are a slip of the keyboard."""
TENTHS = 10
"""Parts of a run at whose beginnings the learning rate is shown."""


@dataclass(frozen=True)
class Situation:
    """A run that is only thought of."""

    base: str = Run.base
    """Pretrained base: an alias of `python -m zoo list`, timm/NAME, hf-hub:ORG/NAME, or a finished
    run folder."""
    pictures: int = 1000
    """Training pictures, as many of each class; a share becomes validation pictures."""
    classes: int = 10
    """Classes of the pictures."""
    side: int = 400
    """Median shorter side of the pictures, in pixels."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """Where it would run; a CUDA GPU is taken for one that computes in bf16."""
    has_val: bool = False
    """Validation pictures have a folder of their own, so that none are cut from the others."""
    processes: int = 1
    """Processes that would share each step, one per GPU (torchrun)."""
    json: bool = False
    """Print one JSON object for programs instead."""

    def __post_init__(self) -> None:
        for flag, value, most in (
            ("pictures", self.pictures, MOST_PICTURES),
            ("classes", self.classes, MOST_CLASSES),
            ("side", self.side, MOST_PICTURES),
            ("processes", self.processes, MOST_PROCESSES),
        ):
            if not 1 <= value <= most:
                raise UserError(f"--{flag} {value}: expected 1 to {most:,}.")
        if self.pictures < 2 * self.classes:
            raise UserError(
                f"--pictures {self.pictures}: expected two for each of {self.classes} classes at "
                "least, one of them for validation."
            )

    def counts(self) -> list[int]:
        """Pictures of each class, as equal as they can be."""
        each, more = divmod(self.pictures, self.classes)
        return [each + (place < more) for place in range(self.classes)]


def main(
    situation: tyro.conf.OmitArgPrefixes[Situation],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Print the recipe that a run would get: each setting with its reason, the steps, and the
    learning rate at each tenth of the run. No picture is read and no weight fetched.

    The other flags are those of python -m finetune, and mean the same.
    """
    given = given_by(recipe, less_usual)
    if given.get("lr") == "find":
        raise UserError(
            "--lr find measures on pictures, and there are none here: remove it, or run python -m "
            "finetune.find_lr."
        )
    resolved, trained_on, rates = explained(situation, given)
    if situation.json:
        console.say_json(explained_json(resolved, trained_on, rates))
        return
    from finetune.pipeline import print_recipe

    print_recipe(resolved, all_in="--json")
    others = ""
    if trained_on < situation.pictures:
        others = "; the others become validation pictures"
    console.say(f"length: {rates.total_steps:,} steps on {trained_on:,} pictures{others}")
    console.table(
        [console.Column("step"), console.Column("learning rate")],
        [(f"{step:,}", f"{rates.lr(step):.3g}") for step in tenths(rates)],
    )


def explained(situation: Situation, given: dict[str, Any]) -> tuple["Resolved", int, "Schedule"]:
    """(recipe, pictures that are trained on, learning rates) of a situation with these settings;
    `UserError` where a run would be refused as well."""
    from finetune.data import held_out
    from finetune.data.loader import steps_per_epoch
    from finetune.presets import fitting, resolve
    from finetune.train import ddp
    from finetune.train.schedule import schedule
    from zoo.bases import catalog
    from zoo.network import weights
    from zoo.network.build import describe
    from zoo.network.trial import Trial

    base = catalog.find_base(situation.base)
    trial = Trial(base, weights.RANDOM)
    fitting.check_given(given, trial, device=situation.device)
    facts = facts_of(situation, describe(base, weights.RANDOM), trial)
    resolved = resolve.resolve(facts, given)
    recipe = resolved.recipe
    trained_on = situation.pictures
    if not situation.has_val:
        fraction = resolve.as_fraction(recipe.val)
        if fraction is None:
            raise UserError(f"--val {recipe.val}: there is no folder here; say --has-val instead.")
        trained_on -= sum(held_out.count_held_out(fraction, count) for count in situation.counts())
    fitting.check_trainable(recipe, trial, pictures=trained_on, device=situation.device)
    ddp.check_batch(min(trained_on, recipe.batch_size), recipe, processes=situation.processes)
    rates = schedule(recipe, steps_per_epoch=steps_per_epoch(trained_on, recipe.batch_size))
    return resolved, trained_on, rates


def facts_of(situation: Situation, base: Any, trial: Any) -> "Facts":
    """What the recipe depends on."""
    from finetune.machine import device as devices
    from finetune.recipe.facts import Facts

    return Facts(
        pictures=situation.pictures,
        class_counts=tuple(situation.counts()),
        has_val=situation.has_val,
        short_side=situation.side,
        base=base,
        device=situation.device,
        bf16=situation.device == "cuda",
        cores=devices.compute_threads(),
        processes=situation.processes,
        takes=lambda side: trial.refused(side) is None,
        takes_drop_path=trial.takes_drop_path,
    )


def tenths(rates: "Schedule") -> list[int]:
    """The first step of each tenth of a run, and the last step."""
    last = rates.total_steps - 1
    return sorted({*(rates.total_steps * part // TENTHS for part in range(TENTHS)), last})


def explained_json(resolved: "Resolved", trained_on: int, rates: "Schedule") -> dict[str, Any]:
    """The same for programs."""
    return {
        "recipe": resolved.to_json(),
        "trained_on": trained_on,
        "steps": rates.total_steps,
        "warmup_steps": rates.warmup_steps,
        "lr": [{"step": step, "lr": rates.lr(step)} for step in tenths(rates)],
    }


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune.explain", Situation))
