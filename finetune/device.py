"""Which device a run uses, and why; a GPU that is there but unused is never passed over in silence."""

import os
import re
import shutil
from pathlib import Path

import torch

from finetune import progress
from zoo.errors import UserError

INSTALL_CUDA = "pip install --force-reinstall torch torchvision"


def choose(name: str) -> torch.device:
    """The device of `--device`, printed with the reason; `UserError` if it was asked for and is not usable."""
    torch.backends.cudnn.allow_tf32 = False  # what is called fp32 is fp32, on the GPU too
    if name == "auto":
        if torch.cuda.is_available():
            return _say(torch.device("cuda"), f"{torch.cuda.get_device_name()}, found by torch {torch.__version__}")
        if torch.backends.mps.is_available():
            return _say(torch.device("mps"), "Apple GPU, found by torch")
        cpu = _say(torch.device("cpu"), f"torch {torch.__version__} sees no GPU; {cpu_cores()} CPU cores")
        if gpu := nvidia_gpu_seen():
            progress.warn(f"this machine has an NVIDIA GPU ({gpu}) that torch {torch.__version__} cannot use: training "
                          f"runs on the CPU, many times slower. Check the driver (nvidia-smi), then: {INSTALL_CUDA}")
        return cpu
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise UserError(f"--device {name}: expected auto, cpu, cuda, cuda:1 (the second GPU) or mps.")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        gpu = nvidia_gpu_seen()
        todo = f"To make torch use the GPU ({gpu}): {INSTALL_CUDA}" if gpu else "Use --device cpu, or leave it away."
        raise UserError(f"--device {name}: torch {torch.__version__} cannot use it ({reason}). {todo}") from None
    return _say(device, "asked for by --device")


def _say(device: torch.device, reason: str) -> torch.device:
    progress.say(f"device: {device} ({reason})")
    return device


def nvidia_gpu_seen() -> str | None:
    """What shows that an NVIDIA GPU is in this machine, whether torch can use it or not."""
    if Path("/proc/driver/nvidia/version").exists():
        return "driver loaded"
    return "nvidia-smi is installed" if shutil.which("nvidia-smi") else None


def cpu_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
