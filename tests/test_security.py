"""Nothing that strangers made runs here, gets out of its folder, or takes a page over; no token is
written down."""

import ast
import importlib.metadata
import io
import os
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard
from onnx import TensorProto, helper
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from export.targets import web
from finetune.evaluation.passes import Scores
from finetune.pipeline import start
from finetune.recipe.run import Run
from finetune.report.write import write_report
from finetune.run_folder import checkpoint
from finetune.run_folder.order import Order
from serve.options import ServiceOptions
from serve.page import answer_html
from serve.start import build_service
from tests import warm
from tests.hub_server import TOKEN, HubServer
from tests.made_run import made_run
from tests.source_code import CODE, ROOT, law_of_each_file, name_of, nodes
from zoo.answer import onnx_runtime
from zoo.contract import rundir
from zoo.files import tables
from zoo.host import minimum
from zoo.host.errors import UserError
from zoo.publish import card

# ---------------------------------------------------------------- the syntax trees

RUNS_CODE = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "runpy",
}
READERS = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", None)}
"""Call -> (keyword, the only value that it may have; None: it must not be given)."""


def dangers(node: ast.AST) -> Iterator[str]:
    """What in one node of a syntax tree could run a stranger's code or leave a folder."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
        yield from (f"imports {name}" for name in names if name.split(".")[0] in RUNS_CODE)
    if not isinstance(node, ast.Call):
        return
    name = ast.unparse(node.func)
    last = name.split(".")[-1]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in (
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "yaml.load",
        "gr.load",
    ):
        yield name
    if last == "import_module":
        yield last
    if given.get("weights_only", "True") != "True":
        yield "weights_only"
    if given.get("shell", "False") != "False":
        yield "shell=True"
    if given.get("trust_remote_code", "False") != "False":
        yield "trust_remote_code"
    if last in ("extractall", "unpack_archive") or (
        last == "extract" and given.get("filter") != "'data'"
    ):
        yield last
    if last == "load_external_data_for_model":
        yield last
    for reader, (keyword, value) in READERS.items():
        if name in (reader, reader.replace("np.", "numpy.")) and given.get(keyword) != value:
            yield reader
    if name == "torch.save":
        yield name


# for the name of the error that torch.load raises
ALLOWED = {
    ("zoo/network/pickled.py", "imports pickle"),
    # what only this machine reads again
    ("finetune/run_folder/checkpoint.py", "torch.save"),
    # features of pictures, no archive
    ("finetune/train/probe.py", "extract"),
    ("finetune/evaluation/reference_bank.py", "extract"),
    ("finetune/checks/features.py", "extract"),
    # only the commands of its own table
    ("zoo/command.py", "imports runpy"),
}


@law_of_each_file
def test_nothing_here_runs_what_it_reads(path: Path) -> Iterator[str]:
    found = {danger for node in nodes(path) for danger in dangers(node)}
    yield from (danger for danger in found if (name_of(path), danger) not in ALLOWED)


def test_what_is_allowed_is_needed_and_pickle_is_there_for_one_error_only() -> None:
    assert {
        (path.relative_to(ROOT).as_posix(), danger)
        for path in CODE
        for node in nodes(path)
        for danger in dangers(node)
    } == ALLOWED
    used = [
        ast.unparse(node)
        for path in CODE
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    ]
    assert used == ["pickle.UnpicklingError"]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import marshal as m",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=flag)",
        "tar.extractall(folder)",
        "tar.extract(member, folder)",
        "shutil.unpack_archive(path)",
        "Model.load(x, trust_remote_code=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "timm.load(path, weights_only=False)",
        "importlib.import_module(name)",
        "torch.save(model, path)",
        "onnx.load_external_data_for_model(model, folder)",
    ],
)
def test_the_walk_sees(line: str) -> None:
    assert [danger for node in ast.walk(ast.parse(line)) for danger in dangers(node)]


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "yaml.safe_load(text)",
        "tar.extract(member, folder, filter='data')",
        "subprocess.run([tool, path])",
        "tar.extractfile(name)",
        "model.eval()",
        "re.compile(pattern)",
        "session.run(None)",
    ],
)
def test_the_walk_lets_pass(line: str) -> None:
    assert not [danger for node in ast.walk(ast.parse(line)) for danger in dangers(node)]


# ---------------------------------------------------------------- versions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOORS = {
    "torch": "2.10",
    "onnx": "1.21",
    "protobuf": "6.33.5",
    "onnxruntime": "1.27",
    "Pillow": "12.3",
    "pillow-heif": "1.4",
    "filelock": "4.2.1",
    "Jinja2": "3.1.6",
    "httpx2": "2.12",
    "starlette": "1.3.1",
    "h11": "0.16",
    "python-multipart": "0.0.31",
    "gradio": "6.20",
    "orjson": "3.11.6",
    "anyio": "4.14.2",
    "idna": "3.15",
    "brotli": "1.2.1",
}


def asked(lines: list[str], package: str) -> list[Requirement]:
    """What `lines` of pyproject.toml ask of a package; for ONNX Runtime, of each of its two."""
    names = (
        {"onnxruntime", "onnxruntime-gpu"}
        if package == "onnxruntime"
        else {canonicalize_name(package)}
    )
    return [line for line in map(Requirement, lines) if canonicalize_name(line.name) in names]


def test_the_rows_are_known_and_each_names_what_it_keeps_out() -> None:
    assert {row.package: row.version for row in minimum.ROWS} == FLOORS
    assert len(minimum.ROWS) == len(FLOORS)
    for row in minimum.ROWS:
        assert re.match(r"CVE-\d{4}-\d{4,}|no CVE; [\w-]+/[\w-]+ #\d+", row.avoids), row.package


@pytest.mark.parametrize("row", minimum.ROWS, ids=lambda row: row.package)
def test_what_is_asked_for_has_no_known_way_in(row: minimum.Minimum) -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    found = asked(extras if row.optional else PROJECT["dependencies"], row.package)
    assert len(found) == (2 if row.package == "onnxruntime" else 1)
    for line in found:
        [bound] = line.specifier
        assert bound.operator == ">="
        assert minimum.version_numbers(bound.version) >= minimum.version_numbers(row.version)


@pytest.mark.parametrize("row", minimum.ROWS, ids=lambda row: row.package)
def test_what_is_installed_has_no_known_way_in(row: minimum.Minimum) -> None:
    if row.package == "onnxruntime":
        assert onnx_runtime.import_onnxruntime()
    else:
        minimum.require(row.package)


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_one_onnxruntime_is_asked_for_everywhere(system: str, machine: str) -> None:
    here = {"sys_platform": system, "platform_machine": machine}
    names = [
        line.name
        for line in asked(PROJECT["dependencies"], "onnxruntime")
        if line.marker is None or line.marker.evaluate(here)
    ]
    assert names == [
        "onnxruntime-gpu" if (system, machine) == ("linux", "x86_64") else "onnxruntime"
    ]


def test_each_row_is_required_where_its_library_reads() -> None:
    given = {
        ast.unparse(argument)
        for path in CODE
        for node in nodes(path)
        if isinstance(node, ast.Call)
        if ast.unparse(node.func) in ("minimum.require", "minimum.check_version")
        for argument in node.args
    }
    groups = ("TRAIN", "SERVE", "PAGE", "HUB")
    assert {f"*minimum.{group}" for group in groups} <= given
    grouped = {package for group in groups for package in getattr(minimum, group)}
    assert grouped | {package for package in FLOORS if repr(package) in given} == set(FLOORS)


OLD = {
    "torch": "2.9.1+cu128",
    "starlette": "0.49.0",
    "python-multipart": "0.0.30",
    "h11": "0.14.0",
    "pillow-heif": "1.3.0",
    "filelock": "3.20.3",
    "idna": "3.7",
}


@pytest.mark.parametrize(("package", "version"), OLD.items())
def test_an_old_version_is_refused_with_its_cve(
    package: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    with pytest.raises(UserError, match="is installed, expected") as error:
        minimum.require(package)
    [row] = [row for row in minimum.ROWS if row.package == package]
    assert str(error.value) == (
        f"{package} {version} is installed, expected {row.version} or newer ({row.avoids}): "
        f'pip install -U "{package}>={row.version}"'
    )


def test_versions_are_compared_as_numbers() -> None:
    assert (
        minimum.version_numbers("2.10.0")
        >= minimum.version_numbers("2.10")
        > minimum.version_numbers("2.9.1+cu128")
    )
    assert minimum.version_numbers("0.0.31") > minimum.version_numbers("0.0.9")


def test_only_what_is_optional_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    minimum.require("pillow-heif")
    with pytest.raises(
        UserError, match=r'^h11 is not installed, expected 0\.16 .*pip install -U "h11>=0\.16"$'
    ):
        minimum.require("h11")


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_an_old_onnxruntime_is_refused_by_the_name_that_pip_has_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime.import_onnxruntime(), "__version__", "1.26.0")
    monkeypatch.setattr(onnx_runtime, "_is_installed", lambda package: package == name)
    with pytest.raises(
        UserError, match=rf'^{name} 1\.26\.0 .*outside its folder.*pip install -U "{name}>=1\.27"$'
    ):
        onnx_runtime.load_session(Path("model.onnx"), "cpu")


def test_a_service_does_not_start_on_an_old_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything of a stranger is read: the bundle is not there."""
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "0.40.0" if name == "starlette" else version(name),
    )
    with (
        pytest.raises(UserError, match=r"starlette 0\.40\.0 .*CVE-2025-62727"),
        build_service(ServiceOptions(tmp_path)),
    ):
        pass


