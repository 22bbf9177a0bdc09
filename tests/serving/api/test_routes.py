"""What the table of routes says of each is so."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.api.openapi import describe
from serving.api.routes import ROUTES, Audience, Route, find
from serving.operations.metrics import REQUESTS
from tests.conftest import free_port
from tests.serving.app import running
from tests.serving.server import OPERATOR, assert_problem, operator_key

NAMES = {"/page/{name}": "main.js", "/examples/{name}": "gate.jpg"}
CAMERA = {"x-api-key": "of the camera"}

every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


def path_of(route: Route) -> str:
    return route.path.replace("{name}", NAMES.get(route.path, "tiny"))


@pytest.fixture(scope="module")
def guarded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service with keys and one port."""
    with running(model, keys=operator_key(tmp_path_factory.mktemp("keys"))) as app, app.client() as client:
        yield client


@pytest.fixture(scope="module")
def public(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service that has another port for its operators."""
    keys = operator_key(tmp_path_factory.mktemp("keys"))
    with running(model, keys=keys, private_port=free_port()) as app, app.client(**OPERATOR) as client:
        yield client


@every_route
def test_who_may_call(guarded: httpx.Client, route: Route) -> None:
    def status(headers: dict[str, str]) -> int:
        return guarded.request(route.method, path_of(route), headers=headers).status_code

    needs_key = route.audience in (Audience.KEY, Audience.ADMIN)
    assert (status({}) == 401) == needs_key
    assert (status(CAMERA) == 403) == (route.audience is Audience.ADMIN)
    assert status(OPERATOR) == (400 if route.path.startswith("/v1/derain") else 200)  # there is no body


@every_route
def test_other_methods_are_refused_by_naming_those_that_there_are(
    guarded: httpx.Client, route: Route
) -> None:
    answer = guarded.request("PUT", path_of(route), headers=OPERATOR)
    assert_problem(answer, 405)
    assert route.method in answer.headers["allow"].split(", ")


@every_route
def test_what_is_for_operators_moves_to_their_port(public: httpx.Client, route: Route) -> None:
    """Not even an operator's key shows that it would be there."""
    answer = public.request(route.method, path_of(route))
    assert (answer.status_code == 404) == (route.audience in (Audience.PRIVATE, Audience.ADMIN))


@every_route
def test_requests_are_counted_under_its_template(guarded: httpx.Client, route: Route) -> None:
    def counted() -> float:
        samples = [sample for metric in REQUESTS.collect() for sample in metric.samples]
        return sum(
            each.value
            for each in samples
            if each.name.endswith("_total") and each.labels["route"] == route.path
        )

    before = counted()
    guarded.request(route.method, path_of(route))
    assert counted() == before + 1


@every_route
def test_a_path_is_of_one_route(route: Route) -> None:
    assert find(path_of(route)) is route
    assert len([other for other in ROUTES if other.path == route.path]) == 1


@every_route
def test_the_description_has_what_programs_call(route: Route) -> None:
    described = describe(ROUTES)["paths"].get(route.path, {})
    assert set(described) == ({route.method.lower()} if route.operation is not None else set())


@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/models", "/admin/nothing", "/v1//derain"])
@pytest.mark.parametrize("headers", [{}, CAMERA, OPERATOR], ids=["none", "camera", "operator"])
def test_a_path_that_is_not_there_is_not_whoever_asks(
    guarded: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert_problem(guarded.get(path, headers=headers), 404)
