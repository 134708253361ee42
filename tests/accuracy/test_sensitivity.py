"""Claims, assumptions and verdicts, on measures made up for the purpose."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from h2sim.errors import ReproductionError
from h2sim.reproduce import claims as claims_module
from h2sim.reproduce.claims import Assumption, Claim, Point, load_assumptions, load_claims
from h2sim.reproduce.sensitivity import regenerate
from h2sim.reproduce.setting import Setting


def claim(theirs: float, relation: str = "equal", **more) -> Claim:
    return Claim(what="w", theirs=theirs, unit="x", where="here", relation=relation, **more)


def assumption(name: str, kind: str = "range", beside: str = "", against=(), **points) -> dict[str, Assumption]:
    values = tuple(Point(label, change) for label, change in points.items())
    return {name: Assumption(name, "d", "s", kind, values, beside, tuple(against))}


SPIKES = assumption("spikes", few={"spikes": 0.5}, many={"spikes": 1.0})
BUFFERS = assumption("buffers", twice={"buffer_scale": 2})


def grows(lab, setting: Setting) -> float:
    """10 by default; 5 and 20 with few and many spikes; buffers add 1 each."""
    return {None: 10.0, 0.5: 5.0, 1.0: 20.0}[setting.spikes] + setting.buffer_scale - 1


def verdict(a_claim: Claim, measure=grows, **assumptions: Assumption) -> str:
    return regenerate("c", a_claim, assumptions, partial(measure, None)).verdict


def test_a_number_within_the_tolerance_fits():
    assert verdict(claim(10.4)) == "fits"
    assert verdict(claim(10.6)).startswith("not explained: it hangs on no assumption")
    assert verdict(claim(10.0, tolerance=0)) == "fits"
    assert verdict(claim(10.0001, tolerance=0)).startswith("not explained")


def test_one_assumption_explains_between_the_neighbours_that_bracket_theirs():
    text = verdict(claim(15, hangs_on=("spikes",)), **SPIKES)
    assert text == "explained by spikes between the default (10) and many (20)"
    text = verdict(claim(7, hangs_on=("spikes",)), **SPIKES)
    assert text == "explained by spikes between few (5) and the default (10)"


def test_a_choice_explains_only_by_one_of_its_values_and_else_spans():
    choice = assumption("spikes", "choice", few={"spikes": 0.5}, many={"spikes": 1.0})
    assert verdict(claim(20.5, hangs_on=("spikes",)), **choice) == "explained by spikes at many (20)"
    assert verdict(claim(15, hangs_on=("spikes",)), **choice) == "spanned by spikes: the default (10), many (20)"


def test_a_range_of_the_sources_own_numbers_is_consistent_and_explains_nothing():
    theirs = assumption("spikes", "theirs", many={"spikes": 1.0})
    text = verdict(claim(15, hangs_on=("spikes",)), **theirs)
    assert text == "consistent with spikes between the default (10) and many (20)"


def test_a_bound_that_leads_elsewhere_is_not_printed():
    bound = assumption("spikes", "bound", few={"spikes": 0.5})
    assert (
        verdict(claim(15, hangs_on=("spikes", "buffers")), **bound, **BUFFERS) == "not explained: 10 to 11 over buffers"
    )


def test_a_bound_never_explains_but_shows_where_the_difference_lies():
    bound = assumption("spikes", "bound", many={"spikes": 1.0})
    text = verdict(claim(18, hangs_on=("buffers", "spikes")), **bound, **BUFFERS)
    assert text == "not explained: 10 to 11 over buffers; 20 at the bound spikes: many"


def test_several_together_are_tried_only_when_none_alone_explains():
    text = verdict(claim(21, tolerance=0.01, hangs_on=("spikes", "buffers")), **SPIKES, **BUFFERS)
    assert text == "explained only by spikes at many, buffers at twice together (21)"
    text = verdict(claim(30, hangs_on=("spikes", "buffers")), **SPIKES, **BUFFERS)
    assert text == "not explained: 5 to 20 over spikes, buffers; 21 with all of them that help"


def test_choices_together_must_meet_theirs_where_a_range_may_pass_it():
    choice = assumption("spikes", "choice", many={"spikes": 1.0})
    other = assumption("buffers", "choice", twice={"buffer_scale": 2})
    past = claim(20.6, tolerance=0.001, hangs_on=("spikes", "buffers"))
    assert verdict(past, **choice, **BUFFERS) == "explained only by spikes at many, buffers at twice together (21)"
    assert verdict(past, **choice, **other).startswith("not explained: 10 to 20 over spikes, buffers; 21 with all")


def test_the_sources_own_numbers_may_be_a_choice_too():
    theirs = assumption("spikes", "theirs-choice", many={"spikes": 1.0})
    assert verdict(claim(15, hangs_on=("spikes",)), **theirs) == "not explained: 10 to 20 over spikes"
    assert verdict(claim(20, hangs_on=("spikes",)), **theirs) == "consistent with spikes at many (20)"


def test_of_several_values_that_agree_the_one_nearest_to_the_default_is_named():
    more = assumption("spikes", "choice", most={"spikes": 1.0, "buffer_scale": 2}, many={"spikes": 1.0})
    text = verdict(claim(20.5, hangs_on=("spikes",)), **more)  # 21 and 20 both agree
    assert text == "explained by spikes at many (20)"


def test_of_the_pairs_that_agree_the_one_nearest_to_the_default_is_named():
    window = assumption("window", none={"layer_window": 0.0})
    area = assumption("area", more={"area_scale": 2.0})

    def sums(lab, setting: Setting) -> float:
        spikes = 3.0 if setting.spikes else 0.0
        return 10.0 + spikes + 2.9 * (setting.layer_window is not None) + 2.8 * (setting.area_scale > 1)

    several = claim(15.6, tolerance=0.001, hangs_on=("spikes", "window", "area"))
    text = verdict(several, sums, **assumption("spikes", many={"spikes": 1.0}), **window, **area)
    assert text == "explained only by window at none, area at more together (15.7); or by 2 other pairs"


def test_more_than_two_together_leave_out_what_is_not_needed():
    names = ("spikes", "window", "area", "grown")
    effects = {"spikes": 3.0, "window": 2.9, "area": 0.1, "grown": 2.8}

    def sums(lab, setting: Setting) -> float:
        changed = {"spikes": setting.spikes, "window": setting.layer_window, "area": setting.area_scale > 1,
                   "grown": setting.buffer_scale > 1}  # fmt: skip
        return 10.0 + sum(effects[name] for name, is_set in changed.items() if is_set)

    changes = {"spikes": {"spikes": 1.0}, "window": {"layer_window": 1.0}, "area": {"area_scale": 2.0},
               "grown": {"buffer_scale": 2}}  # fmt: skip
    several = {name: assumption(name, many=change)[name] for name, change in changes.items()}
    text = verdict(claim(18.6, tolerance=0.001, hangs_on=names), sums, **several)
    assert text == "explained only by spikes at many, window at many, grown at many together (18.7)"


def test_a_pair_is_tried_whose_parts_move_nothing_alone():
    def needs_both(lab, setting: Setting) -> float:
        return 8.0 if setting.spikes == 1.0 and setting.buffer_scale == 2 else 10.0

    text = verdict(claim(9, "below", hangs_on=("spikes", "buffers")), needs_both, **SPIKES, **BUFFERS)
    assert text == "explained only by spikes at many, buffers at twice together (8)"
    bound = assumption("buffers", "bound", twice={"buffer_scale": 2})
    text = verdict(claim(9, "below", hangs_on=("spikes", "buffers")), needs_both, **SPIKES, **bound)
    assert text == "not explained: it hangs on no assumption that is swept"


def test_two_values_of_one_field_are_no_pair():
    one, other = assumption("one", high={"table": "28nm-lop"}), assumption("other", high={"table": "28nm-lstp"})

    def by_table(lab, setting: Setting) -> float:
        return {"28nm": 10.0, "28nm-lop": 11.0, "28nm-lstp": 12.0}[setting.table]

    tried = []

    def counted(lab, setting: Setting) -> float:
        tried.append(setting)
        return by_table(lab, setting)

    assert (
        verdict(claim(20, hangs_on=("one", "other")), counted, **one, **other)
        == "not explained: 10 to 12 over one, other"
    )
    assert len(tried) == 3  # the default and each value alone
    arch = {name: assumption(name, high={"arch": {f"tile.{name}": 7}})[name] for name in ("height", "width")}

    def by_tile(lab, setting: Setting) -> float:
        return 10.0 + len(setting.arch)

    text = verdict(claim(12, tolerance=0, hangs_on=("height", "width")), by_tile, **arch)
    assert text == "explained only by height at high, width at high together (12)"


def test_what_the_source_withholds_leaves_a_number_undetermined_even_where_it_fits():
    text = verdict(claim(10, hangs_on=("spikes",), withheld="its power"), **SPIKES)
    assert text == "undetermined: the source withholds its power; ours 5 to 20 over spikes"
    assert verdict(claim(30, withheld="its power")) == "undetermined: the source withholds its power"


def test_another_reading_stands_beside_and_never_explains():
    reading = assumption("spikes", "reading", few={"spikes": 0.5}, many={"spikes": 1.0})
    text = verdict(claim(20, hangs_on=("spikes", "buffers")), **reading, **BUFFERS)
    assert text == "not explained: 10 to 11 over buffers; read as few: 5, does not agree; read as many: 20, agrees"
    text = verdict(claim(10, hangs_on=("spikes",)), **reading)
    assert text == "fits; read as few: 5, does not agree; read as many: 20, does not agree"


def test_what_stands_beside_a_number_that_fits_says_how_many_of_its_values_agree():
    beside = assumption("spikes", beside="other spikes", few={"spikes": 0.5}, many={"spikes": 1.0})
    text = verdict(claim(8, "above", hangs_on=("spikes",)), **beside)
    assert text == "holds; 5 to 20 over spikes; with other spikes 5, 20 (1 of 2 agree)"
    assert "other spikes" not in verdict(claim(30, hangs_on=("spikes",)), **beside)


def test_a_value_that_agrees_is_contradicted_by_what_fails_there_and_not_by_what_was_as_far_off():
    theirs = assumption(
        "b", "theirs", against=["broken", "kept", "off", "too"], x2={"buffer_scale": 2}, x4={"buffer_scale": 4}
    )
    fails, keeps, off, scale = (
        partial(lambda of, setting: of(setting.buffer_scale), of)
        for of in (lambda b: 2.0 * b, lambda b: 2.0, lambda b: 6.0 - b / 2, lambda b: 5.0 + 5.0 * b)
    )
    small = Claim(what="w", theirs=3, unit="W", where="section 1, table 9: words", relation="below")
    others = {"broken": (small, fails), "kept": (small, keeps), "off": (small, off), "too": (small, fails)}
    text = regenerate("c", claim(20, hangs_on=("b",)), theirs, scale, others).verdict
    assert text == (
        "consistent with b between x2 (15) and x4 (25), but contradicted there by "
        "table 9 (broken 4 to 8 W, theirs < 3; too 4 to 8 W, theirs < 3)"
    )
    # where the default is one of two neighbours, a value near to it may contradict nothing
    text = regenerate("c", claim(12, hangs_on=("b",)), theirs, scale, others).verdict
    assert text == "consistent with b between the default (10) and x2 (15)"


def test_a_claim_from_above_is_pushed_up_and_one_from_below_down():
    weak = claim(19.5, "above", tolerance=0.05, hangs_on=("spikes", "buffers"))  # above 20.475
    assert verdict(weak, **SPIKES, **BUFFERS) == "explained only by spikes at many, buffers at twice together (21)"
    low = claim(4, "below", hangs_on=("spikes", "buffers"))
    assert verdict(low, **SPIKES, **BUFFERS) == "not explained: 5 to 20 over spikes, buffers"


def test_a_range_that_never_reaches_theirs_is_printed():
    assert verdict(claim(30, hangs_on=("spikes",)), **SPIKES) == "not explained: 5 to 20 over spikes"


def test_a_number_that_fits_shows_its_range_all_the_same():
    assert (
        verdict(claim(10, hangs_on=("spikes", "buffers")), **SPIKES, **BUFFERS) == "fits; 5 to 20 over spikes, buffers"
    )


def test_a_sentence_holds_or_does_not():
    assert verdict(claim(11, "below")) == "holds"
    assert verdict(claim(9, "below")).startswith("not explained")
    assert verdict(claim(9, "above")) == "holds"
    assert verdict(claim(10.2, "about")) == "fits"
    # a clear difference is asked for where the claim says so
    assert verdict(claim(10.2, "below", tolerance=0.05)).startswith("not explained")
    assert verdict(claim(8, "below", hangs_on=("spikes",)), **SPIKES) == "explained by spikes at few (5)"


def test_the_span_holds_every_value_that_was_tried():
    row = regenerate("c", claim(10, hangs_on=("spikes",)), SPIKES, partial(grows, None))
    assert row.fits
    (span,) = row.spans
    assert span.values == (("default: d", 10.0), ("few", 5.0), ("many", 20.0))
    assert (span.low, span.high) == (5.0, 20.0)


def test_a_setting_merges_changes_one_level_deep():
    base = Setting(arch={"tile.height": 7}, reading={"power": "busiest"})
    changed = base.changed({"arch": {"tile.width": 7}, "reading": {"engine": "array"}, "spikes": 0.5})
    assert changed.arch == {"tile.height": 7, "tile.width": 7}
    assert (changed.reading.power, changed.reading.engine, changed.spikes) == ("busiest", "array", 0.5)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        base.changed({"nothing": 1})


def test_every_shipped_claim_hangs_on_shipped_assumptions_and_each_is_used():
    assumptions = load_assumptions()
    claims = load_claims(assumptions)
    used = {name for c in claims.values() for name in c.hangs_on}
    assert used == set(assumptions)
    assert all(c.where for c in claims.values())


@pytest.mark.parametrize(
    ("claims", "assumptions", "message"),
    [
        ({"c": {"what": "w"}}, {}, r"claims\.c\.theirs: missing field"),
        (
            {"c": {"what": "w", "theirs": 1.0, "unit": "x", "where": "h", "hangs_on": ["none"]}},
            {"a": {"what": "w", "default": "d", "source": "s", "points": [{"label": "l", "spikes": 0.5}]}},
            r"claims\.c\.hangs_on: expected names of assumptions\.yaml; got 'none'",
        ),
        (
            {},
            {"a": {"what": "w", "default": "d", "source": "s", "points": [{"label": "l", "speed": 1}]}},
            r"assumptions\.a\.points\.0: speed: unknown field",
        ),
        (
            {},
            {"a": {"what": "w", "default": "d", "source": "s", "points": [{"spikes": 0.5}]}},
            r"assumptions\.a\.points\.0: expected a label and a change; got \['spikes'\]",
        ),
        (
            {},
            {
                "a": {
                    "what": "w",
                    "default": "d",
                    "source": "s",
                    "against": ["c"],
                    "points": [{"label": "l", "spikes": 1}],
                }
            },
            r"assumptions\.yaml: assumptions\.a\.against: expected names of claims\.yaml; got 'c'",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_the_field(monkeypatch, claims, assumptions, message):
    files = {"claims": {"claims": claims}, "assumptions": {"assumptions": assumptions}}
    monkeypatch.setattr(claims_module, "_read", lambda name: (files[name], Path(f"{name}.yaml")))
    with pytest.raises(ReproductionError, match=message):
        load_claims(load_assumptions())


# every number that the source prints, typed from it once more: a claim that misquotes it is no claim
PRINTED = {
    "clock": 800, "peak": 27.85, "area": 110.46, "power": 20.57, "fe-lut-size": 48, "wue-lut-size": 80,
    "fe-adders": 36864, "wue-adders": 40960, "fe-area": 2.35, "fe-energy": 2.58, "wue-area": 2.56, "wue-energy": 3.00,
    "be-speedup": 5.19, "be-energy": 9.24, "v100-speedup-lowest": 5.74, "v100-speedup-highest": 10.20,
    "v100-saving-lowest": 5.25, "v100-saving-highest": 7.12, "v100-area": 7.38, "loihi-latency": 1.15e-4,
    "loihi-energy": 3.33e-4, "loihi-speedup": 8.87, "loihi-energy-ratio": 5.06, "fpga-latency": 1.21e-4,
    "fpga-energy": 3.58e-4, "fpga-speedup": 50.50, "fpga-energy-saving": 83.79, "loihi-model-latency": 1.02e-3,
    "loihi-model-energy": 6.60e-5,
}  # fmt: skip


def test_the_claims_quote_the_numbers_that_the_source_prints():
    claims = load_claims(load_assumptions())
    assert {name: claims[name].theirs for name in PRINTED} == PRINTED
    # what is not printed is a sentence, whose bound is a round number, or follows from two printed ones
    rest = {name: claim.theirs for name, claim in claims.items() if name not in PRINTED}
    assert rest.pop("loihi-power") == pytest.approx(3.33e-4 / 1.15e-4, rel=1e-3)
    assert rest.pop("fpga-power") == pytest.approx(3.58e-4 / 1.21e-4, rel=1e-3)
    assert set(rest.values()) <= {0.05, 0.25, 0.5, 1, 2, 4}