# ---------------------------------------------------------------- evil files


class Canary:
    """A pickle of this makes a folder where code is run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl"])
def test_an_evil_file_as_base_or_as_run_never_runs(
    tmp_path: Path, digits: Path, suffix: str
) -> None:
    canary, evil = tmp_path / "canary", tmp_path / f"evil{suffix}"
    torch.save({"w": torch.ones(2), "x": Canary(canary)}, evil)
    for run in (Run(data=str(digits), base=str(evil), out=tmp_path / "run"), Run(resume=evil)):
        with pytest.raises(UserError):
            start(run, {})
    assert not canary.exists()


def test_an_evil_checkpoint_never_runs(tmp_path: Path, digits: Path, tiny_base: Path) -> None:
    """All digests are right: whoever made the run folder made them."""
    canary, run = tmp_path / "canary", tmp_path / "run"
    (run / "resume").mkdir(parents=True)
    rundir.write_json(
        run / rundir.LOCAL,
        Order(digits, str(tiny_base), {"image_size": 32, "probe": "off"}).to_json(),
    )
    best = checkpoint.save_best(run, torch.nn.Linear(1, 1), Scores(0.5, 1.0, 1.0, 10), 0)
    checkpoint.save_checkpoint(run, checkpoint.State(3, 0, best, {"model": Canary(canary)}))
    with pytest.raises(
        UserError, match=r"tensors\.pt is refused: .*the code posix\.mkdir\. It was not run"
    ):
        start(Run(resume=run, data=str(digits)), {})
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_an_evil_run_folder_as_base_never_runs(
    tmp_path: Path, digits: Path, tiny_base: Path, suffix: str
) -> None:
    canary = tmp_path / "canary"
    run = Path(shutil.copytree(tiny_base, tmp_path / "evil"))
    (run / rundir.WEIGHTS).unlink()
    torch.save({"x": Canary(canary)}, run / f"model{suffix}")
    rundir.finish(run)
    with pytest.raises(UserError):
        start(Run(data=str(digits), base=str(run), out=tmp_path / "run"), {})
    assert not canary.exists()


# ---------------------------------------------------------------- the Hub, a token, and hostile
# names, in one run

CLASSES = (
    "<script>alert(1)<",
    "---",
    "a|b",
    "two\nlines",
    "x..",
    "\u202egnp",
    "ß" * 120,
    "[x](javascript:y)",
    "`",
    "{{x}}",
)
"""Names that a file system takes, one for each digit."""
SCRIPT = """
import sys, traceback
from pathlib import Path
from finetune import write_run
from finetune.data import foreign
from finetune.pipeline import start
from finetune.recipe.run import Run
from finetune.train import probe
from zoo.host.errors import UserError
foreign.PICTURES, probe.PENALTIES, write_run.write_report = 8, (0.1,), lambda *_: None
data, out, *bases = sys.argv[1:]
for base in bases:
    try:
        start(Run(data=data, base=base, out=Path(out), device="cpu"),
              {"epochs": 1, "image_size": 32, "features": "fp32", "threads": 1})
        print("finished", base)
    except UserError as error:
        print("refused", base, error)
        while error is not None:  # every error that led to it, with its stack
            traceback.print_exception(error, chain=False)
            error = error.__context__
