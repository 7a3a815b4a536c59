"""The figures of a bundle: size, speed and accuracy, as its proof and its measurement give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contract import rundir
from zoo.contract.bundle import PARITY, TIMING, Bundle, export_it
from zoo.files import checks, tables
from zoo.host.errors import UserError
from zoo.host.text import one_line


@dataclass(frozen=True)
class Figures:
    """What a bundle says about its size, speed and accuracy."""

    model_mb: float
    """Of the model, with the weights that stand in a file beside it."""
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


def model_mb(model: Path) -> float:
    """Return the size of a model in megabytes, with the weights that some formats keep in a file
    beside it (OpenVINO's `model.bin`)."""
    # of an ONNX file both are the same path, which the set below counts once
    beside = model.with_suffix(".bin") if model.suffix == ".xml" else model
    return round(sum(path.stat().st_size for path in {model, beside}) / 1e6, 1)


def figures(bundle: Bundle) -> Figures:
    """The numbers of parity.json and timing.json; `UserError` if the proof is missing."""
    proof_file = bundle.file(PARITY)
    if proof_file is None:
        raise UserError(
            f"{bundle.folder} has no {PARITY}: expected its export's proof. "
            f"{export_it(bundle.folder)}"
        )
    with checks.of(proof_file, export_it(bundle.folder)):
        proof = rundir.read_json(proof_file, kind=dict)
        rungs = {rung["name"]: rung for rung in proof.get("rungs", ())}
        # accuracy: only of a file that rounds; of all others the rung is called top-1
        lost, judged = rungs.get("accuracy"), rungs.get("accuracy") or rungs.get("top-1") or {}
        pictures = checks.whole(judged.get("pictures", 0), 0, tables.MOST_ROWS)
        lost_points, lost_spread = None, 0.0
        if lost is not None:
            lost_points = checks.number(lost["worst"])
            # 95 % of a normal distribution
            lost_spread = 1.96 * checks.number(lost.get("standard_error", 0.0))
        proved_on = one_line(checks.name(proof.get("provider", _prover(bundle))))
        # the rungs of an engine have its name before their own
        if any(str(name).startswith("engine") for name in rungs):
            proved_on += ", TensorRT"
    latency_ms, measured_on = _measured(bundle)
    return Figures(
        model_mb(bundle.model),
        pictures,
        lost_points,
        lost_spread,
        latency_ms,
        measured_on,
        bundle.status,
        proved_on,
    )


def _measured(bundle: Bundle) -> tuple[float | None, str | None]:
    """Milliseconds for one picture, and what they were measured on; None without timing.json."""
    timing_file = bundle.folder / TIMING
    if not timing_file.is_file():
        return None, None
    with checks.of(timing_file, "Measure it again: python -m export.bench."):
        timing = rundir.read_json(timing_file, kind=dict)
        latency_ms = checks.number(timing["batches"][0]["median_ms"], above=0)
        provider = one_line(checks.text(timing["provider"], most=1000))
        machine = one_line(checks.text(timing["machine"], most=1000))
        numbers = (timing["threads"], *timing["picture"])
        threads, height, width, *_ = (checks.whole(value, 0, 10**6) for value in numbers)
        return latency_ms, f"{provider}, {threads} threads, {machine}, picture {width} x {height}"


def _prover(bundle: Bundle) -> str:
    """What ran the proof of a bundle whose parity.json does not say so: always the CPU."""
    return "openvino" if bundle.model.suffix == ".xml" else "cpu"


def without_pictures(parity: Mapping[str, Any]) -> dict[str, Any]:
    """parity.json without the names of the user's pictures."""
    kept = without(parity, "pictures_sha256")
    if rungs := parity.get("rungs"):
        kept["rungs"] = [without(rung, "picture") for rung in rungs]
    return kept


def without(content: Mapping[str, Any], omitted: str) -> dict[str, Any]:
    """A copy that lacks one key."""
    return {key: value for key, value in content.items() if key != omitted}
