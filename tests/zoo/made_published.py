"""A finished run with weights, numbers and a proved export, made in seconds without training; and a
client process."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image
from safetensors.numpy import save_file
from timm.models import save_for_hf

from tests import warm
from tests.export.made_export import CALIBRATED, LABELS, Made, made_bank, made_model
from tests.made_run import made_run
from tests.zoo.made_bundle import made_content, reference, write_model
from zoo.contract import bundle, decision, rundir
from zoo.files import tables

ROOT = Path(__file__).parents[2]
TIMING = {
    "provider": "cpu",
    "threads": 2,
    "machine": "x86_64",
    "picture": [300, 400],
    "load_s": 0.1,
    "model_mb": 0.1,
    "peak_mib": 90.0,
    "batches": [{"batch": 1, "median_ms": 3.2, "p90_ms": 4.0, "pictures_per_s": 312.5, "runs": 9}],
}
DRIVER = """
import contextlib, io, json, sys, time, traceback
waited, really_sleep = [], time.sleep
def sleep(seconds):
    waited.append(seconds)
    really_sleep(min(seconds, 0.01))
time.sleep = sleep
from pathlib import Path
from zoo import __main__ as cli
from zoo.host.errors import UserError
def push(goal, files):
    from zoo.publish.push import push
    from zoo.publish.repository import Goal
    done = push(Goal(**goal), {name: Path(path) for name, path in files.items()}, run="insects")
    return {"commit": done.commit, "sent": done.sent, "url": done.url, "kept": list(done.kept)}
def stage(run, into, **how):
    from zoo.publish.staging import staged
    return {name: str(path) for name, path in staged(Path(run), Path(into), **how).items()}
def pull_run(name):
    from zoo.hub.pulled_run import pull_run
    got = pull_run(name)
    return {"folder": str(got.folder), "commit": got.commit, "licence": got.licence}
def command(*words):
    return {"code": cli.main(list(words))}
for line in sys.stdin:
    order, out = json.loads(line), io.StringIO()
    waited.clear()
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(out):
            answer = globals()[order.pop("do")](*order.pop("words", ()), **order)
    except UserError as error:
        answer = {"error": str(error)}
    except BaseException:
        answer = {"crash": traceback.format_exc()}
    took = {"out": out.getvalue(), "waited": list(waited), "seconds": time.monotonic() - began}
    print(json.dumps(answer | took if "out" not in answer else answer), flush=True)
"""
"""Does one order a line. It sleeps shorter than it says, and tells how long it would have slept."""


def made_finished(folder: Path, made: Made | None = None) -> Path:
    """A finished run of three classes: random weights, made-up numbers, pictures of val and
    test."""
    made = made or Made()
    run, root = made_run(folder, classes=LABELS, pictures=3)
    fitted = rundir.read_json(run / rundir.DECISION)["fitted"]
    model = made_model(made)
    save_for_hf(
        model,
        str(run),
        {"label_names": list(LABELS)},
        safe_serialization=True,
        model_args=made.arguments,
        data_config=made.pre.to_config(),
    )
    rundir.write_json(run / rundir.DECISION, CALIBRATED.to_json() | {"fitted": fitted})
    save_file({decision.BANK_KEY: made_bank(model, made).numpy()}, run / rundir.BANK)
    recipe = rundir.read_json(run / rundir.RECIPE)
    recipe["val"] = {"value": f"{root}/val", "why": f"set by hand: the folder {root}/val"}
    rundir.write_json(run / rundir.RECIPE, recipe)
    data = rundir.read_json(run / rundir.DATA)
    lost = "train/ant/secret name.png"
    other = "train/bee/holiday plan.xyz"  # more files than data.json lists stand in left_out.csv
    data |= {
        "left_out": [[lost, "truncated"]],
        "findings": [f"2 of 30 pictures left out: {lost} (truncated); {other} (text)"],
    }
    rundir.write_json(run / rundir.DATA, data)
    tables.write_table(
        run / rundir.LEFT_OUT,
        ("path", "kind", "reason"),
        [(lost, "unreadable", "truncated"), (other, "unreadable", "text")],
    )
    rundir.write_json(run / rundir.LOCAL, {"data": str(root)})
    rundir.write_text(run / rundir.PAGE, "<html>pictures</html>")
    (run / rundir.FIGURES).mkdir()
    rundir.write_text(
        run / rundir.FIGURES / "reliability.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>'
    )
    rundir.write_text(run / rundir.CARD, "# the card that finetune wrote\n")
    rundir.finish(run)
    made_bundle_of(run, made)
    return run


def made_bundle_of(run: Path, made: Made) -> None:
    """`bundles/onnx` as an export leaves it, with a model of three lines, the same as plain
    `onnx/model.onnx`."""
    folder, named = run / bundle.BUNDLES / "onnx", "val/bee/private name.png"
    content = made_content(
        labels=list(LABELS),
        preprocessing=made.pre.to_config(),
        decision=CALIBRATED,
        run={
            "name": "insects",
            "architecture": "test_resnet",
            "finished_sha256": rundir.digest(run / rundir.FINISHED),
        },
    )
    (folder / bundle.EXAMPLES).mkdir(parents=True)
    write_model(folder / bundle.MODEL, content)
    model = onnx.load(folder / bundle.MODEL)
    for node in model.graph.node:  # as torch's exporter notes the lines of source code
        node.metadata_props.add(
            key="pkg.torch.onnx.stack_trace", value=f'File "{run}/model.py", line 1'
        )
    onnx.save(model, folder / bundle.MODEL)
    bundle.write_description(folder, content)
    rung = {"limit": 0.0, "worst": 0.0, "picture": named, "pictures": 27, "verdict": "passed"}
    rundir.write_json(
        folder / bundle.PARITY,
        {"rungs": [{"name": "top-1", **rung}], "pictures_sha256": {named: "0"}},
    )
    rundir.write_text(folder / bundle.PARITY_PAGE, "<html>pictures</html>")
    example = Image.new("RGB", (40, 30), (0, 200, 30))
    example.save(folder / bundle.EXAMPLES / "1.png")
    p_C = reference(np.asarray(example))["probabilities"].tolist()
    rundir.write_json(
        folder / bundle.EXAMPLES / bundle.EXPECTED,
        {"1.png": {"label": "bee", "probability": max(p_C), "probabilities": p_C}},
    )
    bundle.finish(folder)
    rundir.write_json(folder / bundle.TIMING, TIMING)
    (run / "onnx").mkdir()
    model.graph.name = "plain"  # so that it is another file
    onnx.save(model, run / "onnx" / "model.onnx")


class Client:
    """A process with the real client of the Hub, for many orders; its environment is read when it
    starts. Final."""

    def __init__(self, env: Mapping[str, str], log: Path):
        self.log = log
        self._errors = log.open("a")
        self._process = warm.Process(
            warm.HUB,
            ["-c", DRIVER],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __call__(self, do: str, *words: str, **how: Any) -> dict[str, Any]:
        """The answer to one order; it must not have crashed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, "words": words, **how}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        with self.log.open("a") as log:
            log.write(line)
        answer = json.loads(line)
        assert "crash" not in answer, answer["crash"]
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.communicate(timeout=20)
        self._errors.close()
