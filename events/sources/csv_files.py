"""CSV files through DuckDB.

DuckDB reads a file twice: first to count its rows and the lines that it rejects. Where every line is one well-formed
row, the file is read as it is. Otherwise a repaired copy is read, in which each malformed line is replaced by a
placeholder, so that its neighbours keep their values and their position. DuckDB's own handling is not enough: after an
unclosed quote it skips good lines, it drops a line above `max_line_size` without reporting it, and it refuses mixed
line ends.
"""

import codecs
import csv
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

import duckdb
import polars as pl

from events.mapping import Csv
from events.sources.files import KEPT, MALFORMED, Piece, Size, is_packed, malformed_text, open_unpacked, require_text
from shoplens.errors import SourceError

LONGEST = 1 << 24  # bytes of a line; a longer one is no row of a log
_MARK = "\x1f"  # starts a placeholder: ASCII's unit separator is in no text that people type
_LINES, _BYTES = 1000, 1 << 20  # of one row: a quote that stays open for longer is not a quoted text
_BLOCK = 1 << 22
_UTF_8 = ("utf-8", "utf-8-sig", "ascii")
_SEPARATOR = re.compile('"?sep=(.)"?\r?\n')
OPEN = "open"  # a quoted text that goes on in the next line
_REMEDIES = {
    "row_too_short": "the line has {fields} of {width} columns; add what is missing, or remove the line",
    "row_too_long": "the line has {fields} columns instead of {width}; quote the text that holds a separator",
    "quote_unbalanced": "a quoted text must end before a separator or the line end; close the quote or double it, or "
    "declare `csv: {{quote: none}}` or `escape` in the mapping",
    "not_utf8": "the line is not UTF-8 text; convert the file, or declare `csv: {{encoding: …}}` in the mapping",
    "line_too_large": "a line must have at most 16 MiB; shorten it, or remove it",
}


@dataclass(frozen=True)
class _Text:
    """A UTF-8 file of rows.

    Attributes:
        path: The file as it was given, for messages.
        place: The file that holds the text.
        skip: Lines before the first row.
    """

    path: Path
    place: Path
    skip: int
    names: tuple[str, ...]
    dialect: Csv

    @property
    def quote(self) -> str:
        """The quote character; empty for none."""
        return "" if self.dialect.quote == "none" else self.dialect.quote

    @property
    def escape(self) -> str:
        """The character that escapes a quote inside quotes; empty for none."""
        doubled = self.dialect.escape == '"'
        return "" if self.dialect.escape == "none" or not self.quote else self.quote if doubled else "\\"

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
                "delim": self.dialect.separator,
                "quote": self.quote,
                "escape": self.escape,
                "longest": LONGEST,
                "buffer": 2 * LONGEST,
            },
        )

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
        """A well-formed row, one field of it, and a quoted text without its end."""
        quote, separator = re.escape(self.quote), re.escape(self.dialect.separator)
        inside = {self.quote: f"(?:[^{quote}]|{quote}{quote})*", "\\": rf"(?:[^{quote}\\]|\\.)*"}
        unended = f" *{quote}{inside.get(self.escape, f'[^{quote}]*')}"
        field = rf"(?:{unended}{quote} *(?={separator}|\Z)|(?! *{quote})[^{separator}\n]*)"
        row = f"{field}(?:{separator}{field}){{{len(self.names) - 1}}}{separator}?"
        return re.compile(row, re.DOTALL), re.compile(field, re.DOTALL), re.compile(unended, re.DOTALL)

    def fault(self, text: str) -> tuple[str, int]:
        """Return the reason for which `text` is not a row, empty for a row; and the number of its columns."""
        separator, width = self.dialect.separator, len(self.names)
        if not self.quote or self.quote not in text:
            fields = text.count(separator) + 1
            fields -= fields == width + 1 and text.endswith(separator)  # a trailing separator, as DuckDB accepts it
            return "row_too_short" if fields < width else "row_too_long" if fields > width else "", fields
        row, field, unended = self._patterns
        if row.fullmatch(text):
            return "", width
        start = fields = 0
        while (found := field.match(text, start)) is not None:
            fields += 1
            if found.end() == len(text):
                return "row_too_short" if fields < width else "row_too_long", fields
            start = found.end() + 1
        return OPEN if unended.fullmatch(text, start) else "quote_unbalanced", fields


def _utf8_copy(path: Path, encoding: str, target: Path) -> Path:
    """Return a file with the text of `path` in UTF-8 and with line feeds: itself where it is such a file."""
    try:
        codec = codecs.lookup(encoding).name
    except LookupError as error:
        raise SourceError(f"{path}: csv.encoding: unknown encoding {encoding!r}; write utf-8 or cp1252, say") from error
    with open_unpacked(path) as stream:
        start = stream.read(_BLOCK)
    returns = b"\r" in start and b"\n" not in start  # line ends of the old Macintosh
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


