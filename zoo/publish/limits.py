"""The limits that the model card tells: what not to expect of a model."""

from zoo.contract.finished_run import FinishedRun
from zoo.host.text import code, plain

MOST_NAMED = 50
"""Classes at most in a list and in the table."""
FEW_TRAINED, FEW_EVALUATED = 20, 10
"""Fewer training or evaluated pictures of a class than this are told under limits."""


def limits(facts: FinishedRun) -> str:
    """The list of what not to expect of the model."""
    trained = facts.data["counts"].get("train", {})
    few = [name for name in facts.data["classes"] if 0 < trained.get(name, 0) < FEW_TRAINED]
    unseen = [row.name for row in facts.report.per_class if row.pictures < FEW_EVALUATED]
    lines = [
        "It knows its classes only, and pictures like those it was trained on.",
        *unknown_limits(facts),
    ]
    lines += [plain(warning) for warning in facts.decision["fitted"]["warnings"]]
    for names, what in (
        (few, f"fewer than {FEW_TRAINED} training pictures"),
        (unseen, f"fewer than {FEW_EVALUATED} evaluated pictures, so their numbers mean little"),
    ):
        if names:
            lines.append(
                f"{len(names)} of {len(facts.data['classes'])} classes have {what}: "
                + ", ".join(map(code, names[:MOST_NAMED]))
                + "."
            )
    lines.append(
        "The pictures of the base's pretraining have terms of their own, which this licence does "
        "not cover."
    )
    return "\n".join(f"- {line}" for line in lines)


def unknown_limits(facts: FinishedRun) -> list[str]:
    """How well pictures of none of the classes are recognised."""
    unknown = facts.report.unknown
    if not facts.decision["unknown"] or not unknown:
        return ["There is no `unknown` answer: every picture gets a class."]
    lines = [
        "The deployed model calls a picture `unknown` when it is far from the training pictures; "
        f"it does so for {unknown.rejected:.1%} of {facts.report.headline.split}. timm and "
        "transformers always give a class."
    ]
    if unknown.foreign:
        foreign = "; ".join(
            f"{plain(name)} {row.auroc:.2f} ({row.rejected:.0%} called unknown)"
            for name, row in unknown.foreign.items()
        )
        lines.append(f"How well foreign pictures are told apart (AUROC): {foreign}.")
    return lines
