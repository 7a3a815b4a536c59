"""OpenVINO within a process that lives on."""

import subprocess
import sys
from pathlib import Path

import pytest

DROPPED_BY_ANOTHER_THREAD = """
import faulthandler, gc, os, signal, sys, threading
import numpy as np, openvino
from openvino import opset13
from zoo.answer import openvino_runtime

faulthandler.enable()  # as pytest does: signals arrive on a stack of their own
signal.signal(signal.SIGUSR1, lambda *_: print("still here"))
x = opset13.parameter([2], np.float32, name="x")
openvino.save_model(openvino.Model([opset13.relu(x)], [x]), sys.argv[1])
held = [openvino_runtime.load_compiled(sys.argv[1])]
last = threading.Thread(target=lambda: (held.clear(), gc.collect()))
last.start()
last.join()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_survived_after_another_thread_dropped_the_model(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    command = [sys.executable, "-c", DROPPED_BY_ANOTHER_THREAD, str(tmp_path / "model.xml")]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "still here\n"), ran.stderr
