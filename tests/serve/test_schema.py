"""Requests made from the OpenAPI document, valid and invalid ones: none may break the service."""

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from tests.serve.running import Running


def test_no_request_of_the_document_breaks_the_service(service: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {
        "/v1/predict",
        "/v1/models",
        "/healthz",
        "/metrics",
    }
    seen: set[int] = set()

    def ask(case: schemathesis.Case) -> None:
        answer = case.call(base_url=service.url)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=[not_a_server_error])

    for operation in operations:
        examples = 40 if operation.path == "/v1/predict" else 3
        case = operation.as_strategy()
        bounded = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        bounded(given(case=case)(ask))()
    assert {200, 422} <= seen
    assert httpx.get(f"{service.url}/readyz").status_code == 200
