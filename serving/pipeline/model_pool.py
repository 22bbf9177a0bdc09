"""The models that are served: opened, tested, and replaced while images are in work."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from derain.errors import DerainError
from derain.inference.engine import Engine
from derain.manifest import Manifest, load_manifest
from derain.models.registry import Registry
from derain.models.self_test import open_validated
from serving.errors import RefusedReloadError, UnknownModelError
from serving.operations.metrics import MODEL, RELOADS, RUN_TILES
from serving.settings import Settings

logger = logging.getLogger("derain.models")


class ServedModel:
    """A model in service. It is closed when it is retired and no image needs it any more."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name  # of its folder
        self.engine = engine
        self._lock = Lock()
        self._users = 0
        self._is_retired = False

    @property
    def manifest(self) -> Manifest:
        return self.engine.manifest

    def take(self) -> bool:
        """Whether it can be used; then `give_back` must follow."""
        with self._lock:
            if self._is_retired and not self._users:
                return False
            self._users += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            is_over = self._is_retired and not self._users
        if is_over:
            self.engine.close()

    def retire(self) -> None:
        with self._lock:
            is_over = not self._users and not self._is_retired
            self._is_retired = True
        if is_over:
            self.engine.close()


@dataclass(frozen=True)
class Catalogue:
    """What is served at one time: never changed, only replaced as a whole."""

    default: str
    models: dict[str, ServedModel]


class ModelPool:
    """The default model and, by name, all others of the folder.

    Raises ModelError or ProviderError where the default one cannot be served. Another that cannot be
    is left out, and the log says why.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = Registry(settings.models)
        self._reloading = Lock()
        self._catalogue = self._open({})
        self._tell()

    @property
    def default(self) -> ServedModel:
        return self._catalogue.models[self._catalogue.default]

    @property
    def default_name(self) -> str:
        return self._catalogue.default

    def names(self) -> list[str]:
        return sorted(self._catalogue.models)

    def get(self, name: str | None) -> ServedModel:
        """The default one for None; raises UnknownModelError."""
        catalogue = self._catalogue
        try:
            return catalogue.models[catalogue.default if name is None else name]
        except KeyError:
            there = ", ".join(sorted(catalogue.models))
            raise UnknownModelError(f"there is no model {name!r} here, but {there}") from None

    @contextmanager
    def use(self, name: str | None) -> Iterator[ServedModel]:
        """Of `get`, for as long as it is needed: a reload in the meantime lets it finish."""
        served = self.get(name)
        while not served.take():  # retired between the two lines
            served = self.get(name)
        try:
            yield served
        finally:
            served.give_back()

    def reload(self) -> bool:
        """Serves what is in the folder now, with the default that is named there now; whether that is new.

        Raises RefusedReloadError, and serves on what it did, where the new default cannot be served.
        """
        with self._reloading:
            old = self._catalogue
            try:
                new = self._open(old.models)
            except (DerainError, OSError) as error:
                RELOADS.labels("refused").inc()
                logger.error("reload refused, the old model stays: %s", error)
                raise RefusedReloadError(f"the model stays as it was: {error}") from error
            is_new = new.default != old.default or new.models != old.models
            self._catalogue = new
            for served in old.models.values():
                if served not in new.models.values():
                    served.retire()
            RELOADS.labels("swapped" if is_new else "unchanged").inc()
            self._tell(old)
            return is_new

    def close(self) -> None:
        for served in self._catalogue.models.values():
            served.retire()

    def _open(self, before: dict[str, ServedModel]) -> Catalogue:
        """Of models that have not changed, the engines of before."""
        opened: dict[str, ServedModel] = {}
        try:
            name, folder = _default_folder(self._settings, self._registry)
            opened[name] = _open_one(name, folder, self._settings, before.get(name))
            for other in self._registry.names():
                if other not in opened:
                    self._open_other(other, opened, before)
        except BaseException:
            _close_new(opened, before)
            raise
        return Catalogue(name, opened)

    def _open_other(self, name: str, opened: dict[str, ServedModel], before: dict[str, ServedModel]) -> None:
        try:
            folder = self._registry.folder(name)
            opened[name] = _open_one(name, folder, self._settings, before.get(name))
        except (DerainError, OSError) as error:
            logger.error("model %s is not served: %s", name, error)

    def _tell(self, old: Catalogue | None = None) -> None:
        if old is not None:
            MODEL.labels(*_labels(old)).set(0)
        MODEL.labels(*_labels(self._catalogue)).set(1)
        served = self.default
        logger.info(
            "model %s (%s) on %s with %d threads, also %s",
            self.default_name,
            served.manifest.sha256[:12],
            served.engine.provider,
            served.engine.threads,
            ", ".join(name for name in self.names() if name != self.default_name) or "no other",
        )


def check_default(settings: Settings) -> None:
    """Raises ModelError or ProviderError where the default model cannot be served.

    The others are not opened: of those, one that cannot be served keeps nobody from serving.
    """
    name, folder = _default_folder(settings, Registry(settings.models))
    _open_one(name, folder, settings).retire()


def _default_folder(settings: Settings, registry: Registry) -> tuple[str, Path]:
    if settings.model is not None:
        return settings.model.resolve().name, settings.model
    name = registry.current().model
    return name, registry.folder(name)


def _open_one(name: str, folder: Path, settings: Settings, before: ServedModel | None = None) -> ServedModel:
    """Verified against its manifest, warm, and tried out; the one of before where it has not changed."""
    if before is not None and load_manifest(folder) == before.manifest:
        return before
    start = partial(
        Engine,
        provider=settings.provider,
        threads=settings.threads,
        tile_pixels=settings.tile_pixels,
        tile_batch=settings.tile_batch,
        note_run=RUN_TILES.observe,
    )
    return ServedModel(name, open_validated(folder, start))


def _close_new(opened: dict[str, ServedModel], before: dict[str, ServedModel]) -> None:
    for served in opened.values():
        if served not in before.values():
            served.retire()


def _labels(catalogue: Catalogue) -> tuple[str, str, str]:
    served = catalogue.models[catalogue.default]
    return catalogue.default, served.manifest.sha256, str(served.engine.provider)
