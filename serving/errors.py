"""What can go wrong with a request, besides the image. No HTTP: `api/problems.py` knows the statuses."""

from derain.errors import DerainError


class UploadError(DerainError):
    """A request body that holds no single image."""


class UploadTooLargeError(DerainError):
    """More bytes than the limit."""


class UploadTimeoutError(DerainError):
    """The body did not arrive in time."""


class EncodingError(DerainError):
    """A body that is compressed in a way that cannot be undone here."""


class ParameterError(DerainError):
    """A parameter that there is not, or a value that it cannot have."""


class NotAcceptableError(DerainError):
    """None of the formats that the caller accepts can be written."""


class UnauthorizedError(DerainError):
    """No key, or one that is not known."""


class ForbiddenError(DerainError):
    """A key that may not do this."""


class OriginError(DerainError):
    """A page of another origin whose scripts may not call."""


class KeysError(DerainError):
    """A file of keys that cannot be understood."""


class UnknownModelError(DerainError):
    """A model that is not served here."""


class RefusedReloadError(DerainError):
    """The model to be served from now on is none that can be: the old one stays."""


class NotReadyError(DerainError):
    """The event loop of the public port does not answer."""


class RetryableError(DerainError):
    """Not now, but later."""

    def __init__(self, text: str, retry_after_s: int = 2) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class BusyError(RetryableError):
    """Too many images, pixels or bytes are waiting already."""


class RateError(RetryableError):
    """More images a minute than the key allows."""


class DeadlineError(DerainError):
    """Not done in time."""


class DisconnectedError(DerainError):
    """Nobody waits for the answer any more."""
