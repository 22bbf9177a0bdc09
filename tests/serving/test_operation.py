"""The service as its operators have it: reloads, load, keys; what needs processes is in system/."""

import asyncio
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from derain.errors import DerainError
from derain.images.formats import JPEG, PNG
from derain.images.plain import encode
from derain.models.registry import Registry
from serving.operations.metrics import PIXELS, QUEUE_IMAGES, REJECTED, RELOADS, WORK_IMAGES
from serving.pipeline.model_pool import check_default
from serving.settings import Settings, settings_or_exit
from tests.conftest import free_port, noise, scene, write_model
from tests.serving.app import App, call, running
from tests.serving.faults import FAULTS
from tests.serving.server import OPERATOR, assert_problem, operator_key, traffic, until

RAINY = encode(noise(97, 130), PNG)
LARGE = encode(scene(900, 900), JPEG)  # keeps the slow model busy for half a second or so


def sha256(model: Path) -> str:
    return hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "slow", channels=64)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return operator_key(tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two models, the first one in service."""
    models = tmp_path / "models"
    write_model(models / "old", channels=4)
    write_model(models / "new", channels=5)
    registry = Registry(models)
    registry.promote("old", "the first one")
    return registry


def test_a_new_model_and_back_without_losing_a_request(registry: Registry, keys: Path) -> None:
    old, new = (sha256(registry.folder(name)) for name in ("old", "new"))
    counted = {outcome: RELOADS.labels(outcome)._value.get() for outcome in ("swapped", "unchanged")}
    with running(None, models=registry.folder("old").parent, keys=keys) as server:
        with traffic(server, RAINY) as answers, server.client() as client:
            client.headers.update(OPERATOR)

            def reload() -> tuple[str, str, str]:
                told = client.post("/admin/reload").raise_for_status().json()
                served = client.get(f"/v1/models/{told['name']}").json()
                assert served["sha256"] == told["sha256"]
                assert client.post("/v1/derain", content=RAINY).headers["x-derain-model"] == told["name"]
                return told["outcome"], told["name"], told["sha256"]

            until(lambda: len(answers) > 5)
            assert reload() == ("unchanged", "old", old)
            registry.promote("new", "better")
            # Nothing happens until it is asked for.
            assert client.get("/v1/models").json()["default"] == "old"
            assert reload() == ("swapped", "new", new)
            registry.roll_back()
            assert reload() == ("swapped", "old", old)
            until(lambda: len(answers) > 30)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-derain-model"] for answer in answers} == {"old", "new"}
        with server.client() as client:
            metrics = client.get("/metrics").text
    outcomes = {outcome: RELOADS.labels(outcome)._value.get() - before for outcome, before in counted.items()}
    assert outcomes == {"swapped": 2, "unchanged": 1}
    assert f'derain_model_info{{model="old",provider="cpu",sha256="{old}"}} 1.0' in metrics
    assert f'derain_model_info{{model="new",provider="cpu",sha256="{new}"}} 0.0' in metrics


def test_a_model_that_cannot_be_served_is_refused_and_the_old_one_stays(
    registry: Registry, keys: Path
) -> None:
    models = registry.folder("old").parent
    for spoil in FAULTS:
        name = spoil.__name__
        write_model(models / name, channels=5)
    with running(None, models=models, keys=keys) as app, app.client(**OPERATOR) as client:
        for spoil in FAULTS:
            name = spoil.__name__
            registry.promote(name, "better")
            spoil(models / name)
            said = assert_problem(client.post("/admin/reload"), 409)
            assert "the model stays as it was" in said
            assert name in said
            assert client.get("/v1/models").json()["default"] == "old"
            assert client.post("/v1/derain", content=RAINY).headers["x-derain-model"] == "old"
            # The way back is the same call.
            registry.roll_back()
            client.post("/admin/reload").raise_for_status()
            assert client.post("/v1/derain", content=RAINY).headers["x-derain-model"] == "old"


@pytest.mark.parametrize("spoil", FAULTS)
def test_a_model_that_cannot_be_served_is_not_started_with(
    registry: Registry, spoil: Callable[[Path], None]
) -> None:
    """How that ends the process is in system/test_start.py."""
    models = registry.folder("old").parent
    spoil(models / "old")
    with pytest.raises((DerainError, OSError), match="old"):
        check_default(Settings(models=models))


def test_a_provider_that_is_not_there_is_not_started_with(model: Path) -> None:
    settings = Settings.model_validate({"model": model, "provider": "cuda"})
    with pytest.raises(DerainError, match="cuda was asked for, but the installed onnxruntime has only: cpu"):
        check_default(settings)


def test_other_models_that_are_broken_do_not_keep_the_default_from_serving(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does what is in the folder and is no model, or is hidden."""
    models = registry.folder("old").parent
    for spoil in FAULTS:
        spoil(write_model(models / spoil.__name__))
    (models / "notes").mkdir()
    shutil.copytree(models / "new", models / ".new.unfinished")
    (models / "README.md").write_text("models")
    check_default(Settings(models=models))  # in the process that starts workers, which says nothing of them
    with running(None, models=models) as app, app.client() as client:
        assert [each["name"] for each in client.get("/v1/models").json()["models"]] == ["new", "old"]
        said = assert_problem(client.post("/v1/derain?model=truncate", content=RAINY), 404)
        assert "but new, old" in said
        assert client.post("/v1/derain?model=new", content=RAINY).status_code == 200
    assert caplog.text.count("model truncate is not served: ") == 1


@pytest.mark.slow
def test_a_full_queue(slow: Path) -> None:
    with running(slow, parallel=1, queue=0, threads=1) as app, app.client() as client:
        with ThreadPoolExecutor(6) as callers:
            answers = list(callers.map(lambda _: client.post("/v1/derain", content=LARGE), range(6)))
        assert {answer.status_code for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert "try again" in assert_problem(answer, 429)
                assert int(answer.headers["retry-after"]) > 0
        assert client.post("/v1/derain", content=RAINY).status_code == 200


@pytest.mark.slow
def test_a_deadline(slow: Path) -> None:
    with running(slow, timeout_s=0.05, threads=1) as app, app.client() as client:
        response = client.post("/v1/derain", content=LARGE)
        assert "not done within 0.05 s" in assert_problem(response, 504)


def metric(value: float, gauge: object) -> Callable[[], bool]:
    return lambda: bool(gauge._value.get() == value)  # type: ignore[attr-defined]


@contextmanager
def busy(slow: Path) -> Iterator[tuple[httpx.Client, list[Future[httpx.Response]]]]:
    """A client of a service that has a large image in work, and three waiting."""
    with running(slow, threads=1, queue=8) as app, app.client() as client, ThreadPoolExecutor(4) as callers:
        large = [callers.submit(client.post, "/v1/derain", content=LARGE) for _ in range(4)]
        until(metric(3, QUEUE_IMAGES))
        yield client, large


@pytest.mark.slow
def test_probes_are_answered_while_all_that_can_be_is_in_work(slow: Path) -> None:
    with busy(slow) as (client, large):
        for path in ("/readyz", "/livez", "/v2/health/ready", "/v1/models"):
            assert client.get(path).status_code == 200
        assert not all(answer.done() for answer in large)
        assert {answer.result().status_code for answer in large} == {200}


@pytest.mark.slow
def test_a_small_image_does_not_wait_for_all_large_ones(slow: Path) -> None:
    with busy(slow) as (client, large):
        assert client.post("/v1/derain", content=RAINY).status_code == 200
        assert not all(answer.done() for answer in large)


async def disconnect_in_the_queue(app: App) -> list[int]:
    """The statuses of what was sent all the same."""
    gone = asyncio.Event()
    calling = asyncio.create_task(call(app.app, "/v1/derain", LARGE, gone))
    await asyncio.to_thread(until, metric(1, QUEUE_IMAGES))
    gone.set()
    messages = await calling
    await asyncio.to_thread(until, metric(0, QUEUE_IMAGES))
    return [message["status"] for message in messages if "status" in message]


@pytest.mark.slow
def test_a_caller_who_disconnects_leaves_the_queue(slow: Path) -> None:
    pixels, rejected = PIXELS.labels("slow"), REJECTED.labels("DisconnectedError")
    before = pixels._value.get(), rejected._value.get()
    with running(slow, threads=1, queue=8) as app, app.client() as client, ThreadPoolExecutor(1) as caller:
        in_work = caller.submit(client.post, "/v1/derain", content=LARGE)
        until(metric(1, WORK_IMAGES))
        assert app.run(disconnect_in_the_queue(app)) == [400]
        assert in_work.result().status_code == 200
    assert rejected._value.get() == before[1] + 1
    assert pixels._value.get() == before[0] + 900 * 900


def test_images_that_meet_are_one_run_where_that_is_asked_for(model: Path) -> None:
    with running(model, tile_batch=8, threads=1, parallel=8, monitor=False) as app:
        with app.client() as client:

            def runs(up_to: str) -> float:
                text = client.get("/metrics").text
                (count,) = re.findall(
                    rf'^derain_run_tiles_bucket{{le="{re.escape(up_to)}"}} (.+)$', text, re.M
                )
                return float(count)

            alone = runs("+Inf") - runs("1.0")  # of services before this one
            with traffic(app, RAINY, callers=8) as answers:
                until(lambda: runs("+Inf") - runs("1.0") > alone)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1


def test_keys(model: Path, keys: Path) -> None:
    with running(model, keys=keys, rate_per_minute=2) as app, app.client() as client:
        assert "a key is needed" in assert_problem(client.post("/v1/derain", content=RAINY), 401)
        camera = {"x-api-key": "of the camera"}
        answers = [client.post("/v1/derain", content=RAINY, headers=camera) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert_problem(client.post("/admin/reload", headers=camera), 403)
        assert client.get("/readyz").status_code == 200
        assert re.search(
            r'derain_residual_rain_probability_count\{key="camera"\} 2', client.get("/metrics").text
        )


# What a script may read of any answer, without being told so (the Fetch standard).
SAFE_HEADERS = {"cache-control", "content-length", "content-type", "last-modified"}
OF_NO_INTEREST = {"date", "server", "vary"}


def test_a_page_of_another_origin(model: Path, keys: Path) -> None:
    """Its preflight needs no key, and its script can read all that is said to it, errors as well."""
    page = {"origin": "https://example.com"}
    with running(model, keys=keys, cors_origins=page["origin"], rate_per_minute=1) as app:
        with app.client() as client:
            asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
            assert client.options("/v1/derain", headers=page | asked).status_code == 200
            camera = page | {"x-api-key": "of the camera"}
            answers = {
                200: client.post("/v1/derain", content=RAINY, headers=camera),
                401: client.post("/v1/derain", content=RAINY, headers=page),
                404: client.get("/nothing", headers=page),
                405: client.get("/v1/derain", headers=camera),
                429: client.post("/v1/derain/batch", headers=camera),
            }
        for status, answer in answers.items():
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == page["origin"]
            readable = answer.headers["access-control-expose-headers"].lower().split(", ")
            said = {name for name in answer.headers if not name.startswith("access-control-")}
            assert said - SAFE_HEADERS - OF_NO_INTEREST <= set(readable)


def test_two_apps_in_one_process_have_settings_of_their_own(model: Path) -> None:
    with running(model, max_bytes=10, page=False) as small, running(model) as large:
        client, other = small.client(), large.client()
        assert_problem(client.post("/v1/derain", content=RAINY), 413)
        assert other.post("/v1/derain", content=RAINY).status_code == 200
        assert client.get("/").content == client.get("/docs").content
        assert other.get("/").content != other.get("/docs").content


def test_what_is_on_the_private_port_is_not_on_the_public_one(model: Path, keys: Path) -> None:
    """With an operator's key or without; system/test_admin_port.py has it with BentoML around."""
    with running(model, keys=keys, private_port=free_port()) as app:
        for headers in ({}, OPERATOR):
            with app.client(**headers) as public:
                for path in ("/metrics", "/readyz", "/livez", "/healthz", "/v2/health/ready"):
                    assert_problem(public.get(path), 404)
                assert_problem(public.post("/admin/reload"), 404)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CORS_ORIGINS", "example.com", "DERAIN_CORS_ORIGINS: 'example.com' is no origin: write a scheme"),
        ("KEEP_ALIVE_S", "0", "DERAIN_KEEP_ALIVE_S: Input should be greater than or equal to 1"),
        ("QUEUE", "many", "DERAIN_QUEUE: Input should be a valid integer"),
        ("BUFFER_BYTES", "10", "DERAIN_BUFFER_BYTES is less than DERAIN_MAX_BYTES"),
    ],
)
def test_settings_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"DERAIN_{variable}", value)
    with pytest.raises(SystemExit) as ended:
        settings_or_exit()
    assert said in str(ended.value)
