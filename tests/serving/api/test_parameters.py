import pytest
from starlette.datastructures import QueryParams

from derain.images.formats import JPEG, PNG, TIFF, WEBP, ImageFormat
from serving.api.images.parameters import read_options
from serving.errors import ParameterError
from serving.pipeline.options import Options


def test_nothing_said() -> None:
    assert read_options(QueryParams("")) == Options()
    assert Options().target is None


def test_everything_said() -> None:
    query = "format=WebP&quality=80&lossless=1&strength=0.5&model=fast&metadata=strip&explain=true"
    parameters = read_options(QueryParams(query))
    assert parameters.target == WEBP
    assert parameters == Options(
        format="WebP",
        quality=80,
        lossless=True,
        strength=0.5,
        model="fast",
        metadata="strip",
        explain=True,
    )
    assert read_options(QueryParams("format=png")).target == PNG


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, JPEG) for name in ("jpg", "jpeg", "JPG", "Jpeg")),
        *((name, TIFF) for name in ("tif", "tiff", "TIF")),
        *((name, PNG) for name in ("png", "PNG")),
    ],
)
def test_formats_have_the_names_that_people_use(name: str, known: ImageFormat) -> None:
    assert read_options(QueryParams({"format": name})).target == known


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("qualty=80", "there is no parameter 'qualty', but format, quality, "),
        ("quality=80&quality=90", "the parameter 'quality' is there twice"),
        ("quality=0", "the parameter 'quality': input should be greater than or equal to 1, but is '0'"),
        ("quality=high", "the parameter 'quality': input should be a valid integer"),
        ("quality=", "the parameter 'quality': input should be a valid integer, unable to parse string "),
        ("strength=0,5", ", but is '0,5'"),
        ("strength=1.1", "the parameter 'strength': input should be less than or equal to 1"),
        ("strength=nan", "the parameter 'strength': input should be "),
        ("lossless=perhaps", "the parameter 'lossless': input should be a valid boolean"),
        ("metadata=all", "the parameter 'metadata': input should be 'keep' or 'strip'"),
        (
            "format=gif",
            "the parameter 'format': input should be one of jpeg, png, webp, tiff, bmp, avif, but is 'gif'",
        ),
        ("format=heic", "the parameter 'format': input should be one of jpeg, "),
        ("model=" + "m" * 101, f"at most 100 characters, but is '{'m' * 40}…'"),
    ],
)
def test_what_cannot_be(query: str, said: str) -> None:
    with pytest.raises(ParameterError) as refused:
        read_options(QueryParams(query))
    assert said in str(refused.value)


def test_thousands_of_parameters_are_looked_at_once() -> None:
    """On the event loop: it once took seconds, in which nobody was answered."""
    with pytest.raises(ParameterError, match="there is no parameter 'a0'"):
        read_options(QueryParams([(f"a{number}", "") for number in range(50_000)]))
