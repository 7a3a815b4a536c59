"""What a push must not tell: folders, people, names of pictures and tokens, wherever in a run they
stand."""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import onnx
import pytest
from safetensors.numpy import load_file, save_file

from tests.zoo.made_published import made_finished
from zoo.contract import bundle, model_metadata, rundir
from zoo.host.errors import UserError
from zoo.publish import private, staging
from zoo.publish.private import Private

WORDS = ("Smith", "secret project", "carol", "bobby", "fileserver", "passport", "taxes")
PLANTED = [
    "/home/alice Smith/secret project/runs/x",
    "C:\\Users\\Alice Smith\\secret project\\x",
    "C:/Users/Alice Smith/x",
    "\\\\fileserver\\share\\secret project\\x",
    "smb://fileserver/secret project/x",
    "file:///home/alice%20Smith/x",
    "~bobby/x",
    "$HOME=/home/carol",
    "bobby@fileserver:/volume/secret project/x",
    "/Users/Smith",
    "%2Fhome%2Falice%20Smith%2Fx",
    '{"at": "C:\\\\Users\\\\Alice Smith\\\\x"}',
    "sftp://bobby@fileserver/taxes/x",
    "animals/Alice Smith passport.jpg",
    "/srv/taxes/secret project/x y",
]


@pytest.mark.parametrize("text", PLANTED)
def test_paths_of_any_machine_are_cut(text: str) -> None:
    known = Private((), (), frozenset({"animals/Alice Smith passport.jpg"}), frozenset({"ant"}))
    for sentence in (text, f"set by hand: {text}", f"before ({text}), after"):
        left = known.cut(sentence)
        assert not [word for word in WORDS if word.lower() in left.lower()], left


@pytest.mark.parametrize(
    "text",
    [
        "interpolated between the anchors, 1/2 of it",
        "timm/tf_efficientnet_lite0.in1k",
        "hf-hub:alice/insects",
        "https://huggingface.co/alice/insects",
        "about ~5 % and/or 3 px",
        "a/b",
        "bee or ant",
        "0.2 of train, by sha256",
        '<svg xmlns="http://www.w3.org/2000/svg"><path d="M 1 2 L 3 4"/></svg>',
        '"-//W3C//DTD SVG 1.1//EN"',
    ],
)
def test_other_text_stays(text: str) -> None:
    assert (
        Private(("/home/alice", "/data/pictures"), ("alice", "box"), frozenset(), frozenset()).cut(
            text
        )
        == text
    )


def test_known_folders_are_cut_in_every_form() -> None:
    folder = "/data/Alice Smith/köln"
    known = Private((folder,), ("bobby", "fileserver"), frozenset(), frozenset({folder}))
    for form in (
        "/data/Alice Smith/köln/x",
        "\\data\\Alice Smith\\köln\\x",
        "/data/Alice%20Smith/k%C3%B6ln/x",
        "%2Fdata%2FAlice%20Smith%2Fk%C3%B6ln%2Fx",
        json.dumps("/data/Alice Smith/köln/x"),
        "/data/Alice\\ Smith/köln/x",
        "/DATA/alice smith/KÖLN/x",
        "/data/Alice Smith/ko\u0308ln/x",
        "runs/bobby/x",
        "\\x\\fileserver\\x",
    ):
        left = known.cut(f"at {form} and more")
        for word in ("smith", "köln", "bobby", "fileserver", "k%c3"):
            assert word not in left.casefold(), (form, left)
    assert known.cut(folder) == folder  # a class, whatever it is called


def test_cutting_takes_linear_time() -> None:
    known, start = (
        Private(("/home/x",), ("bob",), frozenset({"a/b.jpg"}), frozenset()),
        perf_counter(),
    )
    for text in (
        "\\" * 50_000,
        "/" * 50_000,
        "/a " * 20_000,
        "%2F" * 20_000,
        "a-" * 30_000,
        "a@" * 30_000,
        "b.jpg" * 10_000,
        "/home" * 10_000,
        "a:/" * 20_000,
    ):
        known.cut(text)
    assert perf_counter() - start < 10


def plant(run: Path) -> None:
    """The planted sentences in every text file of a finished run and its bundle, and in their
    models."""
    sentence = "; ".join(PLANTED)
    for name in (rundir.CONFIG, rundir.RECIPE, rundir.DATA, rundir.REPORT, rundir.DECISION):
        content = rundir.read_json(run / name)
        rundir.write_json(
            run / name, content | {f"note {PLANTED[0]}": {"value": PLANTED[1], "why": sentence}}
        )
    data = rundir.read_json(run / rundir.DATA)
    findings = [
        *data["findings"],
        sentence,
        "equal bytes: animals/Alice Smith passport.jpg and ant/b.jpg",
        "left out: taxes/2020/animals/b.png (text)",
        "folders beside train, val and test are ignored: taxes",
        "--data 2: folders beside train, val and test are ignored: taxes",
    ]
    left_out = [["ant/Alice Smith passport.jpg", "cut"]]
    rundir.write_json(
        run / rundir.DATA,
        data | {"findings": findings, "left_out": left_out, "val": f"the folder {PLANTED[0]}"},
    )
    with (run / rundir.METRICS).open("a") as file:
        file.write(json.dumps({"step": 1, "name": PLANTED[0], "note": sentence}) + "\n")
    rundir.write_text(
        run / rundir.FIGURES / "reliability.svg",
        f'<svg xmlns="http://www.w3.org/2000/svg"><text>{PLANTED[0]}</text></svg>',
    )
    for name, key in ((rundir.WEIGHTS, "format"), (rundir.BANK, "note")):
        save_file(
            load_file(run / name),
            run / name,
            {key: "pt" if key == "format" else "x", "from": sentence},
        )
    rundir.finish(run)


