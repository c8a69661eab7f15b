"""Read CSV files with DuckDB.

DuckDB reads a file twice, first to count its rows and rejected lines. If every line is one well-formed row, the file is
read unchanged. Otherwise DuckDB reads a repaired copy in which each malformed line is replaced by a placeholder, so
that other rows keep their values and positions. DuckDB's own error handling is not enough: it skips good lines after an
unclosed quote, silently drops lines longer than `max_line_size`, and rejects mixed line endings.
"""

import codecs
import csv
import re
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import duckdb
import polars as pl

from events.mapping import Csv
from events.sources.files import LONGEST, MALFORMED, Piece, Size, is_packed, malformed, open_unpacked, require_text
from shoplens.errors import SourceError

_MARK = "\x1f"  # starts a placeholder: ASCII's unit separator is in no text that people type
_LINES, _BYTES = 1000, 1 << 20  # bytes of a row; a quote that stays open longer does not start a quoted text
_BLOCK = 1 << 22
_UTF_8 = ("utf-8", "utf-8-sig", "ascii")
_SEPARATOR = re.compile('"?sep=(.)"?\r?\n')
_OPEN, _BROKEN = -1, -2  # instead of a number of columns: a quote is never closed, or text follows a closing quote
_REMEDIES = {
    "row_too_short": "the line has {columns} of {width} columns; add what is missing, or remove the line",
    "row_too_long": "the line has {columns} columns instead of {width}; quote the text that holds a separator",
    "quote_unbalanced": "a quoted text must end before a separator or the line end; close the quote or double it, or "
    "declare `csv: {{quote: none}}` or `escape` in the mapping",
    "not_utf8": "the line is not UTF-8 text; convert the file, or declare `csv: {{encoding: …}}` in the mapping",
    "line_too_large": "a line must have at most 16 MiB; shorten it, or remove it",
}


@dataclass(frozen=True)
class _Text:
    """A delimited UTF-8 file.

    Attributes:
        path: The original file, for messages.
        place: The file to read.
        skip: Number of lines before the first row.
        names: Column names.
        separator: Column separator.
        quote: Quote character; empty for none.
        escape: Character that escapes a quote inside quotes; empty for none.
    """

    path: Path
    place: Path
    skip: int
    names: tuple[str, ...]
    separator: str
    quote: str
    escape: str

    def scan(self, connection: duckdb.DuckDBPyConnection, select: str) -> duckdb.DuckDBPyRelation:
        """Run `SELECT select` over the rows, with columns c0, c1, …; rejected lines are in `reject_errors`."""
        return connection.sql(
            f"SELECT {select} FROM read_csv($place, auto_detect=false, header=false, skip=$skip, columns=$columns, "  # noqa: S608
            "delim=$delim, quote=$quote, escape=$escape, store_rejects=true, max_line_size=$longest, "
            "buffer_size=$buffer)",
            params={
                "place": str(self.place),
                "skip": self.skip,
                "columns": {f"c{n}": "VARCHAR" for n in range(len(self.names))},
                "delim": self.separator,
                "quote": self.quote,
                "escape": self.escape,
                "longest": LONGEST,
                "buffer": 2 * LONGEST,
            },
        )

    def count(self) -> int | None:
        """Return the number of rows; None unless every line is one well-formed row."""
        with self.place.open("rb") as stream:
            lines, last = -self.skip, b"\n"
            while block := stream.read(_BLOCK):
                lines, last = lines + block.count(b"\n"), block[-1:]
        try:
            with duckdb.connect() as connection:
                rows = int(self.scan(connection, "count(*), count(COLUMNS(*))").fetchall()[0][0])
                tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'")
                rejected = tables.fetchall() != [(0,)] and connection.execute("FROM reject_errors LIMIT 1").fetchall()
        except duckdb.Error:  # mixed line endings, for example, which the copy does not have
            return None
        return None if rejected or rows != lines + (last != b"\n") else rows


def _utf8_copy(path: Path, encoding: str, target: Path) -> Path:
    """Return a UTF-8 copy of `path` with line feeds, or `path` itself if it already is one."""
    try:
        codec = codecs.lookup(encoding).name
    except LookupError as error:
        raise SourceError(f"{path}: csv.encoding: unknown encoding {encoding!r}; try utf-8 or cp1252") from error
    with open_unpacked(path) as stream:
        start = stream.read(_BLOCK)
    # Classic Mac OS line endings, perhaps followed by others: the header ends at the first carriage return.
    returns = b"\r" in start.partition(b"\n")[0].removesuffix(b"\r")
    if codec in _UTF_8 and not returns and not is_packed(path):
        return path
    decoder, line = codecs.getincrementaldecoder(codec)(), 1
    with open_unpacked(path) as stream, target.open("wb") as out:
        while block := stream.read(_BLOCK):
            try:
                text = block if codec in _UTF_8 else decoder.decode(block).encode()
            except UnicodeDecodeError as error:
                line += block.count(b"\n", 0, error.start)
                raise SourceError(
                    f"{path}: csv.encoding: line {line:,} is no {encoding} text; declare the encoding that the file has"
                ) from error
            out.write(text.replace(b"\r", b"\n") if returns else text)
            line += block.count(b"\n")
    return target


