"""A Hub token in the environment of a service is in none of its answers and not in its log."""

import httpx

from tests.hub_server import TOKEN
from tests.serve.running import Running, ask, noise_png


def test_the_token_is_in_no_answer_and_not_in_the_log(service: Running) -> None:
    with httpx.Client(verify=False, timeout=60) as client:
        answers = [
            ask(service.url, noise_png(64), client=client),
            ask(service.url, b"no picture", client=client),
            ask(service.url, client=client),
        ]
        answers += [
            client.get(service.url + path)
            for path in (
                "/",
                "/config",
                "/openapi.json",
                "/metrics",
                "/readyz",
                "/v1/nothing",
                "/gradio_api/info",
                "/gradio_api/file=/proc/self/environ",
                "/../../proc/self/environ",
            )
        ]
    assert {200, 404} < {answer.status_code for answer in answers}
    for answer in answers:
        assert TOKEN not in answer.text + str(answer.headers)
        assert "Traceback" not in answer.text
    assert TOKEN not in service.log.read_text(encoding="utf-8")
