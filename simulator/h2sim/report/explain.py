"""Words of the results and of the terminal with their meanings, as a document."""

from __future__ import annotations

from collections.abc import Mapping

from h2sim.document import Column, Document, table


def keys_document(keys: Mapping[str, str]) -> Document:
    """One word in a sentence; several as a table."""
    if len(keys) == 1:
        ((key, meaning),) = keys.items()
        return Document(f"{key}: {meaning}")
    words = table("", ["key", Column("meaning", prose=True)], [], keys.items())
    return Document(f"{len(keys):,} words of results, CSV files and the terminal, with their meanings.", (words,))
