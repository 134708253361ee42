"""YAML written to hurt: in every kind of file and in --set, each is one short line, soon and in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from h2sim.errors import MOST_LINES
from tests.robust.limits import ADDRESS_SPACE, PATIENCE_S, limited

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{before}'] * 10)}]\n" for before, n in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = 20_000
BODIES: dict[str, bytes] = {
    "aliases that multiply": BOMB.encode(),
    "aliases that multiply in a field": (BOMB + "name: *i\nversion: *i\nlayers: *i\nrules: *i\n").encode(),
    "keys that are aliases": b"a: &a name\n*a : 1\n*a : 2\n",
    "an anchor that holds itself": b"a: &a [*a]\n",
    "a mapping that holds itself": b"&a a: 1\nb: &b {c: *b}\n",
    "an alias of nothing": b"a: *nothing\n",
    "an integer of 400 digits": b"name: x\nnode_nm: " + b"9" * 400 + b"\nversion: " + b"9" * 400 + b"\n",
    "an integer of 100000 digits": b"version: " + b"9" * 100_000 + b"\n",
    "an integer of base 60": b"version: " + b"1" + b":59" * 5000 + b"\n",
    "a hexadecimal integer": b"version: 0x" + b"f" * 5000 + b"\n",
    "an exponent out of range": b"version: 1e999999999999\nscale: 1e400\nthreshold: 1e400\n",
    "a scale that overflows": b"scale: {energy: 1e308, delay: 1e308, area: 1e308}\nenergy: 1e308 PJ\n",
    "a number next to 0": b"version: 1e-999999999\n",
    "a date": b"name: 2001-12-14t21:59:43.10-05:00\nversion: 2001-12-14\n",
    "a date that is none": b"version: 2001-99-99\n",
    "keys of several kinds": b"1: a\nx: b\nnull: c\ntrue: d\n2001-01-01: e\n1.5: f\n",
    "a list as a key": b"? [a, b]\n: 1\n",
    "a mapping as a key": b"? {a: b}\n: 1\n",
    "a merge": b"base: &b {version: 1}\n<<: *b\n",
    "merges that multiply": b"a: &a {<<: [" + b"{x: 1}, " * 1000 + b"]}\n",
    "a value key": b"=: 1\n",
    "a tag of Python": b"!!python/object/apply:os.system ['exit 1']\n",
    "a tag of one's own": b"version: !mine 1\n",
    "a tag of 100000 characters": b"version: !" + b"x" * 100_000 + b" 1\n",
    "binary": b"version: !!binary aGVsbG8=\n",
    "binary that is none": b"version: !!binary \xe2\x82\xac\n",
    "a set": b"version: !!set {a, b}\n",
    "an ordered map": b"version: !!omap [a: 1]\n",
    "pairs": b"version: !!pairs [a: 1]\n",
    "text said to be an integer": b"version: !!int x\n",
    "nothing said to be a number": b"version: !!float\n",
    "signs said to be an integer": b"version: !!int '+'\n",
    "lines said to be an integer": b"version: !!int '__'\n",
    "text said to be a truth value": b"version: !!bool x\n",
    "a NUL": b"version: 1\0\n",
    "a NUL that is escaped": b'name: "\\0"\nversion: "\\0"\n',
    "half of a surrogate pair": b'name: "\\ud800"\nversion: "\\ud800"\n',
    "a code point that is none": b'version: "\\UFFFFFFFF"\n',
    "a byte order mark": b"\xef\xbb\xbfversion: x\n",
    "byte order marks within": b"version: \xef\xbb\xbf\xef\xbb\xbfx\n",
    "UTF-16": "version: x\n".encode("utf-16"),
    "UTF-32": "version: x\n".encode("utf-32"),
    "Latin-1": b"version: \xe9\n",
    "tabs": b"version:\n\tx: 1\n",
    "a tab before a key": b"\tversion: 1\n",
    "lists in lists": b"version: " + b"[" * DEEP + b"]" * DEEP + b"\n",
    "lists without an end": b"version: " + b"[" * DEEP,
    "mappings in mappings": b"version: " + b"{a: " * DEEP + b"}" * DEEP + b"\n",
    "nesting by indentation": b"".join(b" " * n + b"a:\n" for n in range(1000)),
    "nesting by dashes": b"- " * DEEP + b"x\n",
    "keys twice": b"version: 1\nversion: 1\n",
    "keys twice, far inside": b"version: {a: {b: 1, b: 2}}\n",
    "a scalar of 900 kB": b"version: " + b"x" * 900_000 + b"\n",
    "a scalar of 900 kB in quotes": b"version: '" + b"\\e" * 450_000 + b"'\n",
    "a key of 900 kB": b"x" * 900_000 + b": 1\n",
    "a comment of 900 kB": b"#" * 900_000 + b"\n",
    "a list of 250000": b"version: [" + b"1," * 250_000 + b"]\n",
    "20000 keys": b"".join(b"k%d: 1\n" % n for n in range(20_000)),
    "more than is read": b"version: '" + b"x" * 40_000_000 + b"'\n",
    "several documents": b"version: 1\n---\nversion: 1\n",
    "directives": b"%YAML 9.9\n---\nversion: 1\n",
    "100000 directives": b"%X\n" * 100_000 + b"---\nversion: 1\n",
    "anchors without number": b"version: [" + b"".join(b"&a%d x, " % n for n in range(5_000)) + b"]\n",
    "nothing": b"",
    "null": b"null\n",
    "text": b"version\n",
    "a list": b"- version\n",
    "escapes of a terminal": b'version: "\\e[2J\\n\\e]0;x\\a"\n"\\e[31m": 1\n',
    "a name that turns the line": "version: \u202eevil\n\u202ename: 1\n".encode(),
    "quotes without an end": b"version: '" + b"x" * 1000,
    "a block that is cut": b"version: |\n",
    "an indicator": b"version: @x\n",
    "infinity and no number": b"version: .nan\nscale: .inf\nclock_mhz: .inf\n",
}  # fmt: skip
READERS = ("arch", "table", "network", "rules")
SET = {name: body for name, body in BODIES.items() if len(body) < 100_000 and name not in ("text", "nothing")}

CHILD = """if True:
    import json, sys
    from pathlib import Path
    from click.testing import CliRunner
    from h2sim.cli import main
    def said(*arguments):
        result = CliRunner().invoke(main, list(arguments))
        error = result.exception
        return [result.exit_code, result.stderr, repr(error) if not isinstance(error, SystemExit | None) else ""]
    kind, folder = sys.argv[1], Path(sys.argv[2])
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        print(path.name, file=sys.stderr, flush=True)
        found[path.name] = {
            "arch": lambda: said("arch", "check", str(path)),
            "table": lambda: said("table", "check", str(path)),
            "network": lambda: said("workload", "show", str(path)),
            "rules": lambda: said("gpu", "import", str(folder / "p.json"), "--network", "mnist-small", "--batch", "4",
                                  "--map", str(path), "-o", str(folder / "o.json")),
            "set": lambda: said("arch", "check", "h2learn", "--set",
                                "name=" + path.read_bytes().decode("utf-8", "surrogateescape")),
            "run": lambda: said("run", "h2learn", "mnist-digits", "--set",
                                "tile=" + path.read_bytes().decode("utf-8", "surrogateescape")),
        }[kind]()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    for number, body in enumerate(BODIES.values()):
        (place / f"{number:02d}.yaml").write_bytes(body)
    return place