def _undeclared(path: Path, where: str) -> str:
    return (
        f"{path}: must be UTF-8 text; {where} is not. Declare the file's encoding in the mapping, for example "
        f"`csv: {{encoding: cp1252}}`"
    )


def _with_header(path: Path, place: Path, dialect: Csv) -> _Text:
    """Read the column names, and the separator if Excel wrote `sep=;` in the first line.

    Raises:
        SourceError: the file is empty, the header is not UTF-8, or `csv.header` has the wrong number of columns.
    """
    quote = "" if dialect.quote == "none" else dialect.quote
    escape = "" if dialect.escape == "none" else "\\" if dialect.escape == "\\" else quote
    with place.open("rb") as raw:
        require_text(path, raw.read(_BLOCK))
    with place.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        stated = _SEPARATOR.fullmatch(stream.readline(16))
        if stated is None:
            stream.seek(0)
        separator, skip = (dialect.separator, 0) if stated is None else (stated[1], 1)
        rows = csv.reader(
            stream,
            delimiter=separator,
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            escapechar="\\" if quote and escape == "\\" else None,
            doublequote=escape == quote,
            strict=True,
        )
        try:
            row = next((row for row in rows if row), None)
        except csv.Error as error:
            raise SourceError(f"{path}: the first row must be well-formed CSV: a quote in it is not closed") from error
    if row is None:
        raise SourceError(f"{path}: must have at least one row; received an empty CSV file")
    text = _Text(path, place, skip, dialect.header, separator, quote, escape if quote else "")
    if not dialect.header:
        for n, name in enumerate(row, start=1):
            if any("\udc80" <= one <= "\udcff" for one in name):
                raise SourceError(_undeclared(path, f"the header, column {n}"))
        again = [row[:n].count(name) for n, name in enumerate(row)]
        names = [f"{name}_duplicated_{n - 1}" if n else name for name, n in zip(row, again, strict=True)]
        return replace(text, skip=skip + rows.line_num, names=tuple(names))
    if len(row) != len(dialect.header):
        raise SourceError(
            f"{path}: csv.header: must name every column: it names {len(dialect.header)}, the file has {len(row)}. "
            f"Correct the mapping"
        )
    return text


