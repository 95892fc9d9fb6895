"""CSV and Parquet files as streams of columns, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import reduce
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from foreshard.errors import InvalidInput

BLOCK_BYTES = 4 * 2**20
BATCH_ROWS = 65_536


class HistoryReader(Protocol):
    """A file's rows, a batch at a time."""

    @property
    def path(self) -> Path: ...

    def columns(self) -> list[str]:
        """The names of its columns."""
        ...

    def batches(self, columns: Collection[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """These columns of all rows, from the beginning, and the share of the file that was read (0 to 1)."""
        ...

    def place(self, row: int) -> str:
        """Where a person finds row ``row`` (from 0) of what was read last."""
        ...


def reader_of(kind: str, path: Path, delimiter: str = ",") -> HistoryReader:
    """A reader of a ``csv`` or ``parquet`` file. Raises InvalidInput if there is no such file."""
    if not path.is_file():
        raise InvalidInput(str(path), "is no file")
    if kind == "parquet":
        return ParquetReader(path)
    if len(delimiter) != 1:
        raise InvalidInput("--delimiter", f"{delimiter!r} is not one character")
    return CsvReader(path, delimiter)


class CsvReader:
    """A CSV file with a header, UTF-8, perhaps compressed (by its ending: .gz, .zst, .bz2). All columns are text."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path = path
        self._delimiter = delimiter
        self._blank: list[int] = []

    def columns(self) -> list[str]:
        try:
            with self.path.open("rb") as file, self._open(file, None) as reader:
                return [name.strip() for name in reader.schema.names]
        except (pa.ArrowException, OSError) as broken:
            raise self._broken(broken) from None

    def batches(self, columns: Collection[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
        size = max(1, self.path.stat().st_size)
        self._blank.clear()
        try:
            with self.path.open("rb") as file, self._open(file, columns) as reader:
                at = 0
                for batch in reader:
                    yield self._without_blank_lines(batch, at), min(1.0, file.tell() / size)
                    at += batch.num_rows
        except (pa.ArrowException, OSError) as broken:
            raise self._broken(broken) from None

    def place(self, row: int) -> str:
        for blank in self._blank:
            row += blank <= row
        return f"line {row + 2}"  # the header is line 1

    def _open(self, file: IO[bytes], columns: Collection[str] | None) -> pa_csv.CSVStreamingReader:
        stream: pa.NativeFile = pa.PythonFile(file, mode="r")
        compression = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(self.path.suffix)
        if compression is not None:
            stream = pa.CompressedInputStream(stream, compression)
        text = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns or (), pa.string()),
            include_columns=list(columns or ()) or None,
            null_values=[],
        )
        return pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=self._delimiter, ignore_empty_lines=False),
            convert_options=text,
        )

    def _without_blank_lines(self, batch: pa.RecordBatch, at: int) -> pa.RecordBatch:
        """pyarrow makes rows of empty texts of them, so that rows can be counted as lines."""
        filled = reduce(pc.or_, (pc.not_equal(column, "") for column in batch.columns))
        blank = pc.indices_nonzero(pc.invert(filled)).to_pylist()
        self._blank.extend(at + row for row in blank)
        return batch.filter(filled) if blank else batch

    def _broken(self, error: Exception) -> InvalidInput:
        return InvalidInput(
            str(self.path), f"cannot be read as CSV ({error})", remedy="Mend or re-export it."
        )


class ParquetReader:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def columns(self) -> list[str]:
        try:
            return list(pa_parquet.read_schema(self.path).names)
        except (pa.ArrowException, OSError) as broken:
            raise self._broken(broken) from None

    def batches(self, columns: Collection[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
        try:
            with pa_parquet.ParquetFile(self.path, pre_buffer=False) as file:
                rows, done = max(1, file.metadata.num_rows), 0
                for batch in file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                    done += batch.num_rows
                    yield batch, done / rows
        except (pa.ArrowException, OSError) as broken:
            raise self._broken(broken) from None

    def place(self, row: int) -> str:
        return f"row {row + 1}"

    def _broken(self, error: Exception) -> InvalidInput:
        return InvalidInput(
            str(self.path),
            f"cannot be read as Parquet ({str(error).splitlines()[0]})",
            remedy="Re-export it.",
        )
