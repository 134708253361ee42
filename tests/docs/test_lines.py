"""Every line that calls h2sim, in the README, the site, the notes on the data and the help, is run, as it stands.

A line runs in an empty folder that holds what it reads (tests/docs/pantry.py). A line that is new is run. Those that
are not are listed here, with the reason; click reads their options all the same.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec

import click
import pytest

from tests.docs.lines import all_lines, blocks, page_lines, parsed, python_blocks, read_words
from tests.docs.pantry import open_pantry, small
from tests.helpers.houses import ROOT

GPU = "needs a GPU of NVIDIA's; tests/gpu/test_record.py measures steps on the processor"
OWN_FILES = "reads a data set from the user's own files; tests/datasets reads files of its formats"
CLUSTER = "needs a running cluster; tests/sweeps/test_cluster.py starts one"
RTL = "minutes of hardware simulation or synthesis; tests/rtl runs small ones"
NOT_RUN = {
    "h2sim reproduce -o reports/h2learn": "takes half an hour; tests/accuracy/test_reproduce.py runs it",
    "h2sim gpu record cifar10 --batch 64 -o mine.json": GPU,
    "h2sim gpu record mnist --implementation fused --repeats 100 --area 815 --node 12 -o mine.csv": GPU,
    "h2sim train mnist-small mnist --data ~/mnist --epochs 2 --trace-epochs 0,1,last -o run": OWN_FILES,
    "h2sim train 32C3-AP2-10FC fashion-mnist --epochs 1 --loss mse --readout rate --trace-values -o run": OWN_FILES,
    "h2sim sweep space.yaml -o space --dask tcp://node1:8786": CLUSTER,
    "h2sim sweep space.yaml -o space --dask tcp://SCHEDULER:8786": CLUSTER,
    "h2sim completion fish | source": "the syntax of fish, and lines are run by bash",
    "h2sim rtl emit h2learn -o verilog": RTL,
    "h2sim rtl emit mine.yaml -o verilog --engine backward --operand-bits 8": RTL,
    "h2sim rtl check": RTL,
    "h2sim rtl check --machines 6 --cases 100": RTL,
    "h2sim rtl check --wide 3": RTL,
    "h2sim rtl check --planes 4 --engine forward --cases 60": RTL,
    "h2sim rtl check --planes 4 --engine forward --engine weight_update": RTL,
    "h2sim rtl check --machines 45 --cases 400 --wide 3 --mutations --record rtl-record.md": RTL,
    "h2sim rtl check --simulator amaranth --machines 3 --cases 4": RTL,
    "h2sim rtl area h2learn": RTL,
    "h2sim rtl area h2learn --engine backward --liberty cells.lib": RTL,
}
NEEDS = {  # packages of extras, by a word of the line
    "train": ("torch", "mlxtend"), "attack": ("torch", "mlxtend"), "certify": ("torch", "mlxtend"),
    "convert": ("torch", "mlxtend"), "evolve": ("torch", "mlxtend"), "record": ("torch",), "run/": ("torch", "mlxtend"),
    ".nir": ("nir",), ".parquet": ("pyarrow",),
}  # fmt: skip
LINES = all_lines()
ID = "4f3a"  # stands for the beginning of the id of a sweep's machine
# what the README's block is shown with: a model of the reader's
YOURS = """
import torch
from spikingjelly.activation_based import functional, layer, neuron
model = torch.nn.Sequential(layer.Linear(8, 6), neuron.LIFNode(detach_reset=True), layer.Linear(6, 4))
functional.set_step_mode(model, "m")
inputs, labels = torch.ones(3, 2, 8), torch.arange(2)
loss = lambda output, labels: torch.nn.functional.cross_entropy(output.mean(0), labels)
"""


@pytest.fixture(scope="module")
def pantry(tmp_path_factory):
    return open_pantry(tmp_path_factory.mktemp("pantry"))


def skip_without(packages):
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")


@pytest.mark.parametrize("line", [line for line in LINES if line not in NOT_RUN])
def test_a_line_does_what_it_is_shown_to_do(line, pantry, tmp_path):
    skip_without({package for word, needed in NEEDS.items() if word in line for package in needed})
    pantry.serve(line, tmp_path)
    if ID in line:
        done = pantry.shell("h2sim sweep export space -o points.csv && sed -n '2s/,.*//p' points.csv", tmp_path)
        line = line.replace(ID, done.stdout.split()[-1])
    done = pantry.shell(small(line), tmp_path)
    assert done.returncode == 0, f"{LINES.get(line)}: {done.stdout[-2000:]}{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", NOT_RUN)
def test_a_line_that_is_not_run_is_read_by_click(line, pantry, tmp_path, monkeypatch):
    pantry.serve(line, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert parsed(line).command.callback is not None


def test_lines_that_are_not_run_are_still_shown_and_have_a_reason():
    assert set(NOT_RUN) <= set(LINES)
    assert all(len(reason) > 20 for reason in NOT_RUN.values())


def test_the_verdict_in_the_readme_is_what_the_first_command_prints(pantry, tmp_path):
    verdict = pantry.shell("h2sim run h2learn mnist-digits", tmp_path).stdout.splitlines()[0]
    assert f"\n> {verdict}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def imported(text):
    """The packages that a block of Python imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("page", python_blocks())
def test_the_python_of_a_page_runs(page, pantry, tmp_path):
    for number, block in enumerate(python_blocks()[page]):
        text = block if "model" not in block or "model =" in block or "class Net" in block else YOURS + block
        skip_without(set(imported(text)))
        pantry.serve(" ".join(part for part in text.split('"') if part.endswith((".json", ".npz"))), tmp_path)
        script = tmp_path / f"block-{number}.py"
        script.write_text(text)
        done = pantry.shell(f"python {script.name}", tmp_path)
        assert done.returncode == 0, f"{page}: {done.stderr}"


# --- that the checks can fail ----------------------------------------------------------------------------------------


def test_lines_are_found_in_blocks_and_in_indents_and_are_whole():
    page = "```sh\nh2sim a \\\n    --b   # why\npip install h2sim\n```\n\n    h2sim c\n\n- x\n\n"
    page += "  ```sh\n  h2sim d\n  ```\n"
    assert page_lines(page) == ["h2sim a --b", "h2sim d", "h2sim c"]
    assert blocks("```python\nx = 1\n```\n", "python") == ["x = 1\n"]


def test_what_a_line_writes_is_not_put_there_before():
    assert read_words("h2sim run mine.yaml my.npz --json ours.json") == [
        "h2sim",
        "run",
        "mine.yaml",
        "my.npz",
        "--json",
    ]
    assert "run" in read_words("h2sim train x y -o run --resume")


@pytest.mark.parametrize("line", ["h2sim run h2learn mnist-digits --jsn x", "h2sim rtl check --planes many"])
def test_a_wrong_option_of_a_line_that_is_not_run_is_noticed(line):
    with pytest.raises(click.UsageError, match=r"No such option|is not a valid integer"):
        parsed(line)


def test_a_line_that_fails_is_noticed(pantry, tmp_path):
    assert pantry.shell("h2sim run h2learn nothing.npz", tmp_path).returncode == 2
    assert pantry.shell("h2sim run h2learn nothing.npz | cat", tmp_path).returncode == 2
