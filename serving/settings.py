"""What an operator can set, each by an environment variable `DERAIN_<NAME>`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from derain.inference.resources import usable_cores, usable_memory
from derain.inference.sessions import Provider
from derain.pointer import DEFAULT_MODELS
from serving.cors import read_origins

_SHARE_OF_MEMORY = 0.6


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DERAIN_", env_ignore_empty=True, frozen=True)

    models: Path = Field(DEFAULT_MODELS, description="folder of model folders; callers may choose among them")
    model: Path | None = Field(None, description="model folder to serve, whatever `serving.json` names")
    provider: Provider = Field(Provider.AUTO, description="auto, cpu, cuda or tensorrt")
    threads: int | None = Field(None, ge=1, description="tiles computed at once on the CPU")
    tile_pixels: int | None = Field(None, ge=1, description="largest tile, width times height")
    tile_batch: int | None = Field(
        None, ge=1, description="most tiles of one shape in one run of the network"
    )
    workers: int = Field(1, ge=1, description="processes that serve, each with models and limits of its own")

    max_bytes: int = Field(100_000_000, ge=1, description="largest upload")
    max_pixels: int = Field(65_000_000, ge=1, description="largest picture, width times height")
    max_files: int = Field(32, ge=1, description="most pictures of one batch")
    parallel: int | None = Field(None, ge=1, description="pictures in work at once")
    parallel_bytes: int | None = Field(
        None, ge=1, description="memory of pictures in work together; others wait, larger ones get 413"
    )
    queue: int = Field(32, ge=0, description="pictures that may wait; beyond it callers get 429")
    queue_pixels: int = Field(
        200_000_000, ge=0, description="pixels that may wait; beyond it callers get 429"
    )
    buffer_bytes: int = Field(
        400_000_000, ge=1, description="uploads in memory together; beyond it callers get 429"
    )
    timeout_s: float = Field(300, gt=0, description="waiting and work together; beyond it callers get 504")
    upload_timeout_s: float = Field(
        120, gt=0, description="for an upload to arrive; beyond it callers get 408"
    )

    keep_alive_s: int = Field(
        90, ge=1, description="an open connection may idle; longer than a proxy in front keeps it"
    )

    cors_origins: Annotated[tuple[str, ...], NoDecode] | None = Field(
        None, description="web pages whose scripts may call: origins with commas between, or `*` for all"
    )
    keys: Path | None = Field(None, description="file of API keys; without one everybody may call")
    rate_per_minute: float | None = Field(
        None, gt=0, description="pictures a minute for each key that has no rate of its own"
    )
    private_port: int | None = Field(
        None, ge=1, le=65_535, description="moves metrics, probes and administration to this port"
    )
    private_host: str = Field("127.0.0.1", description="address of the private port")

    monitor: bool = Field(True, description="look whether rain was left, for the metrics and a header")
    page: bool = Field(True, description="serve the page at `/`")
    log: Literal["json", "text"] = Field("json", description="json or text: a line for each request")
    trace_endpoint: str | None = Field(
        None, description="OTLP collector that traces go to, `http://host:4318/v1/traces`"
    )
    trace_share: float = Field(1.0, ge=0, le=1, description="share of requests that are traced")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, origins: str | None) -> tuple[str, ...] | None:
        return None if origins is None else read_origins(origins)

    @model_validator(mode="after")
    def _one_upload_fits(self) -> Self:
        if self.buffer_bytes < self.max_bytes:
            raise ValueError("DERAIN_BUFFER_BYTES is less than DERAIN_MAX_BYTES, one upload")
        return self

    @property
    def in_work(self) -> int:
        """Pictures in work at once: as many as there are cores, so that none of them idles."""
        return self.parallel or self.threads or usable_cores()

    @property
    def work_bytes(self) -> int:
        """For pictures in work, together. Tiles may have a quarter of the memory; the rest is the process."""
        return self.parallel_bytes or int(usable_memory() * _SHARE_OF_MEMORY) // self.workers


def settings_or_exit() -> Settings:
    """The settings of the environment; where they are wrong, ends the process in words."""
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit("\n".join(f"derain: {line}" for line in _in_words(error))) from None


def _in_words(error: ValidationError) -> list[str]:
    named = [
        (f"DERAIN_{problem['loc'][0]}".upper() + ": " if problem["loc"] else "", problem["msg"])
        for problem in error.errors()
    ]
    return [name + message.removeprefix("Value error, ") for name, message in named]
