"""The private port beside a public one."""

from pathlib import Path

import httpx
import pytest

from tests.conftest import free_port
from tests.serving.server import OPERATOR, START_S, assert_problem, operator_key, started, until
from tests.serving.system.conftest import RAINY

pytestmark = pytest.mark.slow


def test_the_private_port(model: Path, tmp_path: Path) -> None:
    port = free_port()
    with started(model, tmp_path, private_port=port, keys=operator_key(tmp_path)) as server:
        private = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            assert server.process.poll() is None, server.said()
            try:
                return httpx.get(f"{private}/readyz").is_success
            except httpx.TransportError:
                return False

        until(is_ready, START_S)
        with server.client() as public:
            # BentoML has probes of its own, which must not show either.
            for path in ("/metrics", "/readyz", "/livez", "/livez/", "/healthz", "/v2/health/ready"):
                assert_problem(public.get(path), 404)
            assert_problem(public.get("/admin/reload"), 404)
            assert public.get("/v1/models", headers=OPERATOR).status_code == 200
        assert httpx.get(f"{private}/livez").status_code == 200
        assert httpx.get(f"{private}/v2/health/live").json() == {"live": True}
        assert "derain_model_info" in httpx.get(f"{private}/metrics").text
        assert httpx.post(f"{private}/admin/reload", headers=OPERATOR).json()["outcome"] == "unchanged"
        assert_problem(httpx.post(f"{private}/admin/reload"), 401)
        assert_problem(httpx.post(f"{private}/v1/derain", headers=OPERATOR, content=RAINY), 404)
