"""The report's fourth question, "What should I do next?": advice on curves and data, and the
command for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from finetune.evaluation import metrics
from finetune.evaluation.lr_curve import RANGE_TEST
from finetune.recipe.fields import flag_of
from finetune.report import data_advice
from finetune.report.advice import Advice, curves
from finetune.report.data_advice import Findings
from finetune.report.history import history_of
from finetune.report.page import bdi, fill, join, part, percent, plural, section, soft
from finetune.report.run_files import Finished
from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.contract import rejection, rundir
from zoo.contract.recipe_rows import BY_HAND
from zoo.files import checks
from zoo.host.text import shell, shell_path
from zoo.network.build import allowed_size_step

MOST_SHOWN = 6
"""Suggestions on the page."""
WORST_CLASSES = 3


def advices(run: Finished) -> list[Advice]:
    """Say what to do next, the most useful first: at most MOST_SHOWN."""
    values = {field: row["value"] for field, row in run.recipe.items()}
    of_curves = curves(history_of(run.series, run.report), values)
    return (of_curves + unknown(run) + data_advice.data(findings(run)))[:MOST_SHOWN]


def unknown(run: Finished) -> list[Advice]:
    """Say what to do where too few foreign pictures are called unknown; a run of the probe alone
    can do nothing more."""
    measured = run.report.unknown
    if measured is None or run.value_of("probe_only"):
        return []
    weak = rejection.warning(measured.rejected_of)
    if weak is None:
        return []
    return [Advice(f"{weak[0].upper()}{weak[1:]}.", rejection.CURE)]


def findings(run: Finished) -> Findings:
    """Gather the numbers of the headline's split, and the data they come from."""
    head, own = run.numbers, run.answers
    short = np.minimum(own.width, own.height)
    parts = metrics.slices(short, own.right)
    smallest = None
    # a single part means that the pictures hardly differ in size
    if len(parts) > 1:
        smallest = (parts[0].right / parts[0].pictures, parts[0].interval[1])
    confusions: Counter[tuple[str, str]] = Counter()
    for (true, answer), pictures in run.confusion.items():
        confusions[run.classes[true], run.classes[answer]] = pictures
    splits, val = run.report.splits, None
    if "test" in splits:
        val = (splits["val"].top1, splits["val"].top1_interval[0])
    return Findings(
        split=run.split,
        pictures=head.pictures,
        top1=head.top1,
        interval=head.top1_interval,
        has_test="test" in splits,
        train_counts=run.data["counts"]["train"],
        per_class=run.report.per_class,
        confusion=confusions,
        confident_wrong=int((~own.right & (own.confidence >= data_advice.CONFIDENT)).sum()),
        image_size=run.pre.size,
        median_short_side=int(np.median(short)),
        small_slice=smallest,
        val=val,
        size_step=size_step(run),
    )


def size_step(run: Finished) -> int | None:
    """Say what --image-size must be a multiple of; None where that would have to be looked up on
    the Hub."""
    base = run.report.base
    if not has_public_name(run) or not base.architecture:
        return None
    return allowed_size_step(Base(base.name, base.architecture, "", base.hub_id))


def has_public_name(run: Finished) -> bool:
    """Say whether others have the base under the same name: it lies on the Hub, or is one of the
    catalogue's that torchvision has."""
    base = run.report.base
    row = catalog.BY_ALIAS.get(base.name)
    return bool(base.hub_id or (row and row.url))


def summary(advices: Sequence[Advice]) -> Markup:
    """Write two lines for the top of the page, which lead to the whole list."""
    if not advices:
        title = "What to do next"
        text = fill("The curves are fine. More pictures of the worst classes usually help most.")
    else:
        title = f"What to do next: {plural(len(advices), 'suggestion')}"
        text = fill("{} {}", advices[0].finding, advices[0].do)
    return fill('<p class="next"><a href="#next">{}</a> {}</p>', title, text)


def next_section(run: Finished, advices: Sequence[Advice]) -> Markup:
    """List every advice with its flags, and the whole command for the first that has any."""
    title = "What should I do next?"
    if not advices:
        return section("next", title, nothing_to_advise(run))
    steps = fill('<ol class="steps">{}</ol>', join(map(_step, advices)))
    return section("next", title, steps, command_part(run, advices))


