"""The figures of a bundle: size, speed and accuracy, as its proof and its measurement give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.contract import rundir
from zoo.contract.bundle import PARITY, TIMING, Bundle, export_it
from zoo.files import fields, tables
from zoo.host.errors import UserError
from zoo.host.text import one_line


@dataclass(frozen=True)
class Figures:
    """What a bundle says about its size, speed and accuracy."""

    model_mb: float
    """Of the model file."""
    compared: int
    """Pictures that both models answered in the proof."""
    lost_points: float | None
    """Points of top-1 that it loses against the trained model; None = the same class for each
    compared picture."""
    lost_spread: float
    """Half the width of the 95 % interval of `lost_points`."""
    latency_ms: float | None
    """Median of one picture; None = not measured (python -m export.bench)."""
    measured_on: str | None
    """Machine, provider and picture of the measurement."""
    status: str
    proved_on: str
    """Providers that its proof ran on, such as `cpu`."""


def figures(bundle: Bundle) -> Figures:
    """The numbers of parity.json and timing.json; `UserError` if the proof is missing."""
    proof_file, timing_file = bundle.file(PARITY), bundle.folder / TIMING
    if proof_file is None:
        raise UserError(
            f"{bundle.folder} has no {PARITY}: expected its export's proof. "
            f"{export_it(bundle.folder)}"
        )
    with fields.of(proof_file, export_it(bundle.folder)):
        proof = rundir.read_json(proof_file, kind=dict)
        rungs = {rung["name"]: rung for rung in proof.get("rungs", ())}
        lost, judged = rungs.get("accuracy"), rungs.get("accuracy") or rungs.get("top-1") or {}
        pictures = fields.whole(judged.get("pictures", 0), 0, tables.MOST_ROWS)
        lost_points = None if lost is None else fields.number(lost["worst"])
        engine = any(str(name).startswith("engine") for name in rungs)
        proved_on = one_line(fields.name(proof.get("provider", _prover(bundle)))) + (
            ", TensorRT" if engine else ""
        )
        lost_spread = 0.0 if lost is None else 1.96 * fields.number(lost.get("standard_error", 0.0))
    latency_ms = measured_on = None
    if timing_file.is_file():
        with fields.of(timing_file, "Measure it again: python -m export.bench."):
            timing = rundir.read_json(timing_file, kind=dict)
            latency_ms = fields.number(timing["batches"][0]["median_ms"], above=0)
            provider, machine = (
                one_line(fields.text(timing[key], most=1000)) for key in ("provider", "machine")
            )
            threads, *sides = (
                fields.whole(value, 0, 10**6) for value in (timing["threads"], *timing["picture"])
            )
            measured_on = (
                f"{provider}, {threads} threads, {machine}, picture {sides[0]} x {sides[1]}"
            )
    size_mb = round(bundle.model.stat().st_size / 1e6, 1)
    return Figures(
        size_mb,
        pictures,
        lost_points,
        lost_spread,
        latency_ms,
        measured_on,
        bundle.status,
        proved_on,
    )


def _prover(bundle: Bundle) -> str:
    """What ran the proof of a bundle whose parity.json does not say so: always the CPU."""
    return "openvino" if bundle.model.suffix == ".xml" else "cpu"


def without_pictures(parity: Mapping[str, Any]) -> dict[str, Any]:
    """parity.json without the names of the user's pictures."""
    rungs = [
        {key: value for key, value in rung.items() if key != "picture"}
        for rung in parity.get("rungs", ())
    ]
    kept = {key: value for key, value in parity.items() if key != "pictures_sha256"}
    return kept | ({"rungs": rungs} if rungs else {})
