"""Words of the results, of the terminal and of users' files with their meanings, as a document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from h2sim.document import Column, Document, Note, Table, table
from h2sim.report.fields import TABLE, file_fields
from h2sim.report.keys import KEYS

MARKS = "[G] the source gives the value, [D] it is derived from what the source gives, [A] it is assumed."
Meanings = Mapping[str, str]  # word -> meaning


def explanation(word: str) -> Document | None:
    """What a word means, one meaning in a sentence, several as a table; None for an unknown word.

    word: a key of results or of the terminal, or a field of a file: its dotted path, or the end of one.
    """
    found = meanings(word)
    if not found:
        return None
    if len(found) > 1:
        return Document(f"{word}: {len(found)} meanings.", (_words("", found), *_marks(found)))
    ((where, meaning),) = found.items()
    return Document(f"{where}: {meaning}", _marks(found))


def meanings(word: str) -> dict[str, str]:
    """Every meaning of a word by where it has it; fields that mean the same are named together."""
    found = {word: KEYS[word]} if word in KEYS else {}
    for kind, fields in file_fields().items():
        places: dict[str, list[str]] = {}
        for path in _paths(fields, word):
            places.setdefault(fields[path], []).append(path)
        found |= {f"{_file(kind)}: {_named(paths)}": meaning for meaning, paths in places.items()}
    return found


def every_name() -> set[str]:
    """All keys, and all fields by their dotted paths and by the last part of those."""
    paths = {path for fields in file_fields().values() for path in fields}
    return {*KEYS, *paths, *(path.rpartition(".")[2] for path in paths)}


def nearest(word: str) -> list[str]:
    """Up to three known words that look most like an unknown one."""
    return difflib.get_close_matches(word, sorted(every_name()), n=3)


def every_word() -> Document:
    """All words: of results and the terminal, then a table for each kind of file."""
    files = file_fields()
    parts = [_words(f"Fields of {_file(kind)}", fields) for kind, fields in files.items()]
    count = f"{len(KEYS):,} words of results, CSV files and the terminal, with their meanings"
    more = f"; {sum(map(len, files.values())):,} fields of machines' files and energy tables."
    return Document(count + more, (_words("", KEYS), *parts, Note(MARKS)))


def _words(title: str, found: Meanings) -> Table:
    return table(title, ["key", Column("meaning", prose=True)], [], found.items())


def _marks(found: Meanings) -> tuple[Note, ...]:
    """What the marks mean, where one is shown."""
    return (Note(MARKS),) if any(meaning.startswith("[") for meaning in found.values()) else ()


def _paths(fields: Meanings, word: str) -> list[str]:
    """The path itself where it has dots and is whole; otherwise all paths that end in the word."""
    if "." in word and word in fields:
        return [word]
    return [path for path in fields if f".{path}".endswith(f".{word}")]


def _file(kind: str) -> str:
    return kind if kind == TABLE else f"arch file of {kind}"


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return paths[0] + more
