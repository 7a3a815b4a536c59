"""Which device a run uses, and why; a GPU that is there but unused is never passed over in
silence."""

import os
import re
import shutil
import sys
from pathlib import Path

import torch

from finetune.machine import distributed
from zoo.host import console, machine
from zoo.host.errors import UserError
from zoo.host.text import shell

INSTALL_CUDA = "pip install --force-reinstall torch torchvision"
MOST_DECODERS = 16
"""Processes that are started unasked: each is a Python with torch, some 300 MB of memory."""


def choose(name: str) -> torch.device:
    """The device of `--device`, printed with the reason; `UserError` if it was asked for and is not
    usable."""
    # torch lets cuDNN round to TF32 unless told not to; what is called fp32 is fp32, on the GPU too
    torch.backends.cudnn.allow_tf32 = False
    if distributed.world() > 1:
        return _of_this_process(name)
    if name == "auto":
        return _best()
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise UserError(
            f"--device {name}: expected auto, cpu, cuda, cuda:1 (the second GPU) or mps."
        )
    try:
        device = torch.device(name)
        # a device of any number has a name: only using it shows whether it is there
        torch.empty(1, device=device)
    # torch raises AssertionError where it was built without CUDA
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {name}: torch {torch.__version__} cannot use it ({reason}). {_way_out()}"
        ) from None
    return _say(device, "asked for by --device")


def _best() -> torch.device:
    """The first GPU that torch can use, or the CPU."""
    if torch.cuda.is_available():
        _say_how_to_use_all()
        gpu = torch.cuda.get_device_name()
        return _say(torch.device("cuda"), f"{gpu}, found by torch {torch.__version__}")
    if torch.backends.mps.is_available():
        return _say(torch.device("mps"), "Apple GPU, found by torch")
    cpu = _say(
        torch.device("cpu"), f"torch {torch.__version__} sees no GPU; {cpu_cores()} CPU cores"
    )
    _warn_of_unused_gpu()
    return cpu


def _way_out() -> str:
    """What to do about a device that torch cannot use."""
    if gpu := nvidia_gpu_seen():
        return f"To make torch use the GPU ({gpu}): {INSTALL_CUDA}"
    return "Use --device cpu, or remove it."


def _of_this_process(name: str) -> torch.device:
    """The device of one of several processes: each has a GPU of its own, or all compute on CPUs."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"--device {name}: expected auto, cpu or cuda under torchrun, where each process takes "
            "its own GPU. Remove --device."
        )
    processes = f"{distributed.world()} processes"
    if _agreed_kind(name) == "cpu":
        if name == "auto":
            _warn_of_unused_gpu()
        return _say(torch.device("cpu"), f"{processes}, {cpu_cores()} CPU cores each")
    number, _ = distributed.on_this_machine()
    # else `cuda` without a number, and NCCL, would mean GPU 0 in every process
    torch.cuda.set_device(number)
    return _say(torch.device("cuda", number), f"{processes}, each with a GPU of its own")


def _agreed_kind(name: str) -> str:
    """cpu or cuda, the same in all processes; `UserError` where some have no GPU and others do."""
    number, processes = distributed.on_this_machine()
    gpus, kind = torch.cuda.device_count(), name
    if name == "auto":
        kind = "cuda" if gpus else "cpu"
    enough = kind == "cpu" or number < gpus
    # told to all before anybody refuses: each then knows of the others, and raises the same error
    kinds = set(distributed.everyone(kind if enough else f"{gpus} GPUs for {processes} processes"))
    if kinds not in ({"cpu"}, {"cuda"}):
        raise UserError(
            f"the processes of this run have different devices ({', '.join(sorted(kinds))}): "
            "expected a GPU for each, or --device cpu. Start as many processes on each machine "
            "(torchrun --nproc-per-node) as it has GPUs."
        )
    return kind


def _warn_of_unused_gpu() -> None:
    if gpu := nvidia_gpu_seen():
        console.warn(
            f"this machine has an NVIDIA GPU ({gpu}) that torch {torch.__version__} cannot use: "
            "training runs on the CPU, many times slower. Check the driver (nvidia-smi), then: "
            f"{INSTALL_CUDA}"
        )


def _say_how_to_use_all() -> None:
    """The line that uses every GPU of this machine, where there are several and `python -m
    finetune` is what runs."""
    gpus = torch.cuda.device_count()
    if gpus > 1 and Path(sys.argv[0]).parts[-2:] == ("finetune", "__main__.py"):
        console.say(
            f"this machine has {gpus} GPUs and this run uses one of them. All of them: torchrun "
            f"--standalone --nproc-per-node {gpus} -m finetune "
            f"{' '.join(map(shell, sys.argv[1:]))}",
            style="bold",
        )


def _say(device: torch.device, reason: str) -> torch.device:
    console.say(f"device: {device} ({reason})")
    return device


def nvidia_gpu_seen() -> str | None:
    """What shows that an NVIDIA GPU is in this machine, whether torch can use it or not."""
    # not by torch, which sees none where it was built without CUDA
    if Path("/proc/driver/nvidia/version").exists():
        return "driver loaded"
    if shutil.which("nvidia-smi"):
        return "nvidia-smi is installed"
    return None


def cpu_cores() -> int:
    """CPU cores that this process may use; processes of one run share those of their machine."""
    return max(1, machine.cpu_cores() // distributed.on_this_machine()[1])


def decoders(wanted: int, device: torch.device) -> int:
    """Processes that decode pictures for this one; `wanted`: as in `--workers`, -1 = chosen
    here."""
    if wanted >= 0:
        return wanted
    if device.type == "cuda":
        return min(cpu_cores(), MOST_DECODERS)
    return 0


def compute_threads() -> int:
    """Threads that this process computes with: one a core, or fewer where OMP_NUM_THREADS says
    so."""
    cores = cpu_cores()
    # torchrun sets it to 1 where it is not set, which is nobody's wish
    if distributed.world() > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        return cores
    return min(cores, machine.compute_threads())