def answers(kind, folder):
    """What every body was answered with, from one child within bounds of time and memory."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, kind, str(folder)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, preexec_fn=limited,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{kind}, with {ADDRESS_SPACE} bytes: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def wrong(answer, lines=1):
    """What is wrong with an answer to bad input: no refusal, a traceback, too many lines, or lines that act."""
    status, text, error = answer
    if error or status != 2:
        return f"status {status} {error[:200]}"
    said = text.splitlines()
    if len(said) > lines or (not text.isascii() and any(not c.isprintable() for c in text.replace("\n", ""))):
        return f"{len(said)} lines: {text[:300]!r}"
    if any(len(line) > 2100 or not line.isprintable() or not line.startswith("h2sim: ") for line in said):
        return f"an odd line: {text[:300]!r}"
    return None


@pytest.mark.parametrize("kind", READERS)
def test_each_is_one_line_in_every_kind_of_file(kind, folder):
    (folder / "p.json").write_text('{"traceEvents": []}')
    found = answers(kind, folder)
    names = dict(zip(sorted(found), BODIES, strict=True))
    # all faults of a file that is YAML are told, a line each
    bad = {names[file]: fault for file, answer in found.items() if (fault := wrong(answer, lines=MOST_LINES + 1))}
    assert bad == {}


@pytest.mark.parametrize("kind", ["set", "run"])
def test_each_is_one_line_as_a_setting(kind, tmp_path):
    for number, body in enumerate(SET.values()):
        (tmp_path / f"{number:02d}.yaml").write_bytes(body)
    found = answers(kind, tmp_path)
    names = dict(zip(sorted(found), SET, strict=True))
    most = {"set": 1, "run": 20}[kind]  # a mapping for a field of several is told all that is wrong with it
    assert {names[file]: fault for file, answer in found.items() if (fault := wrong(answer, most))} == {}
