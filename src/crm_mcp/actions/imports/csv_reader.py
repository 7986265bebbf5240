"""A CSV from the outside world: its encoding, its delimiter and its records, whatever state it is in.

Memory stays flat: a file is read line by line, and no record is held that is longer than `LONGEST_RECORD`. What can't
be read is a record with a `fault`, and the rest goes on.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from crm_mcp.errors import InvalidArgument

LONGEST_RECORD = 2 * 1024 * 1024
"""Characters of the longest record that is read whole; a quote that is still open after it will never close."""
MOST_LINES = 100_000
"""Physical lines of the record that has the most of them."""
DELIMITERS = ",;\t|"
UNREADABLE = "\ufffd"

_FEWEST_COLUMNS = 3
"""Of a file in which a line of delimiters is known for a row."""
_CHUNK = 1024 * 1024
_HEADER_PART = 64 * 1024
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record: the physical line that it begins on, its cells, and why they can't be trusted, where they can't."""

    line: int
    cells: list[str]
    size: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file is written; `damaged` where some bytes of it are no characters."""

    name: str
    damaged: bool = False


def find_encoding(path: Path) -> Encoding:
    """Return the encoding that fits every byte of a file: by its mark, else UTF-8, else Windows-1252, else Latin-1."""
    with path.open("rb") as file:
        start = file.read(4)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return Encoding(name, damaged=_first_fault(path, name) is not None)
    if start.startswith(b"PK\x03\x04"):
        raise InvalidArgument(f'"{path.name}" is a workbook or archive, no CSV', "save the sheet as CSV first")
    fault = _first_fault(path, "utf-8")
    if fault is None:
        return Encoding("utf-8")
    if fault == "cut":
        return Encoding("utf-8", damaged=True)
    return Encoding("cp1252" if _first_fault(path, "cp1252") is None else "latin-1")


def _first_fault(path: Path, encoding: str) -> str | None:
    """Return None where the file is all characters, `cut` where it only ends within one, else `wrong`."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
        except UnicodeError:
            return "wrong"
    try:
        decoder.decode(b"", final=True)
    except UnicodeError:
        return "cut"
    return None


def count_lines(path: Path) -> int:
    """Return how many lines a file has, at least one: no fewer than it has records."""
    with path.open("rb") as file:
        return 1 + sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))


class _RecordTooLongError(Exception):
    """A record is longer than any that is read whole."""


class _Lines:
    """Hands physical lines to the csv reader and keeps those of the present record, so that they can be given back."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ahead: deque[str] = deque()
        self._read = 0
        self._given_back = 0
        self.taken: list[str] = []
        self.size = 0
        self.line = 0
        """The physical line that was handed out last."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._next_of_stream()
        if self.taken and (self.size + len(line) > LONGEST_RECORD or len(self.taken) == MOST_LINES):
            self._ahead.appendleft(line)
            raise _RecordTooLongError
        self.taken.append(line)
        self.size += len(line)
        self.line += 1
        if self.size > LONGEST_RECORD:
            raise _RecordTooLongError
        return line

    def _next_of_stream(self) -> str:
        line = self._stream.readline(LONGEST_RECORD + 1)
        if not line:
            raise StopIteration
        self._read += len(line)
        if len(line) > LONGEST_RECORD and not line.endswith(("\n", "\r")):
            while (rest := self._stream.readline(_CHUNK)) and not rest.endswith(("\n", "\r")):
                pass
        return line

    def begin(self) -> None:
        """Forget the lines of the record before."""
        self.taken = []
        self.size = 0

    def give_back(self) -> None:
        """Give back every line but the first of a record that went wrong, so that it alone is lost.

        Hand-made files could make each line read to the limit again: what is read twice is bounded, and after that the
        whole block is one bad record.
        """
        if len(self.taken) < 2 or self._given_back > 4 * self._read + LONGEST_RECORD:
            return
        self._given_back += self.size
        self._ahead.extendleft(reversed(self.taken[1:]))
        self.line -= len(self.taken) - 1
        self.taken = self.taken[:1]
        self.size = len(self.taken[0])

    def look(self) -> list[str]:
        """Take the first lines, up to the end of the first record that has any text; `put` gives them back."""
        quotes = 0
        text = False
        with suppress(_RecordTooLongError):
            for line in self:
                quotes += line.count('"')
                text = text or not line.isspace()
                if self.size > _HEADER_PART or (text and quotes % 2 == 0):
                    break
        return self.taken

    def put(self, lines: list[str]) -> None:
        """Put lines that were looked at in front again."""
        self._ahead.extendleft(reversed(lines))
        self.line -= len(lines)
        self.begin()


