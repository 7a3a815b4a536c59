"""The API over real HTTP: the same numbers as the predictor, and a sentence for everything that is
refused."""

import base64
import gzip
import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engine.decoder import FORMATS
from serve.http import routes
from serve.limits.origins import Origins, are_hosts, joined_headers
from tests.bad_pictures import BAD, ODD, encode, photo
from tests.serve.running import Running, ask
from tests.zoo.made_bundle import LABELS
from zoo.answer.predict import Predictor
from zoo.host.errors import UserError

TIFFS = {name for name in ODD if name.endswith(".tif")}


@pytest.fixture(scope="module")
def predictor(served: Path) -> Predictor:
    return Predictor(served)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


def probabilities(said: dict[str, Any]) -> dict[str, float]:
    return {row["label"]: row["probability"] for row in said["top"]}


def expected(predictor: Predictor, picture: bytes) -> dict[str, float]:
    return dict(zip(LABELS, map(float, predictor.predict(picture).probabilities), strict=True))


# --- answers


def test_every_form_of_request_gets_the_predictors_numbers(
    service: Running, predictor: Predictor, client: httpx.Client
) -> None:
    for name in sorted(set(ODD) - TIFFS):
        picture = ODD[name][0]()
        encoded = base64.b64encode(picture).decode()
        answers = [
            ask(service.url, picture, client=client),
            *(
                client.post(f"{service.url}/v1/predict", json={"images": [text]})
                for text in (encoded, f"data:image/png;base64,{encoded}")
            ),
        ]
        for answer in answers:
            assert answer.status_code == 200, (name, answer.text)
            assert probabilities(answer.json()["predictions"][0]) == expected(predictor, picture), (
                name
            )


def test_base64_is_taken_as_programs_write_it(
    service: Running, predictor: Predictor, client: httpx.Client
) -> None:
    picture = encode(photo(41, 30), "PNG")
    while len(picture) % 3 != 1:
        picture += b"\0"  # after the end of the picture, so that there is padding to omit
    text = base64.b64encode(picture).decode()
    forms = [
        base64.encodebytes(picture).decode(),
        base64.urlsafe_b64encode(picture).decode(),
        text.rstrip("="),
        text[:-1],
        text.replace("A", "\r\n\tA "),
        f" {text}\n",
        f"DATA:image/png;base64,{text}",
        f"Data:;Base64,{text.rstrip('=')}",
        f"data:image/png;charset=x;base64,{text}",
    ]
    answer = client.post(f"{service.url}/v1/predict", json={"images": forms})
    assert answer.status_code == 200, answer.text
    for prediction in answer.json()["predictions"]:
        assert probabilities(prediction) == expected(predictor, picture)
    for form in (
        "A",
        "AAAAA",
        "A=AA",
        "AA=A",
        "==",
        "data:",
        "data:image/png;base64",
        "AAAA!",
        "AA\u00a0AA",
        "é",
    ):
        assert (
            client.post(f"{service.url}/v1/predict", json={"images": [form]}).status_code == 422
        ), form


def test_many_pictures_keep_their_order(service: Running, predictor: Predictor) -> None:
    pictures = [encode(photo(40 + 3 * place, 50), "PNG") for place in range(16)]
    said = ask(service.url, *pictures, top_k=2).json()
    assert said["model"]["digest"] == predictor.bundle.model_sha256
    for picture, one in zip(pictures, said["predictions"], strict=True):
        assert len(one["top"]) == 2
        assert probabilities(one).items() <= expected(predictor, picture).items()


def test_map_and_features_come_when_asked_for(service: Running, predictor: Predictor) -> None:
    picture = encode(photo(), "PNG")
    plain = ask(service.url, picture).json()["predictions"][0]
    assert not {"heatmap", "embedding"} & set(plain)
    full, own = (
        ask(service.url, picture, heatmap=True, embedding=True).json()["predictions"][0],
        predictor.predict(picture),
    )
    assert own.heatmap is not None
    assert (full["heatmap"], full["embedding"]) == (own.heatmap.tolist(), own.embedding.tolist())
    assert full["unknown_score"] == own.unknown_score


