"""Directives that write reference pages of what the code itself says: schemas, words of results, public names."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from h2sim.arch import load_arch
from h2sim.energy import load_energy_table
from h2sim.report.explain import MARKS
from h2sim.report.fields import TABLE, file_fields
from h2sim.report.keys import KEYS
from h2sim.rivals.registry import load_machine

LONGEST = 40  # characters of a value in a table


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in rows)])


def value_at(file: BaseModel, path: str) -> str:
    """What a file has at a dotted path, as one writes it; empty for what holds other fields, and for long lists."""
    value: Any = file
    for part in path.split("."):
        value = getattr(value, part, None)
    if value is None or isinstance(value, BaseModel | dict) or (isinstance(value, tuple) and len(value) > 3):
        return ""
    text = str(list(value) if isinstance(value, tuple) else value)
    text = text.lower() if isinstance(value, bool) else text
    return f"`{text}`" if len(text) <= LONGEST else ""


def fields_markdown(kind: str) -> str:
    """Every field of a kind of file: its path, what it is with its mark, and its value in the shipped file."""
    if kind == TABLE:
        file, name = load_energy_table("28nm"), "28nm.yaml"
    else:
        file = load_arch(kind) if kind == "h2learn" else load_machine(kind)
        name = f"{kind}.yaml"
    fields = file_fields()[kind]
    marks = "" if kind == TABLE else f"{MARKS} "
    groups = (group_markdown(holder, fields, file) for holder in ("", *holders(fields)))
    return "\n\n".join([f"{marks}Values are those of `{name}`.", *groups])


def holders(fields: Mapping[str, str]) -> list[str]:
    """The paths of fields that hold others."""
    return list(dict.fromkeys(holder for path in fields if (holder := path.rpartition(".")[0])))


def group_markdown(holder: str, fields: Mapping[str, str], file: BaseModel) -> str:
    """What a field holds, as a table: each field by its last name, what it is, and its value in the shipped file."""
    inner = holders(fields)
    held = [path for path in fields if path.rpartition(".")[0] == holder and path not in inner]
    rows = ((f"`{path.rpartition('.')[2]}`", fields[path], value_at(file, path)) for path in held)
    title = f"**`{holder}`** {fields.get(holder, '')}\n\n" if holder else ""
    return title + (table(("field", "meaning", "value"), rows) if held else "")


def words_markdown() -> str:
    """Every word of results, CSV files and the terminal."""
    return table(("word", "meaning"), ((f"`{word}`", KEYS[word]) for word in sorted(KEYS, key=str.lower)))


def names_markdown(module: str) -> str:
    """The public names of a module, each with what its docstring says."""
    home = importlib.import_module(module)
    parts = [entry(module, name, getattr(home, name)) for name in sorted(home.__all__) if name != "__version__"]
    return "```{eval-rst}\n" + "\n\n".join(parts) + "\n```"


def entry(module: str, name: str, value: Any) -> str:
    """autodoc's directive for one public name; of a class only what its own module defines."""
    if not inspect.isclass(value):
        return f".. autofunction:: {module}.{name}"
    own = [
        member
        for member, found in vars(value).items()
        if not member.startswith("_") and inspect.getdoc(found) and (callable(found) or isinstance(found, property))
    ]
    members = f"\n   :members: {', '.join(own)}" if own else ""
    return f".. autoclass:: {module}.{name}(...){members}"


WRITERS = {"fields": fields_markdown, "words": words_markdown, "names": names_markdown}


class FromSources(SphinxDirective):
    """`{from-sources} fields h2learn`: what a writer of WRITERS makes, read as Markdown in the directive's place."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(WRITERS[self.arguments[0]](*self.arguments[1:]))


def as_written(lines: list[str]) -> None:
    """Makes reStructuredText of a docstring's sentences, in place: its stars and bars are no markup; examples stay."""
    example = False
    for number, line in enumerate(lines):
        example = line.strip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([*|\\]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)


def commands_apart(lines: list[str]) -> None:
    """Makes a block of code, in place, of a help text's examples, which sphinx-click gives as lines with bars."""
    head = next((number for number, line in enumerate(lines) if re.fullmatch(r"\| Examples?:", line)), len(lines))
    text, examples = lines[:head], lines[head + 1 :]
    as_written(text)
    code = [line.removeprefix("|").strip() for line in examples if line.strip()]
    lines[:] = [*text, *(["", ".. code-block:: sh", "", *(f"   {line}" for line in code), ""] if code else [])]


class WholeStreams(SphinxTransform):
    """What a cell printed, as one block: the kernel tells it in pieces, which end in the middle of lines."""

    default_priority = 1

    def apply(self, **kwargs: Any) -> None:
        for block in reversed(list(self.document.findall(is_stream))):
            place = block.parent.index(block)
            before = block.parent[place - 1] if place else None
            if before is not None and is_stream(before):
                before.rawsource = before.astext() + block.astext()
                before.clear()
                before += nodes.Text(before.rawsource)
                block.parent.remove(block)


def is_stream(node: nodes.Node) -> bool:
    """Whether a node is standard output of a cell."""
    return isinstance(node, nodes.literal_block) and "stream" in node["classes"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("from-sources", FromSources)
    app.add_transform(WholeStreams)
    app.connect("autodoc-process-docstring", lambda app, what, name, value, options, lines: as_written(lines))
    app.connect("sphinx-click-process-description", lambda app, ctx, lines: commands_apart(lines))
    return {"parallel_read_safe": True}
