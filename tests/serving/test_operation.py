"""The service as its operators have it: reloads, workers that die, shutdowns, the private port, keys."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import onnx
import pytest

from derain.images.formats import JPEG, PNG
from derain.images.plain import encode
from derain.models.registry import Registry
from tests.conftest import describe_model, free_port, noise, scene, write_model
from tests.serving.server import (
    END_S,
    OPERATOR,
    START_S,
    assert_problem,
    operator_key,
    serving,
    started,
    traffic,
)

pytestmark = pytest.mark.slow

RAINY = encode(noise(97, 130), PNG)
LARGE = encode(scene(1500, 1500), JPEG)  # keeps the slow model busy for a second or so


def sha256(model: Path) -> str:
    return hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()


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


def until(true: Callable[[], bool], longest_s: float = 30) -> None:
    deadline = time.monotonic() + longest_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_new_model_and_back_without_losing_a_request(
    registry: Registry, keys: Path, tmp_path: Path
) -> None:
    old, new = (sha256(registry.folder(name)) for name in ("old", "new"))
    with serving(None, tmp_path, models=registry.folder("old").parent, keys=keys) as server:
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
    outcomes = dict(re.findall(r'derain_model_reloads_total\{outcome="(\w+)"\} (\d+)', metrics))
    assert outcomes == {"swapped": "2", "unchanged": "1"}
    assert f'derain_model_info{{model="old",provider="cpu",sha256="{old}"}} 1.0' in metrics
    assert f'derain_model_info{{model="new",provider="cpu",sha256="{new}"}} 0.0' in metrics


def truncate(model: Path) -> None:
    data = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(data[: len(data) // 2])


def tamper(model: Path) -> None:
    data = bytearray((model / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (model / "model.onnx").write_bytes(data)


def break_contract(model: Path) -> None:
    """The manifest fits, but the file is no network."""
    (model / "model.onnx").write_bytes(b"rain" * 100)
    describe_model(model)


def fix_size(model: Path) -> None:
    """The manifest fits, but the network takes pictures of one size only."""
    network = onnx.load(model / "model.onnx")
    for side in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = 64
    onnx.save(network, model / "model.onnx")
    describe_model(model)


def lose_manifest(model: Path) -> None:
    (model / "manifest.json").unlink()


FAULTS = [truncate, tamper, break_contract, fix_size, lose_manifest]


def test_a_model_that_cannot_be_served_is_refused_and_the_old_one_stays(
    registry: Registry, keys: Path, tmp_path: Path
) -> None:
    models = registry.folder("old").parent
    for spoil in FAULTS:
        name = spoil.__name__
        write_model(models / name, channels=5)
    with serving(None, tmp_path, models=models, keys=keys) as server, server.client() as client:
        client.headers.update(OPERATOR)
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
        assert "Traceback" not in server.said()


@pytest.mark.parametrize("spoil", FAULTS)
def test_a_model_that_cannot_be_served_is_not_started_with(
    registry: Registry, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    models = registry.folder("old").parent
    spoil(models / "old")
    with started(None, tmp_path, models=models) as server:
        assert server.process.wait(START_S) != 0
        assert "derain: " in server.said()
        assert "old" in server.said()
        assert "Traceback" not in server.said()


def test_other_models_that_are_broken_do_not_keep_the_default_from_serving(
    registry: Registry, tmp_path: Path
) -> None:
    """Nor does what is in the folder and is no model, or is hidden."""
    models = registry.folder("old").parent
    for spoil in FAULTS:
        spoil(write_model(models / spoil.__name__))
    (models / "notes").mkdir()
    shutil.copytree(models / "new", models / ".new.unfinished")
    (models / "README.md").write_text("models")
    with serving(None, tmp_path, models=models) as server, server.client() as client:
        assert [each["name"] for each in client.get("/v1/models").json()["models"]] == ["new", "old"]
        said = assert_problem(client.post("/v1/derain?model=truncate", content=RAINY), 404)
        assert "but new, old" in said
        assert client.post("/v1/derain?model=new", content=RAINY).status_code == 200
        # Said once, by the worker: the process that starts it looks at the default alone.
        assert server.said().count("model truncate is not served: ") == 1


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that serve, by their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (folder / "cmdline").read_text()
            except (OSError, ProcessLookupError):
                continue
            if parent == process.pid and "--worker-id" in command:
                found.append(int(folder.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for workers in /proc")
def test_a_worker_that_is_killed_comes_back(registry: Registry, keys: Path, tmp_path: Path) -> None:
    models = registry.folder("old").parent
    with serving(None, tmp_path, models=models, keys=keys, workers=2) as server, server.client() as client:
        client.headers.update(OPERATOR)
        until(lambda: len(children(server.process)) == 2)
        killed, other = children(server.process)
        os.kill(killed, signal.SIGKILL)
        # The other one serves on. What was on its way to the first one may be cut off.
        served = 0
        while served < 5:
            try:
                assert client.post("/v1/derain", content=RAINY).status_code == 200
                served += 1
            except httpx.TransportError:
                continue
        until(lambda: len(children(server.process)) == 2 and killed not in children(server.process))
        assert other in children(server.process)

        # A reload reaches both, the new one as well.
        registry.promote("new", "better")
        client.post("/admin/reload").raise_for_status()

        def answered() -> set[str]:
            names = set()
            for _ in range(12):  # a connection each, so that each worker gets some
                with server.client() as caller:
                    response = caller.post("/v1/derain", content=RAINY, headers=OPERATOR)
                    names.add(response.headers["x-derain-model"])
            return names

        until(lambda: answered() == {"new"})


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for workers in /proc")
def test_sighup_reloads_all_workers_without_losing_a_request(
    registry: Registry, keys: Path, tmp_path: Path
) -> None:
    models = registry.folder("old").parent
    with serving(None, tmp_path, models=models, keys=keys, workers=2) as server:

        def log_has(line: str, times: int) -> None:
            until(lambda: server.said().count(line) == times)

        log_has("model old ", 2)
        workers = children(server.process)
        with traffic(server, RAINY) as answers:
            registry.promote("new", "better")
            server.process.send_signal(signal.SIGHUP)
            log_has("model new ", 2)
            registry.promote("old", "better still")
            os.kill(workers[0], signal.SIGHUP)
            log_has("model old ", 4)

            registry.promote("new", "as it was")
            truncate(models / "new")
            server.process.send_signal(signal.SIGHUP)
            log_has("reload refused, the old model stays: ", 2)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-derain-model"] for answer in answers} == {"old", "new"}
        assert answers[-1].headers["x-derain-model"] == "old"
        assert children(server.process) == workers
        assert "is not the file its manifest describes" in server.said()
        assert "Traceback" not in server.said()


def test_a_picture_in_work_is_delivered_when_the_server_is_told_to_end(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models" / "slow", channels=64)
    with serving(model, tmp_path, threads=1) as server, ThreadPoolExecutor(1) as caller:
        with server.client() as client:
            answer = caller.submit(client.post, "/v1/derain", content=LARGE)
            with server.client() as other:
                until(lambda: "derain_work_pictures 1.0" in other.get("/metrics").text)
            server.process.terminate()
            assert answer.result().status_code == 200
        server.process.wait(END_S)
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", server.port)):
            pass


@contextmanager
def busy(model: Path, folder: Path) -> Iterator[tuple[httpx.Client, list[Future[httpx.Response]]]]:
    """A client of a server that has a large picture in work, and three waiting."""
    with (
        serving(model, folder, threads=1, queue=8) as server,
        ThreadPoolExecutor(4) as callers,
        server.client() as client,
        server.client() as other,
    ):
        large = [callers.submit(client.post, "/v1/derain", content=LARGE) for _ in range(4)]
        until(lambda: "derain_queue_pictures 3.0" in other.get("/metrics").text)
        yield other, large


def test_probes_are_answered_while_all_that_can_be_is_in_work(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models" / "slow", channels=64)
    with busy(model, tmp_path) as (other, large):
        for path in ("/readyz", "/livez", "/v2/health/ready", "/v1/models"):
            assert other.get(path).status_code == 200
        assert not all(answer.done() for answer in large)
        assert {answer.result().status_code for answer in large} == {200}


def test_a_small_picture_does_not_wait_for_all_large_ones(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models" / "slow", channels=64)
    with busy(model, tmp_path) as (other, large):
        assert other.post("/v1/derain", content=RAINY).status_code == 200
        assert not all(answer.done() for answer in large)


def test_a_caller_who_hangs_up_leaves_the_queue(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models" / "slow", channels=64)
    with serving(model, tmp_path, threads=1, queue=8) as server, ThreadPoolExecutor(1) as caller:
        with server.client() as client, server.client() as other:
            in_work = caller.submit(client.post, "/v1/derain", content=LARGE)
            until(lambda: "derain_work_pictures 1.0" in other.get("/metrics").text)
            with socket.create_connection(("127.0.0.1", server.port)) as impatient:
                head = f"POST /v1/derain HTTP/1.1\r\nHost: rain\r\nContent-Length: {len(LARGE)}\r\n\r\n"
                impatient.sendall(head.encode() + LARGE)
                until(lambda: "derain_queue_pictures 1.0" in other.get("/metrics").text)
            until(lambda: "derain_queue_pictures 0.0" in other.get("/metrics").text)
            assert in_work.result().status_code == 200
            metrics = other.get("/metrics").text
            assert 'derain_rejected_total{reason="HungUpError"} 1.0' in metrics
            assert 'derain_pixels_total{model="slow"} 2.25e+06' in metrics
        assert "Traceback" not in server.said()


def test_pictures_that_meet_are_one_run_where_that_is_asked_for(model: Path, tmp_path: Path) -> None:
    with serving(model, tmp_path, tile_batch=8, threads=1, parallel=8, monitor=False) as server:
        with server.client() as client:

            def runs(up_to: str) -> float:
                text = client.get("/metrics").text
                (count,) = re.findall(
                    rf'^derain_run_tiles_bucket{{le="{re.escape(up_to)}"}} (.+)$', text, re.M
                )
                return float(count)

            with traffic(server, RAINY, callers=8) as answers:
                until(lambda: runs("+Inf") > runs("1.0"))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1


def test_the_private_port(model: Path, keys: Path, tmp_path: Path) -> None:
    port = free_port()
    with started(model, tmp_path, private_port=port, keys=keys) as server:
        private = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            assert server.process.poll() is None, server.said()
            try:
                return httpx.get(f"{private}/readyz").is_success
            except httpx.TransportError:
                return False

        until(is_ready, START_S)
        with server.client() as public:
            for path in ("/metrics", "/readyz", "/livez", "/healthz", "/v2/health/ready", "/admin/reload"):
                assert_problem(public.get(path), 404)
            assert public.get("/v1/models", headers=OPERATOR).status_code == 200
        assert httpx.get(f"{private}/livez").status_code == 200
        assert httpx.get(f"{private}/v2/health/live").json() == {"live": True}
        assert "derain_model_info" in httpx.get(f"{private}/metrics").text
        assert httpx.post(f"{private}/admin/reload", headers=OPERATOR).json()["outcome"] == "unchanged"
        assert_problem(httpx.post(f"{private}/admin/reload"), 401)
        assert_problem(httpx.post(f"{private}/v1/derain", headers=OPERATOR, content=RAINY), 404)


def test_keys(model: Path, keys: Path, tmp_path: Path) -> None:
    with serving(model, tmp_path, keys=keys, rate_per_minute=2) as server, server.client() as client:
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


def test_a_page_of_another_origin(model: Path, keys: Path, tmp_path: Path) -> None:
    """Its preflight needs no key, and its script can read all that is said to it, errors as well."""
    page = {"origin": "https://example.com"}
    with serving(model, tmp_path, keys=keys, cors_origins=page["origin"], rate_per_minute=1) as server:
        with server.client() as client:
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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cors_origins": "example.com"}, "DERAIN_CORS_ORIGINS: 'example.com' is no origin: write a scheme"),
        ({"keep_alive_s": 0}, "DERAIN_KEEP_ALIVE_S: Input should be greater than or equal to 1"),
        ({"queue": "many"}, "DERAIN_QUEUE: Input should be a valid integer"),
        ({"buffer_bytes": 10}, "DERAIN_BUFFER_BYTES is less than DERAIN_MAX_BYTES"),
        ({"keys": "/nowhere/keys"}, "DERAIN_KEYS: [Errno 2]"),
        ({"provider": "cuda"}, "cuda was asked for, but the installed onnxruntime has only: cpu"),
    ],
)
def test_settings_that_cannot_be(model: Path, tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with started(model, tmp_path, **settings) as server:
        assert server.process.wait(START_S) != 0
        assert said in server.said()
        assert "Traceback" not in server.said()
