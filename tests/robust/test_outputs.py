"""Is an output ever half-written, lost, or put where nobody asked for it?"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest

from h2sim.errors import OutputError
from h2sim.io import files
from h2sim.io.files import replacing, sweep, write_text
from tests.helpers.traces import tiny_trace

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and signals of POSIX")


def parts(folder):
    return [p.name for p in folder.rglob(".h2sim-*")]


@posix
def test_a_link_is_written_through_and_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "out.json", tmp_path / "out.json"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert parts(tmp_path) == []


@posix
def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "out.json").symlink_to(tmp_path / "new.json")
    with pytest.raises(OutputError, match=r"out.json: cannot be written: is no plain file$"):
        write_text(tmp_path / "out.json", "new")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_a_file_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "out.json"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


@posix
def test_a_new_file_has_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "out.json", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == 0o640


def half_write(path):
    with replacing(path) as aside:
        aside.write_text("half")
        raise RuntimeError("no")


def test_what_goes_wrong_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match=r"^no$"):
        half_write(path)
    assert path.read_text() == "old"
    assert parts(tmp_path) == []


@posix
def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_and_of_others_are_not(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead, place = int(done.stdout), files._place()
    names = {
        "dead": f".h2sim-{place}-{dead}-abc.part",
        "living": f".h2sim-{place}-{os.getpid()}-abc.part",
        "elsewhere": f".h2sim-00000000-{dead}-abc.part",
        "another's": ".h2sim-notes.part",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "out.json", "new")
    assert set(parts(tmp_path)) == set(names.values()) - {names["dead"]}
    sweep(tmp_path / "no such folder")  # nothing to do, and no error


def killed_while_writing(folder, number):
    """A process that is ended by a signal in the middle of an output; returns its status."""
    code = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom h2sim.cli.ending import ending_on_signals\n"
        "from h2sim.io.files import replacing\n"
        # what nohup, or a shell that starts a command in the background, ignores
        f"for n in ({int(signal.SIGHUP)}, {int(signal.SIGINT)}):\n    signal.signal(n, signal.SIG_DFL)\n"
        "with ending_on_signals(), replacing(Path('out.json')) as aside:\n"
        "    aside.write_text('half')\n    print('writing', flush=True)\n"
        "    for _ in range(600):\n        time.sleep(0.1)\n"  # a signal just before a sleep waits for its end
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        return process.wait(timeout=60)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_scheduler_s_signal_ends_a_command_as_an_error_does(name, tmp_path):
    (tmp_path / "out.json").write_text("old")
    number = getattr(signal, name)
    assert killed_while_writing(tmp_path, number) == 128 + number
    assert parts(tmp_path) == []
    assert (tmp_path / "out.json").read_text() == "old"


@posix
def test_what_a_sudden_death_leaves_is_gone_after_the_next_write(tmp_path):
    assert killed_while_writing(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert len(parts(tmp_path)) == 1
    write_text(tmp_path / "other.json", "new")
    assert parts(tmp_path) == []


@posix
def test_the_caller_s_own_handlers_come_back(tmp_path):
    from click.testing import CliRunner

    from h2sim.cli import main

    before = signal.getsignal(signal.SIGTERM)
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0
    assert signal.getsignal(signal.SIGTERM) == before


@posix
def test_a_command_that_is_told_to_end_says_so_with_status_143(tmp_path):
    trace = tiny_trace(tmp_path)
    code = (
        "import os, signal, h2sim.facade\nfrom h2sim.cli import main\n"
        "h2sim.facade.simulate = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"main(['run', 'h2learn', {str(trace)!r}, '--json', 'out.json'], prog_name='h2sim')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert done.stderr == "h2sim: ended by SIGTERM; nothing was half-written\n"
    assert parts(tmp_path) == []


# what becomes of the exception on its way through code that is not ours
DROPPED = (
    "class Dropped:\n    def __del__(self):\n"
    "        os.kill(os.getpid(), signal.SIGTERM)\n        for _ in range(9): pass\n"
)
MADE_ANOTHER = (
    "class Made(Exception): pass\n"
    "def another():\n"
    "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        for _ in range(9): pass\n"
    "    except BaseException:\n        raise Made('Error building a validator') from None\n"
)


@posix
@pytest.mark.parametrize(
    ("given", "does"),
    [
        (MADE_ANOTHER, "another()"),
        (DROPPED, "Dropped()"),
        (DROPPED, "Dropped()\n    while True:\n        pass"),
    ],
    ids=["another made of it", "dropped, and done", "dropped, and on"],
)
def test_the_status_is_the_signal_s_whatever_becomes_of_the_exception(given, does):
    code = (
        f"import os, signal\nfrom h2sim.cli import ending\nending.PATIENCE = 0.2\n{given}"
        f"with ending.ending_on_signals():\n    {does}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 143
    assert done.stderr == "h2sim: ended by SIGTERM; nothing was half-written\n"
