"""The engine of `--to tensorrt`, which only a GPU can run."""

import json
from pathlib import Path

import pytest
import torch

from export import to_tensorrt
from export.__main__ import Order
from export.job import start
from export.subject import open_run
from tests.export.made_export import made_export
from zoo.contract.bundle import open_bundle

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; torch sees none here")


def test_the_engine_is_proved_and_built_again_for_another_gpu(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="tensorrt is not installed")
    run = made_export(tmp_path)
    start(Order(run, to=("tensorrt",)))
    folder = run / "bundles" / "tensorrt"
    assert open_bundle(folder).status == "ok"
    rungs = {rung["name"]: rung for rung in json.loads((folder / "parity.json").read_text())["rungs"]}
    assert rungs["engine: probabilities"]["worst"] < 0.02
    known = json.loads((folder / to_tensorrt.ENGINE).read_text())
    assert known["gpu"] == torch.cuda.get_device_name()
    (folder / to_tensorrt.ENGINE).write_text(json.dumps(known | {"gpu": "another"}))
    to_tensorrt.Engine(folder, to_tensorrt.profile(open_run(Order(run))))
    assert json.loads((folder / to_tensorrt.ENGINE).read_text()) == known