def test_unknown_has_no_label_but_nearest_classes(service: Running) -> None:
    grey = ask(service.url, encode(photo().convert("L"), "PNG")).json()["predictions"][0]
    assert (grey["label"], grey["unknown"]) == (None, True)
    assert len(grey["top"]) == 3


def test_it_says_what_it_serves(service: Running, predictor: Predictor) -> None:
    (model,) = httpx.get(f"{service.url}/v1/models").json()["models"]
    assert (model["labels"], model["digest"]) == (list(LABELS), predictor.bundle.model_sha256)
    assert httpx.get(f"{service.url}/version").json()["zootune"]
    for route in ("healthz", "readyz"):
        assert httpx.get(f"{service.url}/{route}").status_code == 200
    ask(service.url, b"")
    numbers = httpx.get(f"{service.url}/metrics").text
    for line in (
        r'zootune_requests_total\{route="/v1/predict",status="200"\} \d',
        r"zootune_queue 0\.0",
        r'zootune_rejections_total\{reason="picture"\} \d',
        r'zootune_model\{digest="' + model["digest"],
        r'zootune_request_seconds_bucket\{le="0.05",route="/v1/predict"\} \d',
    ):
        assert re.search(line, numbers), line


# --- refusals


def one_sentence(answer: httpx.Response) -> str:
    """The error, which tells nothing about this machine."""
    sentence = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert re.fullmatch(r"[A-Z“'\"a-z][^\n]*\.", sentence), sentence
    assert not re.search(
        r"Traceback|File \"|/(tmp|work|root|home|usr|etc)/|0x[0-9a-f]{6}|\.py\b", answer.text
    )
    return str(sentence)


@pytest.mark.parametrize("name", sorted(set(BAD) | TIFFS))
def test_a_bad_picture_is_told_why(name: str, service: Running, client: httpx.Client) -> None:
    make, reason = BAD[name] if name in BAD else (ODD[name][0], "")
    answer = ask(service.url, make(), client=client)
    assert answer.status_code == (413 if "too large" in reason and "damaged" not in reason else 422)
    sentence = one_sentence(answer)
    assert sentence.startswith("Picture: ")
    if name.endswith(".tif"):
        assert sentence == "Picture: TIFF; expected a JPEG, PNG, WebP, BMP or GIF picture."
    elif "expected" not in reason:
        # this service's own limit
        assert re.search(reason.replace("50 million", "25 million"), sentence)


def test_visitors_are_told_formats_and_not_what_to_install(service: Running) -> None:
    for brand in (b"heic", b"mif1", b"avif"):
        sentence = one_sentence(ask(service.url, b"\0\0\0\x18ftyp" + brand + bytes(500)))
        assert "expected a JPEG, PNG, WebP, BMP or GIF picture" in sentence
        assert "pip" not in sentence


def test_tiff_is_not_for_strangers() -> None:
    assert FORMATS == ("JPEG", "PNG", "WEBP", "BMP", "GIF")


def test_the_bad_one_of_many_is_named_by_its_place(service: Running) -> None:
    good = encode(photo(), "PNG")
    answer = ask(service.url, good, b"<svg>", good, name="../../etc/passwd")
    assert answer.status_code == 422
    assert one_sentence(answer).startswith("Picture 2: an SVG drawing; expected a JPEG")


JSONS = (
    '{"path": "/etc/passwd"}',
    '{"images": []}',
    '{"images": ["/etc/passwd"]}',
    '{"images": ["file:///etc/passwd"]}',
    '{"images": ["http://127.0.0.1/x.png"]}',
    '{"images": "x"}',
    '{"images": [{"path": "/etc/passwd"}]}',
    "[" * 9999,
    '{"images": ["AAAA"], "path": "/etc/passwd"}',
    '{"images": ["data:text/html,<b>"]}',
    "",
    "\0",
    '{"images": ["\\ud800"]}',
)