def _unique(row: list[str]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for name in row:
        again = (f"{name}_duplicated_{n}" for n in count())
        names[name if name not in names else next(one for one in again if one not in names)] = None
    return tuple(names)


def _with_header(path: Path, place: Path, dialect: Csv) -> _Text:
    """Read the names of the columns, and the separator where Excel has written it into the first line, as `sep=;`.

    Raises:
        SourceError: there is no row, the header is not UTF-8, or `csv.header` has another number of columns.
    """
    with place.open("rb") as raw:
        require_text(path, raw.read(_BLOCK))
    with place.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        stated = _SEPARATOR.fullmatch(stream.readline(16))
        if stated is None:
            stream.seek(0)
        else:
            dialect = dialect.model_copy(update={"separator": stated[1]})
        skip = int(stated is not None)
        text = _Text(path, place, skip, dialect.header, dialect)
        rows = csv.reader(
            stream,
            delimiter=dialect.separator,
            quotechar=text.quote or None,
            quoting=csv.QUOTE_MINIMAL if text.quote else csv.QUOTE_NONE,
            escapechar="\\" if text.escape == "\\" else None,
            doublequote=text.escape == text.quote,
            strict=True,
        )
        try:
            row = next((row for row in rows if row), None)
        except csv.Error as error:
            raise SourceError(f"{path}: the first row must be well-formed CSV: a quote in it is not closed") from error
    if row is None:
        raise SourceError(f"{path}: must hold rows; received an empty CSV file")
    if dialect.header:
        if len(row) != len(dialect.header):
            raise SourceError(
                f"{path}: csv.header: must name every column: it names {len(dialect.header)}, the file has {len(row)}. "
                f"Correct the mapping"
            )
        return text
    for n, name in enumerate(row, start=1):
        if any("\udc80" <= one <= "\udcff" for one in name):
            raise SourceError(_undeclared(path, f"the header, column {n}"))
    return replace(text, skip=skip + rows.line_num, names=_unique(row))


def _undeclared(path: Path, where: str) -> str:
    return (
        f"{path}: must be UTF-8 text; {where} is not. Declare the file's encoding in the mapping, for example "
        f"`csv: {{encoding: cp1252}}`"
    )


@dataclass(frozen=True)
class _Line:
    """Lines of a file that stand for one row: the number of the first, the text, and what is wrong with it."""

    number: int
    text: str
    reason: str = ""
    fields: int = 0


class _Repair:
    """Copies a file row by row; each malformed line becomes a placeholder.

    Attributes:
        rows: How many rows the copy has, placeholders included.
        lines: How many lines the file has, blank ones left out.
    """

    def __init__(self, text: _Text) -> None:
        self._text = text
        self.rows = self.lines = 0
        self._invalid = self._valid = 0  # lines beyond ASCII that are not UTF-8, and that are
        self._first_invalid = ""

    def copy(self, target: Path) -> _Text:
        """Write the copy.

        Raises:
            SourceError: the file as a whole is in another encoding.
        """
        text = self._text
        with target.open("w", encoding="utf-8", newline="") as out:
            for row in self._joined():
                out.write((self._placeholder(row) if row.reason else row.text) + "\n")
                self.rows += 1
        # A few lines that are not UTF-8 are malformed; where most are, the file has another encoding.
        if self._invalid > self._valid and self._invalid >= min(2, self.rows) and self._invalid * 100 >= self.rows:
            raise SourceError(_undeclared(text.path, self._first_invalid))
        return replace(text, place=target, skip=0)

    def _read(self) -> Iterator[_Line]:
        """Yield every line that is not blank."""
        with self._text.place.open("rb") as stream:
            for number in count(1):
                line = stream.readline(LONGEST + 1)
                if not line:
                    return
                large = len(line) > LONGEST
                while large and not line.endswith(b"\n"):
                    line = line[:KEPT] + stream.readline(LONGEST)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                line = line.rstrip(b"\r\n")
                if number > self._text.skip and (line or len(self._text.names) == 1):
                    self.lines += 1
                    yield self._decoded(number, line[:KEPT] if large else line, "line_too_large" if large else "")

    def _decoded(self, number: int, line: bytes, reason: str) -> _Line:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            self._invalid += 1
            before = line[: error.start].count(self._text.dialect.separator.encode())
            self._first_invalid = self._first_invalid or f"line {number:,}, column {before + 1}"
            return _Line(number, line.decode(errors="backslashreplace"), reason or "not_utf8")
        self._valid += not line.isascii()
        return _Line(number, text, reason)

    def _joined(self) -> Iterator[_Line]:
        """Yield every row: a line, or the lines that a quoted text goes over."""
        lines, waiting = self._read(), deque[_Line]()

        def following() -> _Line | None:
            return waiting.popleft() if waiting else next(lines, None)

        while (line := following()) is not None:
            reason, fields = (line.reason, 0) if line.reason else self._text.fault(line.text)
            row = replace(line, reason=reason, fields=fields)
            if reason == OPEN:
                row, unused = self._closed(line, following)
                waiting.extendleft(reversed(unused))
            yield row

    def _closed(self, line: _Line, following: Callable[[], _Line | None]) -> tuple[_Line, list[_Line]]:
        """Return the row that starts with `line`, whose quote is open, and lines that were read and are none of it."""
        text, taken, size = self._text, list[_Line](), len(line.text)
        width, row_inside = len(text.names), False
        while len(taken) < _LINES and size < _BYTES and (more := following()) is not None:
            taken.append(more)
            size += len(more.text)
            if more.reason:
                break
            if text.quote in more.text:
                joined = "\n".join([line.text, *(one.text for one in taken)])
                reason, fields = text.fault(joined)
                if reason == "quote_unbalanced" or (reason != OPEN and row_inside):
                    break
                if reason != OPEN:
                    return _Line(line.number, joined, reason, fields), []
            # A line inside a quoted text is itself a row: then the quote was never meant to be one.
            row_inside |= width > 3 and more.text.count(text.dialect.separator) == width - 1
        return replace(line, reason="quote_unbalanced"), taken

    def _placeholder(self, row: _Line) -> str:
        remedy = _REMEDIES[row.reason].format(fields=row.fields, width=len(self._text.names))
        mark = f"{_MARK}{row.reason}{_MARK}{malformed_text(row.number, row.text, remedy).encode().hex()}"
        return mark + self._text.dialect.separator * (len(self._text.names) - 1)


def _is_clean(text: _Text) -> tuple[bool, int]:
    """Return whether every line is one well-formed row, and how many rows there are."""
    with text.place.open("rb") as stream:
        lines, last = -text.skip, b"\n"
        while block := stream.read(_BLOCK):
            lines, last = lines + block.count(b"\n"), block[-1:]
    try:
        with duckdb.connect() as connection:
            (found,) = text.scan(connection, "count(*), count(COLUMNS(*))").fetchall()
            tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'")
            rejected = tables.fetchall() != [(0,)] and connection.execute("FROM reject_errors LIMIT 1").fetchall()
    except duckdb.Error:  # mixed line ends, for example: the copy has none
        return False, 0
    rows = int(found[0])
    return rows == lines + (last != b"\n") and not rejected, rows


def _piece(frame: pl.DataFrame, names: tuple[str, ...], note: str) -> Piece:
    """Return rows as a piece; placeholders become malformed rows without values."""
    first = frame.to_series(0)
    marked = first.str.starts_with(_MARK).fill_null(value=False)
    frame.columns = list(names)
    if not marked.any():
        return Piece(frame, note=note)
    parts = first.filter(marked).str.split(_MARK)
    raw = parts.list.get(2).str.decode("hex").cast(pl.String)
    malformed = pl.DataFrame({"nth": marked.arg_true(), "reason": parts.list.get(1), "raw": raw}, schema=MALFORMED)
    return Piece(frame.with_columns(pl.when(~marked).then(pl.all())), malformed, note)


def csv_pieces(path: Path, dialect: Csv, size: Size) -> Iterator[Piece]:
    """Yield a CSV file in pieces, at least one. All columns are text.

    Raises:
        SourceError: there is no row, the file has another encoding than declared, or `csv.header` does not fit.
        OSError, EOFError, zlib.error: the file cannot be read or decompressed.
    """
    with tempfile.TemporaryDirectory(prefix="shoplens-csv-") as folder:
        text = _with_header(path, _utf8_copy(path, dialect.encoding, Path(folder) / "text.csv"), dialect)
        clean, rows = _is_clean(text)
        note = ""
        if not clean:
            repair = _Repair(text)
            text, rows = repair.copy(Path(folder) / "repaired.csv"), repair.rows
            if repair.lines > rows:
                note = f"{path.name}: {repair.lines:,} lines are {rows:,} rows: quoted texts hold line ends"
        a_row = text.place.stat().st_size // max(1, rows) + 1
        limit = max(1, min(size.rows, size.bytes // a_row))
        read = 0
        with duckdb.connect() as connection:
            for batch in text.scan(connection, "*").to_arrow_reader(limit):
                for frame in pl.DataFrame(batch).iter_slices(limit):
                    yield _piece(frame, text.names, "" if read else note)
                    read += frame.height
        if read != rows:
            raise SourceError(f"{path}: {rows:,} rows were counted and {read:,} read; the file changed meanwhile")
        if not read:
            yield Piece(pl.DataFrame(schema=dict.fromkeys(text.names, pl.String)))