def replant_bundle(run: Path) -> None:
    """The bundle of the run as it is now, with the sentences in its files."""
    folder, sentence = run / bundle.BUNDLES / "onnx", "; ".join(PLANTED)
    (folder / bundle.FINISHED).unlink()
    content = rundir.read_json(folder / bundle.BUNDLE)
    content |= {
        "status": sentence,
        "run": content["run"]
        | {"finished_sha256": rundir.digest(run / rundir.FINISHED), "made_at": PLANTED[0]},
    }
    for path in (folder / bundle.MODEL, run / "onnx" / "model.onnx"):
        model = onnx.load(path)
        model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = sentence
        onnx.helper.set_model_props(model, model_metadata.metadata(content) | {"other": sentence})
        onnx.save(model, path)
    bundle.write_description(folder, content)
    parity = rundir.read_json(folder / bundle.PARITY)
    rundir.write_json(folder / bundle.PARITY, parity | {"note": sentence})
    rundir.write_json(
        folder / bundle.EXAMPLES / bundle.EXPECTED, {"1.png": {"label": "bee", "note": sentence}}
    )
    bundle.finish(folder)
    rundir.write_json(
        folder / bundle.TIMING,
        rundir.read_json(folder / bundle.TIMING) | {"machine": sentence, "by": "bobby"},
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = made_finished(tmp_path_factory.mktemp("planted"))
    plant(run)
    replant_bundle(run)
    return run


def stage(run: Path, into: Path, **how: Any) -> dict[str, Path]:
    return staging.staged(run, into, **{"repo": "alice/insects", "examples": True} | how)


def test_no_planted_word_is_in_any_staged_byte(planted: Path, tmp_path: Path) -> None:
    files = stage(planted, tmp_path)
    assert {
        "README.md",
        "metrics.jsonl",
        "figures/reliability.svg",
        "bundles/onnx/timing.json",
        "bank.safetensors",
        "onnx/model.onnx",
        "bundles/onnx/examples/expected.json",
        "bundles/onnx/examples/1.png",
    } <= set(files)
    for name, path in files.items():
        content = path.read_bytes().lower()
        assert path.is_file()
        assert not path.is_symlink()
        assert not [word for word in WORDS if word.lower().encode() in content], name
    assert load_file(files[rundir.WEIGHTS]).keys() == load_file(planted / rundir.WEIGHTS).keys()
    copy = tmp_path / "copy"
    for name, path in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(path.read_bytes())
    rundir.open_finished(copy, verify=True)
    opened = bundle.open_bundle(copy)
    [described] = [
        note.value
        for note in onnx.load(opened.model).metadata_props
        if note.key == model_metadata.METADATA
    ]
    assert model_metadata.differences(opened, described) == []


def test_what_no_manifest_lists_is_not_sent(tmp_path: Path) -> None:
    run, secret = made_finished(tmp_path / "run"), tmp_path / "secret.json"
    secret.write_text('{"auth": "REGISTRY"}')
    folder = run / bundle.BUNDLES / "onnx"
    (folder / bundle.PARITY).unlink()
    (folder / bundle.PARITY).symlink_to(secret)
    (folder / bundle.EXAMPLES / "7.png").symlink_to(secret)
    (folder / bundle.TIMING).unlink()
    (folder / bundle.TIMING).symlink_to(secret)
    manifest = rundir.read_json(folder / bundle.FINISHED)
    del manifest["files"][bundle.PARITY]
    rundir.write_json(folder / bundle.FINISHED, manifest)
    try:
        files = stage(run, tmp_path / "staged")
    except UserError:
        return  # a run with links is refused altogether: better still
    assert not [
        name
        for name, path in files.items()
        if b"REGISTRY" in path.read_bytes() or path.is_symlink()
    ]


def test_a_listed_link_is_refused(tmp_path: Path) -> None:
    run, secret = made_finished(tmp_path / "run"), tmp_path / "metrics"
    secret.write_bytes((run / rundir.METRICS).read_bytes())
    (run / rundir.METRICS).unlink()
    (run / rundir.METRICS).symlink_to(secret)
    with pytest.raises(UserError):
        stage(run, tmp_path / "staged")


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 12,
        "api_org_" + "aB3" * 12,
        "hf_oauth_" + "aB3" * 12,
        "ghp_" + "a1" * 18,
        "AKIA" + "A1" * 8,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "my-own-gateway-token",
    ],
)
def test_tokens_are_refused(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "my-own-gateway-token")
    path = tmp_path / "data.json"
    path.write_text(f'{{"x": "{token}"}}')
    with pytest.raises(UserError, match=r"data\.json holds .*access token: .*revoke it") as refused:
        Private((), (), frozenset(), frozenset()).refuse({"data.json": path})
    assert token not in str(refused.value)
    path.write_text("hf_hub_download and hf-hub:api/org and 0123456789")
    Private((), (), frozenset(), frozenset()).refuse({"data.json": path})


def test_a_folder_that_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x00node /data/alice/x\x00")
    with pytest.raises(UserError, match="still names a folder of this machine"):
        Private(("/data/alice",), (), frozenset(), frozenset()).refuse({"model.onnx": path})


def test_what_a_run_and_this_machine_know(planted: Path) -> None:
    known = Private.of_run(planted)
    assert {str(Path.cwd()), str(planted), str(planted.parent)} <= set(known.roots)
    assert str(Path(rundir.read_json(planted / rundir.LOCAL)["data"]).parent) in known.roots
    assert "ant/Alice Smith passport.jpg" in known.pictures
    assert private.PICTURE in known.cut("1 of 3 left out: ant/Alice Smith passport.jpg (cut)")