class CsvTable:
    """An opened CSV: the header is read, the records come by iterating, once."""

    def __init__(self, stream: TextIO, name: str, encoding: Encoding, size: int) -> None:
        self._lines = _Lines(stream)
        self._stream = stream
        self.name = name
        self.encoding = encoding.name
        self.size = size
        self._damaged = encoding.damaged
        _raise_field_limit()
        self.delimiter = self._find_delimiter()
        self._records = self._read_records()
        self._peeked: deque[CsvRecord] = deque()
        self.header: tuple[str, ...] = ()
        self.header = self._read_header()

    def __iter__(self) -> Iterator[CsvRecord]:
        while self._peeked:
            yield self._peeked.popleft()
        yield from self._records

    def peek(self, most: int) -> list[CsvRecord]:
        """Return the first records that are not read yet, and keep them for reading."""
        while len(self._peeked) < most and (record := next(self._records, None)) is not None:
            self._peeked.append(record)
        return list(self._peeked)[:most]

    def position(self) -> int:
        """Return how much of `size` is read, in bytes for a file; a little ahead of the record given out last."""
        buffer = getattr(self._stream, "buffer", None)
        return self._stream.tell() if buffer is None else buffer.tell()

    def _find_delimiter(self) -> str:
        lines = self._lines.look()
        marked = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
        if marked and marked[1] in DELIMITERS:  # Excel's own hint; the header is what follows
            self._lines.put(lines[1:])
            return marked[1]
        self._lines.put(lines)
        text = "".join(lines)
        if text.count('"') % 2:  # a stray quote: only the first line with text is the header
            text = next(line for line in lines if not line.isspace()).replace('"', "")
        outside = re.sub(r'"[^"]*"', "", text)
        counts = {each: outside.count(each) for each in DELIMITERS}
        best = max(counts, key=lambda each: counts[each])
        return best if counts[best] else ","

    def _read_header(self) -> tuple[str, ...]:
        for record in self._records:
            if record.fault:
                raise InvalidArgument(
                    f'the header line of "{self.name}" can\'t be read: {record.fault}', "repair line 1 of the file"
                )
            header = tuple(" ".join(cell.split()) for cell in record.cells)
            if any("\0" in cell for cell in header):
                raise InvalidArgument(
                    f'"{self.name}" has NUL characters in its first line: it is no CSV, or UTF-16 without its mark',
                    "save it as UTF-8 CSV",
                )
            if any(header):
                return header
        raise InvalidArgument(f'"{self.name}" is empty', "the first line must be a header such as name,email,phone")

    def _read_records(self) -> Generator[CsvRecord]:
        lines = self._lines
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=True)
        while True:
            lines.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RecordTooLongError) as error:
                yield self._broken(error)
                continue
            if len(lines.taken) > 1 and self._are_rows(lines.taken):
                yield self._given_back("a quote opens here and takes in the rows after it")
                continue
            first = lines.line - len(lines.taken) + 1
            fault = None
            if self._damaged and any(UNREADABLE in cell for cell in cells):
                fault = f"bytes that are no {self.encoding} text: cut off, or damaged"
            yield CsvRecord(first, cells, lines.size, fault)

    def _broken(self, error: Exception) -> CsvRecord:
        lines = self._lines
        if lines.size > LONGEST_RECORD:
            line, start = lines.line, lines.taken[0][:200]
            lines.begin()
            fault = f"a line of more than {LONGEST_RECORD:,} characters; only its start is here"
            return CsvRecord(line, [start], len(start), fault)
        if len(lines.taken) > 1 or "unexpected end" in str(error):
            return self._given_back("a quote opens here and never closes")
        return self._given_back('text after a closing quote; a quote within a cell is written ""')

    def _are_rows(self, lines: Sequence[str]) -> bool:
        """Whether the lines of one record are rows that a stray quote has made one, and no text with line breaks: the
        first and most of the others have the delimiters of a whole row. In prose a blank follows these."""
        most = len(self.header) - 1
        if most + 1 < _FEWEST_COLUMNS:
            return False
        mark = self.delimiter
        first, *others = (line.count(mark) - line.count(f"{mark} ") >= most for line in lines if not line.isspace())
        return first and 2 * sum(others) >= len(others) > 0

    def _given_back(self, fault: str) -> CsvRecord:
        """Give back all lines but the first, and return that one as a record that can't be trusted."""
        lines = self._lines
        first = lines.line - len(lines.taken) + 1
        lines.give_back()
        loose = csv.reader(lines.taken, delimiter=self.delimiter, skipinitialspace=True)
        cells = [cell.rstrip("\r\n") for row in loose for cell in row]
        return CsvRecord(first, cells, lines.size, fault)


def _raise_field_limit() -> None:
    """Let a long cell become a rejected row: the csv module's own limit, of the whole process, is 131,072."""
    if csv.field_size_limit() <= LONGEST_RECORD:
        csv.field_size_limit(LONGEST_RECORD + 1)


@contextmanager
def open_csv(path: Path) -> Generator[CsvTable]:
    """Open a CSV file.

    Raises:
        InvalidArgument: it is no file, can't be read, is empty or no CSV.
    """
    try:
        if not path.is_file():
            raise InvalidArgument(f'there is no file "{path}"', "give the path of a CSV file")
        encoding = find_encoding(path)
        errors = "replace" if encoding.damaged else "strict"
        stream = path.open(encoding=encoding.name, errors=errors, newline="")
    except OSError as error:
        raise InvalidArgument(f'"{path}" can\'t be read: {error.strerror}', "give the path of a CSV file") from error
    with stream:
        yield CsvTable(stream, path.name, encoding, path.stat().st_size)


def read_csv(text: str, name: str = "csv") -> CsvTable:
    """Return a CSV that is given as text.

    Raises:
        InvalidArgument: it is empty or no CSV.
    """
    return CsvTable(io.StringIO(text.removeprefix("\ufeff"), newline=""), name, Encoding("text"), len(text))
