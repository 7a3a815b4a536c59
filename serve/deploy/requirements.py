"""What a Space installs: requirements.txt."""

import importlib.metadata
import re

from zoo.answer import onnx_runtime
from zoo.contract.bundle import Bundle
from zoo.host import minimum

PACKAGES = (
    "fastapi",
    "gradio",
    "markupsafe",
    "numpy",
    "pillow",
    "prometheus-client",
    "python-multipart",
    "tyro",
    "uvicorn",
)
"""Besides ONNX Runtime; pinned to what is installed here, which is what the tests ran with. What
they bring along and strangers' requests reach has its bound of zoo/host/minimum.py: a Space is on
the open internet."""
OPENVINO_FLOOR = ">=2025.0"
"""As in pyproject.toml."""


def requirements(bundle: Bundle) -> str:
    """Return what answering with this bundle needs, as pip reads it."""
    import onnxruntime

    lines = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    # the package for the CPU, whichever of them is installed here
    lines.append(f"onnxruntime=={onnxruntime.__version__}")
    if onnx_runtime.provider_of(bundle.model) == onnx_runtime.OPENVINO:
        lines.append(f"openvino{_openvino(bundle)}")
    brought = [
        package for package in (*minimum.SERVE, *minimum.PAGE) if package.lower() not in PACKAGES
    ]
    return "\n".join([*lines, *minimum.bounds(*brought)]) + "\n"


def _openvino(bundle: Bundle) -> str:
    """Return the version of OpenVINO that is installed here; else the one that made the bundle,
    else any that may do."""
    try:
        return f"=={importlib.metadata.version('openvino')}"
    except importlib.metadata.PackageNotFoundError:
        pass
    versions = bundle.content.get("versions_of_target")
    if isinstance(versions, dict):
        # of what a stranger's file says, only what is a version number
        numbers = re.match(r"\d{4}\.\d{1,2}(?:\.\d{1,2})?(?![\d.])", str(versions.get("openvino")))
        if numbers:
            return f"=={numbers[0]}"
    return OPENVINO_FLOOR
