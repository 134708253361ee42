"""Networks of version 2 without data: the notation's tokens, and files whose input is counts or read as it is."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.errors import NetworkError
from h2sim.trace import check_layers, load_network, parse_notation, version_of


def entries(notation, shape=(4, 8, 8)):
    return parse_notation(notation, shape)


def test_maximum_and_average_of_spikes_have_no_neuron_and_ap2_keeps_its():
    _, maximum, _, average, _, fires = entries("4C3-MP2-4C3-AP2(Spikes)-4C3-AP2")[:6]
    assert (maximum["mode"], maximum["spiking"], maximum["out_shape"]) == ("max", False, [4, 4, 4])
    assert average["spiking"] is False
    assert "mode" not in average
    assert not {"mode", "spiking"} & set(fires)


@pytest.mark.parametrize(("percent", "scale"), [(20, [5, 4]), (10, [10, 9]), (50, [2, 1]), (1, [100, 99])])
def test_dropout_is_a_gate_whose_scale_is_one_over_what_it_keeps(percent, scale):
    gate = entries(f"4C3-D{percent}-10FC")[1]
    assert (gate["name"], gate["kind"], gate["scale"]) == ("drop1", "gate", scale)


def test_groups_batch_norm_and_mean_are_keys_of_their_layers():
    encode, conv, fc, last = entries("8C3S2(Encoding)(BN)-8C3G4(BN)-16FC(BN)-10FC(Mean)")
    assert (encode["kind"], encode["norm"], encode["stride"]) == ("encode", {"kind": "batch"}, [2, 2])
    assert (conv["groups"], fc["norm"]) == (4, {"kind": "batch"})
    assert (last["mean_over_time"], last["spiking"]) == (True, False)


def test_what_a_notation_of_the_first_version_makes_stays():
    layers = entries("8C3S2(Encoding)-AP2-10FC")
    assert version_of({"layers": layers}) == 1
    assert set(layers[0]) == {"name", "inputs", "kind", "in_shape", "out_shape", "kernel", "stride", "padding"}
    assert set(layers[2]) == {"name", "inputs", "kind", "in_features", "out_features"}


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("4C3(Spikes)-10FC", r"4C3\(Spikes\): expected \(Encoding\) or \(BN\); got \(Spikes\)"),
        ("4C3-MP2(Spikes)-10FC", r"MP2\(Spikes\): expected no word in brackets; got \(Spikes\)"),
        ("4C3-AP2(BN)-10FC", r"AP2\(BN\): expected \(Spikes\); got \(BN\)"),
        ("4C3-D0-10FC", r"D0: expected dropout of 1 to 99 percent; got 0"),
        ("4C3-D100-10FC", r"layer: expected such as .*; got 'D100'"),
        ("4C3-MP0-10FC", r"MP0: expected a kernel and stride of at least 1; got 0 and 0"),
        ("4C3-MP16-10FC", r"MP16: expected at least one position left"),
        ("6C3G4-10FC", r"groups: expected a divisor of 4 and 6 channels; got 4"),
        ("4C3-10FC(Mean)-10FC", r"fc1: mean_over_time: expected of the last layer"),
    ],
)
def test_a_part_that_cannot_be_is_one_line(notation, message):
    with pytest.raises(NetworkError, match=message) as caught:
        load_network(notation, (4, 8, 8))
    assert len(caught.value.lines) == 1


def written(folder, text):
    path = folder / "n.yaml"
    path.write_text(f"name: n\ntimesteps: 2\n{text}")
    return str(path)


def test_a_file_may_have_an_input_of_counts(tmp_path):
    network = load_network(written(tmp_path, "input: {shape: [1, 4, 4], kind: counts, most: 7}\nlayers: 4C3-10FC\n"))
    assert (network.input_kind, network.input_most) == ("counts", 7)
    assert network.input_entry == {"kind": "counts", "most": 7}
    meta = check_layers(list(network.layers), "n", network.input_entry)
    assert (meta.version, meta.input_kind) == (2, "counts")


def test_a_product_may_read_analog_input_as_it_is(tmp_path):
    network = load_network(written(tmp_path, "input: {shape: [1, 4, 4], kind: analog}\nlayers: 8FC-10FC\n"))
    assert network.input_entry == {"kind": "analog"}
    assert check_layers(list(network.layers), "n", network.input_entry).version == 2
    assert load_network("mnist").input_entry is load_network("mnist-small").input_entry is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: {shape: [1, 4, 4], kind: counts}\nlayers: 10FC\n", r"input\.most: expected the largest count; got n"),
        ("input: {shape: [1, 4, 4], kind: spikes, most: 3}\nlayers: 10FC\n", r"most: expected nothing for spikes; got"),
        ("input: {shape: [1, 4, 4], kind: counts, most: 1}\nlayers: 10FC\n", r"input\.most: "),
        (
            "input: {shape: [1, 4, 4], kind: counts, most: 3}\nlayers: 4C3(Encoding)-10FC\n",
            r"input\.kind: expected analog \(an encode layer reads it\); got counts",
        ),
    ],
)
def test_an_input_that_cannot_be_is_one_line(tmp_path, text, message):
    with pytest.raises(NetworkError, match=message) as caught:
        load_network(written(tmp_path, text))
    assert len(caught.value.lines) == 1


def test_show_tells_the_new_layers(tmp_path):
    text = "input: {shape: [2, 8, 8], kind: counts, most: 3}\nlayers: 4C3G2(BN)-MP2-D20-10FC(Mean)\n"
    done = CliRunner().invoke(main, ["workload", "show", written(tmp_path, text)])
    assert done.exit_code == 0, done.output
    for words in ("counts up to 3", "pool, no LIF", "gate, no LIF", "drop1"):
        assert words in done.output
