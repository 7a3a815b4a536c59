"""The oldest versions that pyproject.toml allows: do all modules load with them, and does a run
reach the Hub?

    python -m tests.floors install FOLDER         an environment of the lowest versions over the
                                                  packages of this one
    FOLDER/bin/python -m tests.floors check RUN   loads every module and pushes a finished run to a
                                                  Hub in memory

torch and torchvision stay as they are installed, and ONNX Runtime's lowest version is the package
for CPUs: the others are gigabytes.
"""

import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = ("zoo", "finetune", "export", "serve")
KEPT = ("torch", "torchvision")
LEAST_MODULES = 150


def floors() -> dict[str, str]:
    """Package -> the lowest version that pyproject.toml allows on this system."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for asked in map(Requirement, project["dependencies"]):
        bounds = [bound.version for bound in asked.specifier if bound.operator == ">="]
        if bounds and asked.name not in KEPT and (asked.marker is None or asked.marker.evaluate()):
            found[asked.name.removesuffix("-gpu")] = bounds[0]
    return found


def install(folder: Path) -> None:
    """Make the environment. What a lowest version pins exactly (pydantic its core) comes with
    it."""
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    wanted = [f"{name}=={version}" for name, version in floors().items()]
    pip(folder, wanted[::2], wanted[1::2])
    pip(folder, sorted(set(pinned(packages))))
    first = Path(importlib.metadata.distribution("torch").locate_file(""))  # type: ignore[arg-type,unused-ignore]
    (packages / "first.pth").write_text(f"{first}\n", encoding="utf-8")


def pip(folder: Path, *groups: Sequence[str]) -> None:
    """Install exactly these into an environment, which has no pip of its own; the groups at the
    same time."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
    ]
    running = [subprocess.Popen([*command, *group]) for group in groups]
    assert not any([process.wait() for process in running]), (
        "pip says above what it could not install"
    )


def pinned(packages: Path) -> Iterator[str]:
    """`name==version` of what the packages in a folder ask for exactly, and the folder lacks."""
    there = {
        found.name.lower(): found
        for found in importlib.metadata.distributions(path=[str(packages)])
    }
    for found in there.values():
        for asked in map(Requirement, found.requires or ()):
            exact = [bound.version for bound in asked.specifier if bound.operator == "=="]
            if (
                exact
                and (asked.marker is None or asked.marker.evaluate({"extra": ""}))
                and (
                    asked.name.lower().replace("-", "_")
                    not in {name.replace("-", "_") for name in there}
                )
            ):
                yield f"{asked.name}=={exact[0]}"


def check(run: Path) -> None:
    """Load every module, and publish a finished run; raises what goes wrong."""
    for name, version in floors().items():
        seen = importlib.metadata.version(name)
        assert Requirement(f"{name}=={version}").specifier.contains(seen), (
            f"{name}: expected {version}, seen {seen}"
        )
    modules = [
        found.name
        for package in PACKAGES
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    ]
    assert len(modules) > LEAST_MODULES
    with pushed(run):  # meanwhile, on the other core
        for module in modules:
            importlib.import_module(module)


@contextmanager
def pushed(run: Path) -> Iterator[None]:
    """Publish a run to the Hub's protocol in memory while the block runs."""
    import tests.hub_writing  # noqa: F401 - its routes
    from tests.hub_server import TOKEN, HubServer, User

    with HubServer() as hub, tempfile.TemporaryDirectory() as home:
        hub.log_in(TOKEN, User("alice"))
        env = hub.env(Path(home)) | {"HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        env.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "zoo", "push", os.fspath(run), "alice/floors"]
        with subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            yield
            said, _ = process.communicate()
        assert process.returncode == 0, said
        assert "read back and compared" in said, said


if __name__ == "__main__":
    {"install": install, "check": check}[sys.argv[1]](Path(sys.argv[2]))