class _Repair:
    """Copies a file row by row, replacing each malformed line with a placeholder.

    Attributes:
        rows: Number of rows in the copy, including placeholders.
        lines: Number of non-blank lines in the file.
    """

    def __init__(self, text: _Text) -> None:
        self._text = text
        self.rows = self.lines = 0
        self._invalid = self._valid = 0  # lines beyond ASCII that are not UTF-8, and that are
        self._first_invalid = ""
        quote, separator = re.escape(text.quote or '"'), re.escape(text.separator)
        inside = {text.quote: f"(?:[^{quote}]|{quote}{quote})*", "\\": rf"(?:[^{quote}\\]|\\.)*"}
        unended = f" *{quote}{inside[text.escape] if text.escape else f'[^{quote}]*'}"
        field = rf"{unended}{quote} *(?={separator}|\Z)|(?! *{quote})[^{separator}\n]*"
        self._unended, self._field = re.compile(unended, re.DOTALL), re.compile(field, re.DOTALL)

    def copy(self, target: Path) -> _Text:
        """Write the copy.

        Raises:
            SourceError: the file as a whole is in another encoding.
        """
        text, width = self._text, len(self._text.names)
        with target.open("w", encoding="utf-8", newline="") as out:
            for number, line, fault, columns in self._joined():
                reason = fault or ("row_too_short" if columns < width else "row_too_long" if columns > width else "")
                if reason:
                    remedy = _REMEDIES[reason].format(columns=columns, width=width)
                    kept = malformed(reason, number, line, remedy).encode().hex()
                    line = f"{_MARK}{kept}{text.separator * (width - 1)}"  # noqa: PLW2901
                out.write(f"{line}\n")
                self.rows += 1
        # A few lines that are not UTF-8 are malformed; if most are not, the file has another encoding.
        if self._invalid > self._valid and self._invalid >= min(2, self.rows) and self._invalid * 100 >= self.rows:
            raise SourceError(_undeclared(text.path, self._first_invalid))
        return replace(text, place=target, skip=0)

    def _lines(self) -> Iterator[tuple[int, str, str]]:
        """Yield the number, text and fault (empty for none) of every non-blank line."""
        with self._text.place.open("rb") as stream:
            for number in count(1):
                line = stream.readline(LONGEST + 1)
                if not line:
                    return
                fault = "line_too_large" if len(line) > LONGEST else ""
                while fault and not line.endswith(b"\n"):
                    line = line[:_BLOCK] + stream.readline(LONGEST)
                line = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).rstrip(b"\r\n")
                if number <= self._text.skip or not (line or len(self._text.names) == 1):
                    continue
                self.lines += 1
                try:
                    text = line.decode(errors="replace" if fault else "strict")
                    self._valid += not line.isascii()
                except UnicodeDecodeError as error:
                    self._invalid += 1
                    column = line[: error.start].count(self._text.separator.encode()) + 1
                    self._first_invalid = self._first_invalid or f"line {number:,}, column {column}"
                    text, fault = line.decode(errors="backslashreplace"), "not_utf8"
                yield number, text, fault

    def _columns(self, text: str) -> int:
        """Return the number of columns of a row, or _OPEN or _BROKEN."""
        found = start = 0
        if not self._text.quote or self._text.quote not in text:
            found = text.count(self._text.separator) + 1
            start = len(text) + 1
        while start <= len(text):
            field = self._field.match(text, start)
            if field is None:
                return _OPEN if self._unended.fullmatch(text, start) else _BROKEN
            found, start = found + 1, field.end() + 1
        # A trailing separator does not add a column, as in DuckDB.
        return found - (found == len(self._text.names) + 1 and text.endswith(self._text.separator))

    def _joined(self) -> Iterator[tuple[int, str, str, int]]:
        """Yield the line number, text, fault and number of columns of every row, which may span quoted lines."""
        lines, waiting = self._lines(), deque[tuple[int, str, str]]()
        separators = len(self._text.names) - 1
        while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
            number, text, fault = line
            columns, joined, taken = 0 if fault else self._columns(text), text, [line]
            size, row_inside = len(text), False
            while columns == _OPEN and len(taken) <= _LINES and size < _BYTES:
                more = waiting.popleft() if waiting else next(lines, None)
                if more is None:
                    break
                taken.append(more)
                size += len(more[1])
                if more[2]:
                    break
                if self._text.quote in more[1]:
                    joined = "\n".join(one for _, one, _ in taken)
                    columns = self._columns(joined)
                    if columns != _OPEN and row_inside:
                        columns = _BROKEN
                # If a line inside a quoted text is itself a row, the quote was not meant as one.
                row_inside |= separators > 2 and more[1].count(self._text.separator) == separators
            if columns < 0:
                waiting.extendleft(reversed(taken[1:]))
                joined, fault, columns = text, "quote_unbalanced", 0
            yield number, joined, fault, columns


def csv_pieces(path: Path, dialect: Csv, size: Size) -> Iterator[Piece]:
    """Yield a CSV file in pieces, at least one. All columns are text.

    Raises:
        SourceError: the file is empty or not in the declared encoding, or `csv.header` does not fit.
        OSError, EOFError, zlib.error: the file cannot be read or decompressed.
    """
    with tempfile.TemporaryDirectory(prefix="shoplens-csv-") as folder:
        text = _with_header(path, _utf8_copy(path, dialect.encoding, Path(folder) / "text.csv"), dialect)
        rows, note = text.count(), ""
        repaired = rows is None
        if rows is None:
            repair = _Repair(text)
            text, rows = repair.copy(Path(folder) / "repaired.csv"), repair.rows
            if repair.lines > rows:
                note = f"{path.name}: {repair.lines:,} lines are {rows:,} rows: quoted texts hold line ends"
        limit = max(1, min(size.rows, size.bytes // (text.place.stat().st_size // max(1, rows) + 1)))
        first, read = pl.col(text.names[0]), 0
        with duckdb.connect() as connection:
            for batch in text.scan(connection, "*").to_arrow_reader(limit):
                for frame in pl.DataFrame(batch).iter_slices(limit):
                    frame.columns = list(text.names)
                    if repaired:
                        kept = pl.when(first.str.starts_with(_MARK)).then(first.str.slice(1))
                        frame = frame.with_columns(  # noqa: PLW2901
                            kept.str.decode("hex").cast(pl.String).alias(MALFORMED), pl.when(kept.is_null()).then(first)
                        )
                    yield Piece(frame, "" if read else note)
                    read += frame.height
        if read != rows:
            raise SourceError(f"{path}: {rows:,} rows were counted and {read:,} read; the file has changed")
        if not read:
            yield Piece(pl.DataFrame(schema=dict.fromkeys(text.names, pl.String)))
