"""Names that come from files, made harmless for each place where they may end up.

A layer, a machine, a network or a trace is called as its file says, and a file may come from anyone. Nothing that is
in a name may act: move a terminal's cursor, forge a line, start a formula, end a Markdown cell, begin mathematics in a
picture, or leave the folder. There is one function for each medium. An ordinary name passes all of them unchanged.

Error lines and terminals: `in_terminal` (errors and documents call it for all of their text).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable

from h2sim.errors import printable

FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes for the beginning of a formula
MOST_IN_PICTURE = 40  # characters; matplotlib draws at most 65,536 pixels a side
MOST_IN_FILE_NAME = 120  # bytes; most file systems take 255, and a temporary file's name is longer
_MARKS = re.compile(r"[\\`*<$|~]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BLOCK = re.compile(r"^(?=>|#{1,6}\s|[-+][-\s])|^\d{1,9}(?=[.)]\s)")  # a quote, a heading, a list
_ENTITY = re.compile(r"&(?=#?\w+;)")

in_terminal = printable


def in_csv(text: str) -> str:
    """A cell of text for a spreadsheet: one line, and an apostrophe in front of what would be a formula.

    A number stays a number, and a lone sign stays. `from_csv` takes the apostrophe off again.
    """
    line = printable(text)
    return f"'{line}" if _acts(line) else line


def from_csv(text: str) -> str:
    """The name that `in_csv` made a cell of."""
    return text[1:] if text.startswith("'") and _acts(text[1:]) else text


def _acts(text: str) -> bool:
    bare = text.lstrip("' ")
    return len(bare) > 1 and bare[0] in FORMULA and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it is, within a sentence, a list or a cell: no markup, HTML, mathematics or bar."""
    line = _ENTITY.sub("&amp;", _MARKS.sub(r"\\\g<0>", printable(text)))
    return _BLOCK.sub(r"\g<0>\\", line)


def in_code(text: str) -> str:
    """Text in a Markdown code block, which it cannot end: the fence is longer than any row of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}\n"


def in_picture(text: str, most: int = MOST_IN_PICTURE) -> str:
    """Text for matplotlib: short, and a dollar is a dollar."""
    line = printable(text)
    return (line if len(line) <= most else f"{line[: most - 3]}...").replace("$", r"\$")


def in_file_name(text: str) -> str:
    """A part of a file's name that stays in its folder and that the file system takes.

    Where that changes the name, some digits of its hash keep it apart from others.
    """
    kept = "".join(c if c.isprintable() and c not in "/\\" and _has_bytes(c) else "_" for c in text)
    while len(os.fsencode(kept)) > MOST_IN_FILE_NAME:
        kept = kept[:-1]
    if kept == text:
        return text
    return f"{kept}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _has_bytes(character: str) -> bool:
    """Whether the file system's encoding has the character: under the locale C it may be ASCII."""
    try:
        os.fsencode(character)
    except UnicodeEncodeError:
        return False
    return True


def distinct_ends(paths: Iterable[str], separator: str = os.sep) -> dict[str, str]:
    """The shortest ends of paths that tell them apart: `ours.json`, or `a/ours.json` beside `b/ours.json`."""
    every = {path: path.split(separator) for path in paths}

    def end(parts: list[str]) -> str:
        for length in range(1, len(parts)):
            if sum(other[-length:] == parts[-length:] for other in every.values()) == 1:
                return separator.join(parts[-length:])
        return separator.join(parts)

    return {path: end(parts) for path, parts in every.items()}


def in_shell(word: str) -> str:
    """A word as a shell reads it, in printable characters."""
    if word.isprintable():
        return shlex.quote(word)
    kept = (c if c.isprintable() and c not in "\\'" else "\\'" if c == "'" else repr(c)[1:-1] for c in word)
    return f"$'{''.join(kept)}'"
