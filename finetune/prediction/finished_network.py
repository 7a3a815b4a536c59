"""The network of a finished run, and all that makes an answer of its outputs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from finetune.evaluation.passes import Bank
from finetune.machine import device as devices
from zoo.contract import rundir
from zoo.contract.decision import Decision, Sets, Unknown, read_bank, read_decision
from zoo.contract.finished_run import FinishedRun
from zoo.host.errors import UserError
from zoo.host.text import shell_path
from zoo.network.build import load_network
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class Answerer:
    """Holds a trained network with the decision that was fitted for it."""

    model: nn.Module
    """In evaluation mode."""
    device: torch.device
    pre: Preprocessing
    classes: tuple[str, ...]
    decision: Decision
    bank: Bank
    unknown: Unknown
    """That of the decision."""
    sets: Sets
    """Those of the decision."""


def finished_network(run: Path, device_name: str) -> tuple[nn.Module, torch.device]:
    """Load the network of a finished run onto the device of that name."""
    device = devices.choose(device_name)
    model = load_network(run).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, device


def open_answerer(run: Path, device_name: str) -> Answerer:
    """Open a finished run, or a published copy of one, to answer pictures.

    Raises `UserError` for a run that is unfinished, has changed, or lacks a part of its decision.
    """
    rundir.open_finished(run, verify=True)
    opened, decision = FinishedRun(run), read_decision(run)
    if decision.unknown is None or decision.sets is None:
        raise UserError(
            f"{run / rundir.DECISION} has no rule for unknown pictures or prediction sets: an "
            f"earlier version wrote it. Run python -m finetune.decide {shell_path(run)}."
        )
    unknown = decision.unknown
    references = read_bank(run, neighbours=unknown.neighbours)
    bank = Bank(references, unknown.neighbours, unknown.shortest, unknown.early)
    model, device = finished_network(run, device_name)
    model.eval()
    return Answerer(
        model, device, opened.pre, tuple(opened.labels), decision, bank, unknown, decision.sets
    )
