"""What routes work with, from the start of an app to its end."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from serving.api.images.upload_buffer import UploadBuffer
from serving.pipeline.model_pool import ModelPool
from serving.pipeline.pipeline import Pipeline
from serving.pipeline.reload import ReloadFile
from serving.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    models: ModelPool
    pipeline: Pipeline
    upload_buffer: UploadBuffer
    pages: Mapping[str, Response]  # by their paths
    loop: asyncio.AbstractEventLoop  # of the public port
    reload_file: ReloadFile | None  # where there are other workers

    def give_to(self, app: Starlette) -> None:
        app.state.services = self


def services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
