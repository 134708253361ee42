"""The sentences that a reproduction begins with say what its verdicts say."""

from __future__ import annotations

from h2sim.reproduce.claims import Claim, load_assumptions, load_claims
from h2sim.reproduce.sensitivity import Row
from h2sim.reproduce.summary import counts, sections, summary


def row(name: str, ours: float, verdict: str, theirs: float = 10.0, **more) -> Row:
    return Row(name, Claim(what=f"the {name}", theirs=theirs, unit="x", where="here", **more), ours, (), verdict)


FITS = row("fe-one", 10.0, "fits")
HOLDS = row("be-one", 12.0, "holds", relation="above")
CHOSEN = row("be-two", 14.0, "explained by spikes at many (10)")
TAKEN = row("area", 14.0, "consistent with buffers at x8 (10)")
NEAR = row("v100-near", 20.0, "not explained: 20 to 21 over spikes")
FAR = row("v100-far", 0.5, "not explained: it hangs on no assumption")
GIVEN = row("clock", 10.0, "fits", kind="given")


def test_three_sentences_say_what_reproduces_what_is_accounted_for_and_what_is_not():
    reproduced, accounted, unexplained = summary([FITS, HOLDS, CHOSEN, TAKEN, NEAR, FAR, GIVEN])
    assert reproduced == (
        "Of 6 tests, 2 reproduce (1 number within tolerance, 1 statement true): "
        "Machine 0 of 1, LUT engines 1 of 1, Backward Engine 1 of 2, V100 0 of 2."
    )
    assert accounted.startswith(
        "2 more agree only when what the source leaves open is assumed otherwise: for 1 of them"
    )
    assert "for 1 the range itself was taken from the source's numbers" in accounted
    assert unexplained == (
        "2 do not reproduce under any value that was swept, furthest off: "
        "the v100-far (ours 0.5x, theirs 10x); the v100-near (ours 20x, theirs 10x)."
    )


def test_the_sentences_follow_the_verdicts_where_there_are_none_of_a_kind():
    assert summary([FITS])[1:] == (
        "No other test agrees when what the source leaves open is assumed otherwise.",
        "No test is left unexplained.",
    )
    assert summary([NEAR])[0].startswith("Of 1 test, none reproduce (0 numbers")
    assert summary([NEAR])[2].startswith("1 does not reproduce under any value that was swept, namely: the v100-near")
    assert summary([GIVEN]) == (
        "No test is among these claims: ours was built from their numbers, or they restate other claims.",
    )


def test_a_fourth_sentence_names_what_the_source_withholds():
    power = row("v100-power", 10.0, "undetermined: the source withholds the power; ours 9 to 11", withheld="the power")
    twice = row("v100-other", 30.0, "undetermined: the source withholds the power", withheld="the power")
    found = summary([FITS, power, twice])
    assert found[0].startswith("Of 3 tests, 1 reproduces (1 number")
    assert found[0].endswith("LUT engines 1 of 1, V100 0 of 2.")
    assert found[3] == "2 are undetermined, for the source withholds what decides: the power."


def test_only_the_three_furthest_are_named():
    many = [row(f"v100-{n}", 10.0 * n, "not explained") for n in range(2, 7)]
    named = summary(many)[2]
    assert [f"v100-{n}" in named for n in range(2, 7)] == [False, False, True, True, True]


def test_every_claim_stands_in_one_section_and_every_test_is_counted_once():
    rows = [Row(name, claim, claim.theirs, (), "fits") for name, claim in load_claims(load_assumptions()).items()]
    assert sum(map(len, sections(rows).values())) == len(rows)
    assert sum(counts(rows).values()) == sum(r.claim.kind == "test" for r in rows) < len(rows)
