"""The report: a row for each file, as CSV or Parquet, near or far."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from derain.bulk import storage
from derain.bulk.rows import COLUMNS, Row
from derain.bulk.storage import StorageError

REPORT_SUFFIXES = (".csv", ".parquet")

_ROWS_AT_ONCE = 10_000

# Columns that are no text.
_NUMBERS = {"seconds": float, "residual_rain": float, "width": int, "height": int, "bytes": int}


def read_report(name: str) -> Iterator[Row]:
    """Nothing where there is no such file. Raises StorageError for one that is no report."""
    try:
        data = storage.read(name)
    except storage.MissingError:
        return
    rows = _read_parquet(name, data) if name.endswith(".parquet") else _read_csv(data)
    try:
        for values in rows:
            yield Row.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{name} is no report of derain bulk: name another --report") from error


def write_report(name: str, rows: Iterable[Row]) -> None:
    """Whole, or not at all. Raises StorageError."""
    data = _parquet(rows) if name.endswith(".parquet") else _csv(rows)
    storage.write(name, data)


def _csv(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(row.to_dict() for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # names that are no text, as the bytes they are


def _read_csv(data: bytes) -> Iterator[dict[str, Any]]:
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    for row in csv.DictReader(text):
        values: dict[str, Any] = {name: value or None for name, value in row.items()}
        for name, kind in _NUMBERS.items():
            values[name] = kind(values[name]) if values.get(name) else None
        if values.get("rain_found"):
            values["rain_found"] = values["rain_found"] == "True"
        yield values


def _parquet(rows: Iterable[Row]) -> bytes:
    pyarrow, parquet = _arrow()
    kinds = {float: pyarrow.float64(), int: pyarrow.int64()}
    types = {name: kinds[kind] for name, kind in _NUMBERS.items()} | {"rain_found": pyarrow.bool_()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    file = io.BytesIO()
    with parquet.ParquetWriter(file, schema) as writer:
        for some in _in_batches(rows):
            values = [{k: _as_text(v) for k, v in row.to_dict().items()} for row in some]
            writer.write_table(pyarrow.Table.from_pylist(values, schema=schema))
    return file.getvalue()


def _read_parquet(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    for batch in parquet_batches(name, data, columns=None):
        yield from batch.to_pylist()


def parquet_batches(name: str, data: bytes, columns: list[str] | None) -> Iterator[Any]:
    """Of pyarrow's. Raises StorageError for what is no Parquet."""
    pyarrow, parquet = _arrow()
    try:
        yield from parquet.ParquetFile(io.BytesIO(data)).iter_batches(_ROWS_AT_ONCE, columns=columns)
    except pyarrow.ArrowException as error:
        raise StorageError(f"{name} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _as_text(value: Any) -> Any:
    """Names of files may be no text: Parquet has the bytes as escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _in_batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while some := list(islice(waiting, _ROWS_AT_ONCE)):
        yield some


def _arrow() -> tuple[Any, Any]:
    """Of the extra `bulk`, and loaded for Parquet alone."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise StorageError("Parquet needs pyarrow: pip install 'derain[bulk]'") from error
    return pyarrow, parquet