"""


@pytest.fixture(scope="module")
def visit(
    digits: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """With a token: an evil base from the Hub, one that fails, and a good one for classes of
    hostile names.

    (folder with all that was written, run folder, output).
    """
    folder = tmp_path_factory.mktemp("visit")
    for split in ("train", "val", "test"):
        for digit, name in enumerate(CLASSES):
            shutil.copytree(digits / split / str(digit), folder / "data" / split / name)
    torch.save({"w": torch.ones(2), "x": Canary(folder / "canary")}, folder / "evil.bin")
    evil, config = (folder / "evil.bin").read_bytes(), (tiny_base / rundir.CONFIG).read_bytes()
    with HubServer() as hub:
        hub.add(
            "mallory/evil",
            {
                "config.json": config,
                "pytorch_model.bin": evil,
                "model.pt": evil,
                "model.pth": evil,
                "model.pkl": evil,
                "hubconf.py": b"import os\nos.mkdir('canary')\n",
            },
        )
        hub.add("mallory/gone", {"config.json": config})
        hub.add(
            "alice/tiny",
            {"config.json": config, "model.safetensors": (tiny_base / rundir.WEIGHTS).read_bytes()},
        )
        ran = warm.run(
            warm.TORCH,
            [
                "-c",
                SCRIPT,
                folder / "data",
                folder / "run",
                *(f"hf-hub:{name}" for name in ("mallory/evil", "mallory/gone", "alice/tiny")),
            ],
            env=hub.env(folder / "home") | {"HF_TOKEN": TOKEN},
        )
        asked = [path.rpartition("/")[2] for _, path in hub.requests]
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not [name for name in asked if name.endswith((".pt", ".pth", ".pkl", ".py"))]
    return folder, folder / "run", ran.stdout + ran.stderr


def test_an_evil_repository_never_runs(visit: tuple[Path, Path, str]) -> None:
    folder, _, said = visit
    assert re.search(r"refused hf-hub:mallory/evil .*the code posix\.mkdir\. It was not run", said)
    assert "refused hf-hub:mallory/gone" in said
    assert "finished hf-hub:alice/tiny" in said
    assert not list(folder.rglob("canary"))


def test_the_token_is_nowhere(visit: tuple[Path, Path, str]) -> None:
    folder, _, said = visit
    assert "Traceback" in said
    assert TOKEN not in said
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 100
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []


def test_a_run_of_hostile_names_is_a_run_like_another(visit: tuple[Path, Path, str]) -> None:
    _, run, _ = visit
    names = rundir.read_json(run / rundir.CONFIG)["label_names"]
    assert sorted(names) == sorted(CLASSES)
    text = (run / rundir.CARD).read_text(encoding="utf-8")
    assert ModelCard(text).data.library_name == "timm"
    assert len(re.findall(r"^---$", text, re.MULTILINE)) == 2
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text)
    assert {row["label"] for row in tables.rows(run / rundir.PREDICTIONS, ("label",))} - {
        ""
    } == set(CLASSES)


# ---------------------------------------------------------------- names that no file system takes

ONLY_IN_FILES = (
    "<script>alert(1)</script>",
    "---\nlicense: mit",
    "a|b",
    "two\nlines",
    "..\\x",
    "long",
    "\u202egnp",
    "<img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "C:\\CON",
)


def test_names_of_a_foreign_run_are_text_in_card_report_and_page(tmp_path: Path) -> None:
    run, root = made_run(tmp_path / "made", classes=ONLY_IN_FILES, pictures=2)
    write_report(run, root)
    for path in run.glob("*.json"):
        rundir.write_text(
            path, path.read_text(encoding="utf-8").replace('"long"', f'"{"x" * 300}"')
        )
    text, page = card.text(run), (run / rundir.PAGE).read_text(encoding="utf-8")
    assert f"`{'x' * 300}`" in text
    assert ModelCard(text).data.to_dict()["license"] == "apache-2.0"
    outside = re.sub(r"`[^`\n]*`", "", text)
    bars = "".join(answer_html.bar(name, 0.5) for name in ONLY_IN_FILES)
    for shown in (outside, page, bars):
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
    assert '" onload="' not in page + bars
    assert {path.name for path in tmp_path.iterdir()} == {"made"}
    assert {path.name for path in (tmp_path / "made").iterdir()} == {run.name, root.name}


# ---------------------------------------------------------------- ONNX files


def write_external(path: Path, location: str) -> None:
    """A model y = x + w whose w lies in another file."""
    w = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        w.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("way", ["inside", "above", "absolute", "link"])
def test_external_data_stays_in_the_folder(tmp_path: Path, way: str) -> None:
    secret, folder = tmp_path / "secret.bin", tmp_path / "a" / "model"
    folder.mkdir(parents=True)
    for place in (secret, folder / "own.bin"):
        np.array([3, 4], np.float32).tofile(place)
    (folder / "link.bin").symlink_to(secret)
    location = {
        "inside": "own.bin",
        "above": "../../secret.bin",
        "absolute": str(secret),
        "link": "link.bin",
    }[way]
    write_external(folder / "model.onnx", location)
    if way == "inside":
        session, _ = onnx_runtime.load_session(folder / "model.onnx", "cpu")
        assert session.run(None, {"x": np.zeros(2, np.float32)})[0].tolist() == [3, 4]
        onnx.load(folder / "model.onnx")
        return
    with pytest.raises(UserError, match="cannot load"):
        onnx_runtime.load_session(folder / "model.onnx", "cpu")
    with pytest.raises(onnx.checker.ValidationError):
        onnx.load(folder / "model.onnx")


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_external_data_of_a_sparse_tensor_stays_in_the_folder(tmp_path: Path, way: str) -> None:
    """What ONNX Runtime before 1.27 read."""
    secret, folder = tmp_path / "secret.bin", tmp_path / "model"
    folder.mkdir()
    np.array([3, 4], np.float32).tofile(secret)
    (folder / "link.bin").symlink_to(secret)
    write_external(
        folder / "model.onnx",
        {"above": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[way],
    )
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    sparse = model.graph.sparse_initializer.add(dims=[2])
    sparse.values.CopyFrom(model.graph.initializer.pop())
    sparse.indices.CopyFrom(helper.make_tensor("indices", TensorProto.INT64, [2], [0, 1]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="cannot load"):
        onnx_runtime.load_session(folder / "model.onnx", "cpu")


# ---------------------------------------------------------------- archives


def test_an_archive_gives_its_known_files_only(tmp_path: Path) -> None:
    """The one archive that is opened: npm's package of onnxruntime-web."""
    secret, folder = tmp_path / "secret", tmp_path / "into" / "folder"
    secret.write_text("not for the web")
    folder.mkdir(parents=True)

    def packed(link: str | None) -> Path:
        with tarfile.open(tmp_path / "package.tgz", "w:gz") as tar:
            for name in (
                *(f"package/dist/{name}" for name in web.FILES),
                "../out",
                "/out",
                "package/dist/more.js",
            ):
                tar.addfile(entry := tarfile.TarInfo(name), io.BytesIO(b"x" * entry.size))
            if link:
                entry = tarfile.TarInfo(f"package/dist/{next(iter(web.FILES))}")
                entry.type, entry.linkname = tarfile.SYMTYPE, link
                tar.addfile(entry)
        return tmp_path / "package.tgz"

    web.unpack(packed(None), folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(web.FILES)
    for link in (str(secret), "../../../secret"):
        with pytest.raises(UserError, match="expected"):
            web.unpack(packed(link), folder)
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "into", "package.tgz"}
    assert all(path.read_bytes() == b"" for path in folder.iterdir())
