"""Packed .aedat4 files: read as they are meant, and refused before they unpack to what no memory holds."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import pytest

from h2sim.datasets import aedat4 as aedat4_reader
from h2sim.datasets import frames
from h2sim.datasets.aedat import read_aedat
from h2sim.errors import DatasetError
from tests.datasets import aedat4
from tests.robust.limits import limited

pytest.importorskip("aedat")

EVENTS = [(10, 1, 2, True), (20, 3, 4, False), (30, 15, 11, True)]
PACKET = aedat4.events(EVENTS)
SKIPPED = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
WHOLE = {
    "none": ("none", PACKET),
    "Zstandard": ("zstd", aedat4.zstd(aedat4.stored(PACKET))),
    "Zstandard in blocks": ("zstd", aedat4.zstd(aedat4.stored(PACKET[:9]), aedat4.stored(PACKET[9:]))),
    "Zstandard with its size": ("zstd", aedat4.zstd(aedat4.stored(PACKET), size=len(PACKET))),
    "LZ4": ("lz4", aedat4.lz4((True, PACKET))),
}
ONES = [aedat4.repeated()] * 20_000  # 80,000 bytes that hold 2.6 GB
BOMBS = {
    "Zstandard": ("zstd", aedat4.zstd(*ONES)),
    "a size that is not its own": ("zstd", aedat4.zstd(*ONES, size=100)),
    "many frames": ("zstd", b"".join([aedat4.zstd(*ONES[:500])] * 40)),
    "behind what is skipped": ("zstd", SKIPPED + aedat4.zstd(*ONES)),
    "compressed blocks": ("zstd", aedat4.zstd(*[(2, b"abc", 3)] * 3000)),
    "LZ4": ("lz4", aedat4.lz4(*[(False, b"\x1f\0\x01\0" + b"\xff" * 16_000)] * 70)),
    "blocks of nothing": ("zstd", aedat4.zstd(*[aedat4.stored(b"")] * (frames.MOST_BLOCKS + 1))),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_packed_file_is_read(tmp_path, name):
    packing, packet = WHOLE[name]
    (tmp_path / "r.aedat4").write_bytes(aedat4.file(packing, packet, packet))
    found = read_aedat(str(tmp_path / "r.aedat4"))
    assert found.sensor == (12, 16)
    events = zip(found.t_us.tolist(), found.x.tolist(), found.y.tolist(), found.on.tolist(), strict=True)
    assert sorted(events) == sorted(EVENTS + EVENTS)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, name):
    packing, packet = BOMBS[name]
    (tmp_path / "r.aedat4").write_bytes(aedat4.file(packing, packet))
    monkeypatch.setattr(aedat4_reader, "_packets", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(
        DatasetError, match=r"r\.aedat4: packet: expected at most 268435456 bytes when unpacked; got more$"
    ):
        read_aedat(str(tmp_path / "r.aedat4"))


def test_the_decoder_itself_would_have_unpacked_it(tmp_path):
    """So the refusal is of something: without it, a process of 4 GB has no memory left."""
    (tmp_path / "r.aedat4").write_bytes(aedat4.file("zstd", BOMBS["Zstandard"][1]))
    script = "import aedat, sys; list(aedat.Decoder(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "r.aedat4")], preexec_fn=limited, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"memory" in done.stderr


def test_streams_that_are_described_in_no_utf_8_are_refused_for_the_decoder_would_end_the_process(tmp_path):
    content = aedat4.file("none", PACKET).replace(b"<attr", b"<\xe1ttr", 1)
    (tmp_path / "r.aedat4").write_bytes(content)
    why = r"r\.aedat4: header: expected a description of the streams in UTF-8; got other bytes$"
    with pytest.raises(DatasetError, match=why):
        read_aedat(str(tmp_path / "r.aedat4"))


@pytest.mark.parametrize("name", [*WHOLE, "many frames"])
def test_a_cut_frame_ends_the_walk(name):
    packet = ({**WHOLE, **BOMBS}[name][1])[:5000]
    for end in range(len(packet)):
        found = frames.Unpacked(BytesIO(packet), 0, end, 1 << 40).walk()
        assert not found.too_large


def test_what_a_frame_holds_is_known_to_the_byte_where_nothing_is_compressed():
    packet = aedat4.zstd(aedat4.stored(bytes(100)), aedat4.repeated(1000)) + SKIPPED + aedat4.zstd(aedat4.stored(b"x"))
    assert frames.Unpacked(BytesIO(packet), 0, len(packet), 1 << 40).walk().n_bytes == 1101
    packet = aedat4.lz4((True, bytes(100)), (False, bytes(10)))
    assert frames.Unpacked(BytesIO(packet), 0, len(packet), 1 << 40).walk().n_bytes == 100 + 2550