def _step(advice: Advice) -> Markup:
    """Show one advice as an item of the list."""
    flags = Markup("")
    if advice.changes:
        flags = fill("<p><code>{}</code></p>", advice.flags)
    return fill("<li><p>{}</p><p><b>{}</b></p>{}</li>\n", advice.finding, advice.do, flags)


def nothing_to_advise(run: Finished) -> Markup:
    """Say what helps a run in which nothing stands out."""
    rows = [row for row in run.report.per_class if row.f1 is not None]
    worst = sorted(rows, key=lambda row: (row.f1, row.name))[:WORST_CLASSES]
    named = [fill("{} (F1 {})", bdi(row.name), percent(row.f1)) for row in worst]
    return fill(
        '<p class="prose">The curves are fine, and nothing in the data stands out. What usually '
        "helps most is more pictures of the worst classes: {}.</p>",
        join(named, ", "),
    )


def command_part(run: Finished, advices: Sequence[Advice]) -> Markup:
    """Show the whole command for the first advice that has flags: advices may be alternatives, so
    they are not mixed."""
    with_flags = [advice for advice in advices if advice.changes]
    if not with_flags:
        return Markup("")
    which = "this advice"
    if len(with_flags) > 1:
        which = "the first advice with a flag: change one thing at a time"
    placeholders = "DATA is your folder of pictures"
    if not has_public_name(run):
        placeholders += ", BASE the run folder or file that this run began with"
    return part(
        "The whole command",
        fill("<pre><code>{}</code></pre>", command(run, with_flags[0])),
        soft("For {}; everything else as in this run. {}.", which, placeholders),
    )


def command(run: Finished, advice: Advice) -> str:
    """Print the command of what was set by hand in this run, changed as advised, into a folder of
    its own; as typed in a POSIX shell.

    Paths of this machine are placeholders, because the page may be sent to somebody.
    """
    base = run.report.base
    settings = {}
    for field, row in run.recipe.items():
        # `--lr find` was given by hand too: the rate that it found stands for it, without another
        # test
        by_hand = row["why"] == BY_HAND or row["why"].startswith(RANGE_TEST)
        if by_hand and row["value"] != "":
            settings[field] = row["value"]
    if "val" in settings and not is_number(settings["val"]):
        settings["val"] = "VAL"
    chosen = {
        "data": "DATA",
        "base": base.name if has_public_name(run) else "BASE",
        "out": Path("runs") / free_folder(run.folder).name,
    }
    return typed(chosen | settings | advice.words)


def own_command(run: Finished, advice: Advice) -> str:
    """Print the same for the machine that the run was trained on, with the paths of local.json: it
    can be pasted as it is."""
    with checks.of(run.folder / rundir.LOCAL):
        content = rundir.read_json(run.folder / rundir.LOCAL, kind=dict)
        chosen = {
            "data": tuple(map(Path, checks.names((content["data"], *content.get("more", ()))))),
            "base": checks.name(content["base"]),
            "out": free_folder(run.folder),
        }
        chosen |= checks.facts(content.get("source", {}))
        return typed(chosen | checks.facts(content["given"]) | advice.words)


def free_folder(run: Path) -> Path:
    """Name the folder of a run that follows: RUN-2, or the first number that is not taken."""
    folder = run
    # these have no name of their own that a number could follow
    if run.name in ("", ".", ".."):
        folder = run.resolve()
    number = 2
    while (free := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return free


def typed(chosen: Mapping[str, object]) -> str:
    """Print the command of these fields, as typed in a shell."""
    words = ["python -m finetune"]
    for field, value in chosen.items():
        # a switch that is off is not typed
        if value is False:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            words.append(flag_of(field))
            if each is not True:
                words.append(shell_path(each) if isinstance(each, Path) else shell(each))
    return " ".join(words)


def is_number(text: str) -> bool:
    """Tell whether `--val` is a share, not a path."""
    try:
        float(text)
    except ValueError:
        return False
    return True