@pytest.mark.parametrize("body", JSONS)
def test_json_that_holds_no_picture(body: str, service: Running) -> None:
    answer = httpx.post(
        f"{service.url}/v1/predict", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    one_sentence(answer)


def test_other_requests_that_make_no_sense(service: Running) -> None:
    url, picture = f"{service.url}/v1/predict", encode(photo(), "PNG")
    form = {"content-type": "multipart/form-data; boundary=x"}
    for answer, status in (
        (httpx.post(url, content=picture, headers={"content-type": "image/png"}), 415),
        (httpx.post(url), 415),
        (httpx.post(url, data={"file": "text"}, files={"other": picture}), 422),
        (httpx.post(url, content=b"rubbish", headers=form), 400),
        (httpx.post(url, content=b"", headers={"content-type": "multipart/form-data"}), 400),
        (httpx.post(url, files=[("file", ("x", b"x"))] * 1001), 400),
        (ask(service.url, picture, top_k=0), 422),
        (ask(service.url, picture, top_k="x"), 422),
    ):
        assert answer.status_code == status, answer.text
        one_sentence(answer)


# --- sizes


def test_a_large_body_is_refused_before_it_is_read(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 200000000\r\n\r\n"
        )
        answer = connection.recv(4096).decode()
        while not answer.endswith("}"):
            answer += connection.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "at most 20 MB are accepted" in answer


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
def test_a_compressed_body_is_told_as_that(encoding: str, service: Running) -> None:
    answer = httpx.post(
        f"{service.url}/v1/predict",
        content=gzip.compress(encode(photo(), "PNG")),
        headers={"content-encoding": encoding, "content-type": "image/png"},
    )
    assert answer.status_code == 415
    assert "Expected a body that is not compressed" in answer.json()["error"]


def test_a_body_that_lied_about_its_size_is_cut_off(service: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield bytes(100_000)

    for kind in ("application/json", "multipart/form-data; boundary=x"):
        answer = httpx.post(
            f"{service.url}/v1/predict",
            content=endless(),
            headers={"content-type": kind},
            timeout=30,
        )
        assert answer.status_code in (400, 413)
        one_sentence(answer)


def test_a_sender_of_too_much_gets_to_read_why(service: Running) -> None:
    answer = httpx.post(f"{service.url}/v1/predict", files={"file": bytes(25_000_000)}, timeout=30)
    assert answer.status_code == 413
    assert one_sentence(answer) == "The request is too large: at most 20 MB are accepted."


def test_any_host_name_is_fine_and_rubbish_is_refused(service: Running) -> None:
    for path in ("/config", "/v1/models", "/"):
        assert (
            httpx.get(service.url + path, headers={"host": "pets.example:8080"}).status_code == 200
        )
        for rubbish in ("a b", "x/../y", "<script>", "é"):
            answer = httpx.get(service.url + path, headers={"host": rubbish.encode()})
            assert answer.status_code == 400


def test_host_names_of_proxies_are_host_names(service: Running) -> None:
    for names, status in (
        ("pets.example", 200),
        ("pets.example, 10.0.0.1:80", 200),
        ("<script>", 400),
        ("a b", 400),
        ("x, y/z", 400),
        ("[::1]:7860, PETS.example", 200),
        ("[::1", 400),
        ("x:1:2", 400),
        ("a" * 300, 400),
    ):
        answer = httpx.get(f"{service.url}/config", headers={"x-forwarded-host": names})
        assert answer.status_code == status, names
        assert "pets.example" not in answer.text
    for two in ((b"<b>", b"pets.example"), (b"pets.example", b"other.example")):
        assert not are_hosts(joined_headers([(b"host", name) for name in two]))
    httpx.get(f"{service.url}/gradio_api/info", headers={"host": "first.example"})
    # Gradio keeps what it wrote first
    assert "first.example" not in httpx.get(f"{service.url}/gradio_api/info").text


# --- other sites


FOREIGN = (
    "https://evil.example",
    "null",
    "",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://pets.example.evil.example",
    "https://pets.example:444",
    "file://",
    "chrome-extension://x",
    "http://pets.example/x",
)


def test_no_other_site_may_read_answers(service: Running, client: httpx.Client) -> None:
    for path in ("/v1/models", "/config", "/", "/gradio_api/info"):
        for origin in FOREIGN:
            answer = client.get(
                service.url + path, headers={"origin": origin, "host": "pets.example"}
            )
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.headers["x-content-type-options"] == "nosniff"


CHANGES = (
    "/v1/predict",
    "/gradio_api/call/correct",
    "/gradio_api/queue/join",
    "/gradio_api/upload",
    "/gradio_api/run/x",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)


def test_no_other_site_may_change_anything(service: Running, client: httpx.Client) -> None:
    for path in CHANGES:
        for origin in FOREIGN:
            answer = client.post(
                service.url + path, headers={"origin": origin, "host": "pets.example"}
            )
            assert answer.status_code == 403, (path, origin)
            assert "--allow-origin" in one_sentence(answer)
        assert (
            client.post(service.url + path, headers={"sec-fetch-site": "cross-site"}).status_code
            == 403
        )
        asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        assert client.options(service.url + path, headers=asked).status_code == 403
    own_name = {b"host": b"pets.example"}
    for name, site in (
        *((name, None) for name in (b"http://pets.example:443", b"https://pets.example:80")),
        *((name, None) for name in (b"http://pets.example.", b"http://own@pets.example")),
        *((b"http://pets.example", site) for site in (b"cross-site", b"same-site")),
        *((None, site) for site in (b"cross-site", b"same-site")),
    ):
        says = {b"origin": name, b"sec-fetch-site": site}
        foreign = own_name | {header: value for header, value in says.items() if value is not None}
        assert not Origins().may_change(foreign), foreign
    assert Origins().may_change(own_name | {b"sec-fetch-site": b"none"})
    for names in (["http://pets.example", "https://evil.example"], ["null", "http://pets.example"]):
        twice = [("host", "pets.example"), *(("origin", name) for name in names)]
        assert client.post(f"{service.url}/v1/predict", headers=twice).status_code == 403
    picture = {"file": encode(photo(), "PNG")}
    for origin, host in (
        ("http://pets.example", "pets.example"),
        ("https://pets.example", "pets.example"),
        ("https://pets.example", "PETS.example:443"),
        ("http://[::1]:7860", "[::1]:7860"),
    ):
        own = {"origin": origin, "host": host}
        assert (
            client.post(f"{service.url}/v1/predict", files=picture, headers=own).status_code == 200
        )
    behind = {
        "origin": "https://pets.example",
        "host": "10.0.0.7:7860",
        "sec-fetch-site": "same-origin",
    }
    assert (
        client.post(f"{service.url}/v1/predict", files=picture, headers=behind).status_code == 200
    )


def test_a_site_that_is_named_may_use_the_service() -> None:
    # browsers leave out the port of their scheme
    origins = Origins(["https://pets.example:443", "http://10.0.0.5:80", "http://10.0.0.6:443"])
    for sent, allowed in ((b"http://10.0.0.5", True), (b"http://10.0.0.6", False)):
        assert origins.may_change({b"origin": sent, b"host": b"service.example"}) is allowed
    named = {b"origin": b"https://pets.example", b"host": b"service.example"}
    assert origins.may_change(named)
    assert dict(origins.on_answer(named))[b"access-control-allow-origin"] == b"https://pets.example"
    assert origins.is_preflight("OPTIONS", named | {b"access-control-request-method": b"POST"})
    for foreign in (b"https://pets.example.evil.example", b"http://pets.example", b"null"):
        other = named | {b"origin": foreign}
        assert not origins.may_change(other)
        assert origins.on_answer(other) == [(b"vary", b"Origin")]
        assert not origins.is_preflight(
            "OPTIONS", other | {b"access-control-request-method": b"POST"}
        )
    for wrong in (
        "*",
        "null",
        "pets.example",
        "https://pets.example/",
        "https://PETS.example",
        "https://a b",
        "",
    ):
        with pytest.raises(UserError, match="--allow-origin"):
            Origins([wrong])


# --- methods and slashes

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def test_every_path_answers_its_methods_and_names_them_for_others(
    service: Running, client: httpx.Client
) -> None:
    """Also of the page, which is mounted over all that the API does not know."""
    for path, methods in [
        *((path, routes.methods(path, page=False)) for path in routes.API),
        ("/", ("GET", "HEAD")),
        ("/config", ("GET", "HEAD")),
        ("/gradio_api/upload", ("POST",)),
        ("/gradio_api/heartbeat/x", ("GET",)),
        ("/gradio_api/info", ("GET", "HEAD")),
    ]:
        for method in METHODS:
            if method in methods and method not in ("HEAD", "POST") and "heartbeat" in path:
                continue
            answer = client.request(method, service.url + path)
            assert (answer.status_code == 405) == (method not in methods), (method, path)
            assert answer.status_code < 500
            if method not in methods:
                assert set(answer.headers["allow"].split(", ")) == set(methods)
                assert method == "HEAD" or one_sentence(answer)
            if method == "HEAD" and "HEAD" in methods:
                whole = client.get(service.url + path)
                assert (answer.status_code, answer.content) == (200, b"")
                assert answer.headers["content-type"] == whole.headers["content-type"]
        for slashes in ("/", "//"):
            answer = (
                client.get(service.url + path.rstrip("/") + slashes)
                if path != "/"
                else client.get(f"{service.url}//nothing/")
            )
            assert answer.status_code == 404
            assert one_sentence(answer).startswith("Not found")
    for path in (
        "/v1/<script>alert(1)</script>",
        "/%3Cimg%20src=x%3E",
        "/v1/predict%00",
        "/v1/models;x=<b>",
    ):
        answer = client.get(service.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
        assert one_sentence(answer) == "Not found."


ODD_PATHS = (
    *(
        "/",
        "//",
        "/v1",
        "/v1//predict",
        "/v1/%2e%2e/metrics",
        "/assets/",
        "/assets/x",
        "/assets/a/b",
    ),
    *(
        "/static/x",
        "/static/img",
        "/static/..",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/call/x/y",
    ),
    *("/gradio_api/upload_progress?upload_id=x", "/gradio_api/run/x", "/gradio_api/cancel", "/%ff"),
    *(
        "/gradio_api/reset",
        "/gradio_api/upload",
        "/x?" + "a" * 5_000,
        "/" + "a" * 3_000,
        "*",
        "/a\xff",
    ),
    *("/theme.css", "http://evil@x/v1/models", "/v1/models;x", "/..", "x", ""),
)


@pytest.mark.parametrize("method", [*METHODS, "CONNECT", "get", "QUERY"])
def test_every_error_holds_one_sentence(service: Running, method: str) -> None:
    """Also those that FastAPI, Gradio, StaticFiles and uvicorn answer on their own."""
    host, port = service.url.removeprefix("http://").split(":")
    errors = 0
    for path in ODD_PATHS:
        for body in ("", "{}"):
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall((head + body).encode("latin-1"))
                answer = HTTPResponse(connection, method=method)
                answer.begin()
                content = answer.read()
            assert answer.status < 500, path
            if answer.status < 400:
                continue
            errors += 1
            assert answer.getheader("content-type") == "application/json", path
            assert method == "HEAD" or [*json.loads(content)] == ["error"], path
    assert errors >= len(ODD_PATHS)
