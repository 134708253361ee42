"""Reads a large JSON file an element at a time, so that memory is bounded by the largest element.

Files are taken as profilers write them: a byte order mark, control characters in strings, single backslashes (Windows
paths), bytes that are no UTF-8, a bare list whose last bracket is missing (Chrome's format allows that).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

CHUNK = 1 << 20
MOST_VALUE = 1 << 24  # characters of one element, or of one member that is kept whole
ELEMENT: Final = "element"  # of the wanted list
CUT: Final = "cut"  # the list ended without its bracket, after a whole element
_DECODER = json.JSONDecoder(strict=False)
_BLANK = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class Malformed(ValueError):
    """The text is no JSON. Its text says the line and what is wrong."""


class NoList(ValueError):
    """The file has no list where one is wanted. Its text is the type of what is there."""


def items(read: Callable[[int], bytes], listed: str, whole: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """(ELEMENT, value) for each element of the list under `listed`, or of a bare list; (key, value) for the keys of
    `whole`; (CUT, None) if a bare list lacks its bracket.

    read: reads at most so many bytes. What stands under other keys is passed over. Raises Malformed, NoList,
    RecursionError, ValueError for numbers of thousands of digits, and what `read` raises.
    """
    window = _Window(read)
    first = window.peek()
    if first == "[":
        yield from _elements(window, bare=True)
    elif first == "{":
        yield from _members(window, listed, whole)
    else:
        raise NoList(type(window.value()).__name__)
    if window.peek():
        raise window.fault("Extra data")


def _members(window: _Window, listed: str, whole: Collection[str]) -> Iterator[tuple[str, Any]]:
    window.at += 1
    seen: set[str] = set()
    if window.peek() == "}":
        raise NoList("NoneType")
    while True:
        key = _key(window)
        if key in seen:
            raise window.fault(f"key {key!r} stands twice")
        if key == listed:
            seen.add(key)
            if window.peek() != "[":
                raise NoList(type(window.value()).__name__)
            yield from _elements(window, bare=False)
        elif key in whole:
            seen.add(key)
            yield key, window.value()
        else:
            window.skip()
        mark = window.take(",}", "Expecting ',' delimiter")
        if mark == "}":
            break
    if listed not in seen:
        raise NoList("NoneType")


def _key(window: _Window) -> str:
    if window.peek() != '"':
        raise window.fault("Expecting property name enclosed in double quotes")
    key: str = window.value()
    window.take(":", "Expecting ':' delimiter")
    return key


def _elements(window: _Window, bare: bool) -> Iterator[tuple[str, Any]]:
    window.at += 1
    while True:
        found = window.peek()
        if found == "]":  # also behind a last comma
            window.at += 1
            return
        if not found and bare:
            yield CUT, None
            return
        yield ELEMENT, window.value()
        found = window.peek()
        if found == "," or (found and found != "]"):
            window.take(",", "Expecting ',' delimiter")


class _Window:
    """The part of the text around the place `at` to which it was read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text, self.at = "", 0
        self._line, self._ended = 1, False
        self._mending, self._held = False, ""

    def fault(self, what: str, at: int | None = None) -> Malformed:
        """What is wrong, with its line."""
        line = self._line + self._text.count("\n", 0, self.at if at is None else at)
        return Malformed(f"not valid JSON at line {line}: {what}")

    def peek(self) -> str:
        """The next character that is no blank; none at the end."""
        while True:
            found = _BLANK.match(self._text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self._text):
                return self._text[self.at]
            if self._ended:
                return ""
            self._more(CHUNK)

    def take(self, marks: str, expected: str) -> str:
        """Passes the next mark, which must be one of these."""
        found = self.peek()
        if not found or found not in marks:
            raise self.fault(expected)
        self.at += 1
        return found

    def value(self) -> Any:
        """The value that begins here, and `at` behind it."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self.at)
                if end + 2 < len(self._text) or self._ended:  # a number could go on: 1, 1e+, 1e+5
                    self.at = end
                    return found
            except json.JSONDecodeError as fault:
                if "escape" in fault.msg and not self._mending:
                    self._mend()
                    continue
                if self._ended:
                    raise self.fault(fault.msg, fault.pos) from None
            size = len(self._text) - self.at
            if size > MOST_VALUE:
                raise self.fault(f"no end within {MOST_VALUE:,} characters")
            self._more(max(CHUNK, 2 * size))

    def skip(self) -> None:
        """Passes over a value without keeping it, whatever its size or depth."""
        if self.peek() not in ('"', "[", "{"):
            self.value()
            return
        depth, inside = 0, False
        while True:
            end = self.at
            for token in _MARK.finditer(self._text, self.at):
                end = token.end()
                if token[0] == '"':
                    inside = not inside
                elif not inside and len(token[0]) == 1:
                    depth += 1 if token[0] in "[{" else -1
                if depth <= 0 and not inside:
                    self.at = end
                    return
            half = len(self._text) > end and self._text.endswith("\\")
            self.at = len(self._text) - half
            if self._ended:
                raise self.fault("Expecting its end")
            self._more(CHUNK + half)

    def _more(self, least: int) -> None:
        """Drops what was read and adds text until there are `least` characters from here on, or no more."""
        self._line += self._text.count("\n", 0, self.at)
        parts = [self._text[self.at :]]
        size = len(parts[0])
        while size < least and not self._ended:
            block = self._read(CHUNK)
            self._ended = not block
            parts.append(self._mended(self._decoder.decode(block, final=not block)))
            size += len(parts[-1])
        self._text, self.at = "".join(parts), 0

    def _mend(self) -> None:
        """From here on, a backslash that begins no escape of JSON stands for itself."""
        self._mending = True
        kept, rest = self._text[: self.at], self._text[self.at :]
        self._text = kept + self._mended(rest)

    def _mended(self, text: str) -> str:
        if not self._mending:
            return text
        text = self._held + text
        half = None if self._ended else _HALF_ESCAPE.search(text, max(0, len(text) - 5))
        cut = len(text)
        if half:
            before = text[: half.start()]
            if (len(before) - len(before.rstrip("\\"))) % 2 == 0:  # else it is the second of a pair
                cut = half.start()
        self._held = text[cut:]
        return _ESCAPE.sub(lambda found: found[0] if found[1] else r"\\", text[:cut])
