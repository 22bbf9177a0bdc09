"""What an operator can set, each by an environment variable `DERAIN_<NAME>`."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from derain.engine import DEFAULT_MODEL, Provider


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DERAIN_", env_ignore_empty=True, frozen=True)

    model: Path = Field(DEFAULT_MODEL, description="model folder to serve")
    provider: Provider = Field(Provider.AUTO, description="auto, cpu, cuda or tensorrt")
    threads: int | None = Field(None, ge=1, description="tiles computed at once on the CPU")
    tile_pixels: int | None = Field(None, ge=1, description="largest tile, width times height")

    max_bytes: int = Field(100_000_000, ge=1, description="largest upload")
    max_pixels: int = Field(50_000_000, ge=1, description="largest picture, width times height")
    parallel: int = Field(2, ge=1, description="pictures in work at once")
    queue: int = Field(16, ge=0, description="pictures that may wait; beyond it callers get 429")
    timeout_s: float = Field(300, gt=0, description="waiting and work together; beyond it callers get 504")

    page: bool = Field(True, description="serve the page at `/`")


def settings_or_exit() -> Settings:
    """The settings of the environment; where they are wrong, ends the process in words."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"DERAIN_{problem['loc'][0]}".upper() + f": {problem['msg']}" for problem in error.errors()]
        raise SystemExit("\n".join(f"derain: {line}" for line in wrong)) from None
