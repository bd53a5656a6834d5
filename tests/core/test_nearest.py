from __future__ import annotations

from filbert.core.nearest import did_you_mean, nearest


def test_what_begins_so_comes_before_what_resembles_it() -> None:
    assert nearest("smol", ["b-smol", "smollm2:135m", "smollm2:1b"])[:2] == ["smollm2:1b", "smollm2:135m"]
    assert nearest("contxt", ["load.context", "context", "seed"])[0] == "context"


def test_what_nothing_resembles_has_no_neighbour() -> None:
    assert nearest("frobnicate", ["chat", "pull"]) == []
    assert nearest("", ["chat"]) == []


def test_the_nearest_is_asked_for() -> None:
    assert did_you_mean("chta", ["chat", "pull"]) == "Did you mean chat?"
    assert did_you_mean("frobnicate", ["chat"], "`filbert -h` lists them.") == "`filbert -h` lists them."


def test_what_forgets_is_named_for_a_slip_and_for_no_other_word() -> None:
    commands = ["/reset", "/regen", "/model"]
    assert did_you_mean("/rest", commands, "none", sparing=["/reset"]) == "Did you mean /reset?"
    assert did_you_mean("/set", ["/reset"], "none", sparing=["/reset"]) == "none"
    assert did_you_mean("/re", commands, "none", sparing=["/reset"]) == "Did you mean /regen?"
