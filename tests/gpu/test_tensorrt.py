"""The engine of `--to tensorrt`, which only a GPU can run."""

import json
from pathlib import Path

import pytest
import torch

from export.options import ExportOptions
from export.pipeline import start
from export.proof.open_run import open_run
from export.targets import tensorrt, tensorrt_builder
from tests.export.made_export import made_export
from zoo.contract.bundle import open_bundle

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU; torch sees none here"
)


def test_the_engine_is_proved_and_built_again_for_another_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt", reason="tensorrt is not installed")
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    run = made_export(tmp_path)
    start(ExportOptions(run, to=("tensorrt",)))
    folder = run / "bundles" / "tensorrt"
    assert open_bundle(folder).status == "ok"
    rungs = {
        rung["name"]: rung for rung in json.loads((folder / "parity.json").read_text())["rungs"]
    }
    assert rungs["engine: probabilities"]["worst"] < 0.02
    known = json.loads((folder / tensorrt.ENGINE).read_text())
    assert known["gpu"] == torch.cuda.get_device_name()
    timings = tensorrt_builder.timings_file(tensorrt_builder.import_tensorrt())
    assert timings is not None
    assert timings.stat().st_size > 0
    timings.write_bytes(b"damaged")
    (folder / tensorrt.ENGINE).write_text(json.dumps(known | {"gpu": "another"}))
    tensorrt.Engine(folder, tensorrt.profile(open_run(run)))
    assert json.loads((folder / tensorrt.ENGINE).read_text()) == known
    assert timings.read_bytes() != b"damaged"
