"""The command line, and a service behind credentials and a proxy's prefix."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serve import start
from serve.http.life import _listen
from serve.options import ServiceOptions
from tests import warm
from tests.bad_pictures import encode, photo
from tests.serve.running import ROOT, Running, ask, running
from zoo.contract import rundir
from zoo.host.errors import UserError


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run(warm.GRADIO, ["-m", "serve", *arguments])


def test_the_flags_are_these() -> None:
    assert [field.name for field in dataclasses.fields(ServiceOptions)] == [
        "bundle",
        "host",
        "port",
        "api_only",
        "watch",
        "auth",
        "token",
        "allow_origin",
        "root_path",
        "feedback",
        "provider",
        "self_check",
        "workers",
        "queue",
        "deadline_s",
        "decode_s",
        "max_body_mb",
        "max_megapixels",
    ]
    shown = run("--help").stdout
    for flag in (
        "--api-only",
        "--watch",
        "--auth",
        "--token",
        "--allow-origin",
        "--root-path",
        "--feedback",
        "--no-self-check",
    ):
        assert flag in shown


def test_a_run_without_a_bundle_is_told_the_export(tmp_path: Path) -> None:
    rundir.write_json(tmp_path / rundir.CONFIG, {})
    rundir.finish(tmp_path)
    ran = run(tmp_path, "--api-only")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"Export it: python -m export {tmp_path} --to onnx" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"root_path": "x"}, "prefix such as /tools/pets"),
        *(({"root_path": path}, "prefix") for path in ("/x/", "/a//b", "/a?b", "/a <b>", "/é")),
        ({"host": ""}, "--host: expected an address"),
        ({"port": 70_000}, "--port 70000: expected 65535 or less"),
        ({"workers": 100_000}, "--workers 100000: expected 256 or less"),
        ({"auth": "user"}, "no colon"),
        ({"auth": ":secret"}, "empty half"),
        ({"auth": "user:pass\nword"}, "--auth: .* line break"),
        *(({"token": token}, "--token") for token in ("", "a\n", "a\nb", " a", "a b", "\x00")),
        ({"queue": 0}, "--queue 0: expected 1"),
        ({"deadline_s": 0.0}, "--deadline-s"),
        ({"decode_s": 0.0}, "--decode-s"),
        ({"api_only": True, "feedback": Path("x")}, "no effect"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ServiceOptions(Path("run"), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ZOOTUNE_AUTH", "user"), ("ZOOTUNE_AUTH", "a:b\n"), ("ZOOTUNE_TOKEN", "t0ken\n")],
)
def test_keys_of_the_environment_are_checked_too(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}: expected"):
        start._keys(ServiceOptions(Path("run")))
    start._keys(ServiceOptions(Path("run"), auth="a:b:c", token="t0ken"))  # flags come first


def test_an_alias_of_your_own_serves(
    tmp_path: Path, pulled_from_the_hub: Callable[[Path], list[str]]
) -> None:
    pulled = pulled_from_the_hub(tmp_path / "pulled")
    for name in ("mine", "hf-hub:user/other"):
        assert start.local(Path(name)) == tmp_path / "pulled"
    assert pulled == ["mine", "hf-hub:user/other"]
    for name in ("others", "runs/mine"):
        assert start.local(Path(name)) == Path(name)
    (tmp_path / "mine").mkdir()  # what is here comes first
    assert start.local(Path("mine")) == Path("mine")


def test_credentials_and_prefix(served: Path, tmp_path: Path) -> None:
    """Basic and Bearer over page and API, health apart; the prefix stripped by the proxy or
    kept."""
    with (
        running(
            tmp_path / "log",
            served,
            "--root-path",
            "/tools/pets",
            ZOOTUNE_AUTH="ann:pässword",
            ZOOTUNE_TOKEN="t0ken",
        ) as service,
        httpx.Client(verify=False) as client,
    ):
        url = service.url.removesuffix("/tools/pets")
        for path in ("/healthz", "/readyz", "/tools/pets/healthz"):
            assert client.get(url + path).status_code == 200
        good = [httpx.BasicAuth("ann", "pässword"), httpx.BasicAuth("anyone", "t0ken")]
        bad = [
            None,
            httpx.BasicAuth("ann", "password"),
            httpx.BasicAuth("ann", ""),
            httpx.BasicAuth("pässword", "ann"),
        ]
        for path in (
            "/",
            "/config",
            "/v1/models",
            "/metrics",
            "/gradio_api/info",
            "/gradio_api/file=/etc/passwd",
            "/tools/pets/v1/models",
            "/openapi.json",
        ):
            for auth in bad:
                # or it would have to wait
                assert client.get(f"{url}/version", auth=good[0]).status_code == 200
                answer = client.get(url + path, auth=auth)
                assert (answer.status_code, set(answer.json())) == (401, {"error"}), path
                assert answer.headers["www-authenticate"].startswith("Basic ")
        for header in (
            "Bearer",
            "Bearer wrong",
            "Bearer t0ken2",
            "Basic t0ken",
            "Digest t0ken",
            "Basic =",
            "t0ken",
        ):
            assert (
                client.get(f"{url}/v1/models", headers={"authorization": header}).status_code == 401
            )
            assert client.get(f"{url}/version", auth=good[0]).status_code == 200
        for path in (
            "/config",
            "/v1/models",
            "/tools/pets/",
            "/tools/pets/config",
            "/tools/pets/v1/models",
        ):
            for auth in good:
                assert client.get(url + path, auth=auth).status_code == 200, path
            assert (
                client.get(url + path, headers={"authorization": "Bearer t0ken"}).status_code == 200
            )
            if path.endswith("config"):
                config = client.get(
                    url + path, auth=good[0], headers={"host": "example.org"}
                ).json()
                assert config["root"] == "http://example.org/tools/pets"
        client.auth = good[0]
        assert ask(f"{url}/tools/pets", encode(photo(), "PNG"), client=client).status_code == 200
        assert service.stop() == 0


def test_a_port_that_is_taken(service: Running, served: Path) -> None:
    ran = run(served, "--api-only", "--port", service.url.rpartition(":")[2])
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Choose another port" in ran.stderr


def test_a_host_that_there_is_not() -> None:
    with pytest.raises(
        UserError, match=r"--host a\.\.b .*not known\. Name an address of this machine"
    ):
        _listen("a..b", 0)


def test_it_is_ready_in_a_moment(served: Path, tmp_path: Path) -> None:
    def python_s() -> float:
        """This machine's speed now: about 0.3 s when it is quiet."""
        started = time.monotonic()
        command = [sys.executable, "-m", "serve", "--help"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - started

    before = python_s()
    with running(tmp_path / "log", served, "--api-only", imports=None) as service:
        # before and after, as other work may begin in between
        assert service.started_s < max(1.5, 6 * max(before, python_s()))
