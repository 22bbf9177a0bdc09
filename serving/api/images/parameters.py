"""Options out of the query of a request, or out of fields of a form beside the file."""

from collections import Counter
from collections.abc import Iterable

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from serving.errors import ParameterError
from serving.pipeline.options import Options

_SHOWN = 40  # letters of a value that cannot be


def with_fields(query: QueryParams, fields: Iterable[tuple[str, str]]) -> QueryParams:
    """A form's fields as well, but for those that the query has a value for."""
    said = set(query)
    return QueryParams([*query.multi_items(), *((name, value) for name, value in fields if name not in said)])


def read_options(query: QueryParams) -> Options:
    """Raises ParameterError for one that there is not, one said twice, or a value it cannot have."""
    items = query.multi_items()
    names = Counter(name for name, _ in items)
    if twice := next((name for name, times in names.items() if times > 1), None):
        raise ParameterError(f"the parameter {twice!r} is there twice")
    if unknown := next((name for name in names if name not in Options.model_fields), None):
        raise ParameterError(f"there is no parameter {unknown!r}, but {_listed(Options.model_fields)}")
    try:
        return Options.model_validate(dict(items))
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0] if first["loc"] else "format"
        message = first["msg"].removeprefix("Value error, ")
        wanted, given = message[0].lower() + message[1:], _shortened(query[str(name)])
        raise ParameterError(f"the parameter {name!r}: {wanted}, but is {given!r}") from error


def _shortened(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
