from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from filbert.core import paths
from filbert.core.errors import BadSetting
from filbert.core.settings import Options, Settings, configured, forgiving, variable


class Oven(Options):
    """An options class as rooms declare them."""

    table: ClassVar[str] = "oven"
    degrees: int = 180
    racks: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None


@pytest.fixture
def write(home: Path) -> Any:
    def to_file(text: str | bytes) -> None:
        paths.config_file().parent.mkdir(parents=True, exist_ok=True)
        paths.config_file().write_bytes(text.encode() if isinstance(text, str) else text)

    return to_file


def test_the_default_holds_where_nothing_is_said() -> None:
    assert configured(Oven).degrees == 180
    assert not configured(Settings).offline


def test_the_file_is_overruled_by_the_environment_and_that_by_what_is_given(write: Any, monkeypatch: Any) -> None:
    write("[oven]\ndegrees = 190\n")
    assert configured(Oven).degrees == 190
    monkeypatch.setenv("FILBERT_OVEN_DEGREES", "200")
    assert configured(Oven).degrees == 200
    assert configured(Oven, {"degrees": 210}).degrees == 210
    assert configured(Oven, {"degrees": None}).degrees == 200


def test_variables_are_named_after_table_and_field() -> None:
    assert variable(Oven, "degrees") == "FILBERT_OVEN_DEGREES"
    assert variable(Settings, "offline") == "FILBERT_OFFLINE"


def test_an_empty_variable_says_nothing(monkeypatch: Any) -> None:
    monkeypatch.setenv("FILBERT_OVEN_DEGREES", "")
    assert configured(Oven).degrees == 180


def test_lists_and_tables_are_json_in_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setenv("FILBERT_OVEN_RACKS", '["top", "[middle]"]')
    monkeypatch.setenv("FILBERT_OVEN_RECIPE", '{"flour": 3}')
    assert configured(Oven).racks == ("top", "[middle]")
    assert configured(Oven).recipe == {"flour": 3}


def test_a_setting_at_the_top_of_the_file_is_read_beside_tables(write: Any) -> None:
    write("offline = true\n[oven]\ndegrees = 190\n")
    assert configured(Settings).offline
    assert configured(Oven).degrees == 190


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ofline = true", "There is no setting ofline."),
        ("[oven]\ndegres = 190", "There is no setting oven.degres."),
        ("[oven]\ndegrees = 'hot'", "degrees cannot be 'hot'."),
        ("oven = 3", "oven in "),
        ("[oven\n", "is not a TOML file."),
        (b"\xff\xfe", "is not a TOML file."),
        ("model = " + "9" * 5000, "cannot be read."),
        ("model = " + "[" * 20_000, "cannot be read."),
        ("model = 0x" + "f" * 5000, "model cannot be so long a value."),
    ],
    ids=[
        "mistyped at the top",
        "mistyped in a table",
        "wrong value",
        "no table",
        "broken",
        "no UTF-8",
        "a long number",
        "a deep list",
        "a number too long to be told",
    ],
)
def test_a_bad_file_is_one_sentence_saying_what_to_do(write: Any, text: str | bytes, told: str) -> None:
    write(text)
    with pytest.raises(BadSetting) as caught:
        configured(Oven)
        configured(Settings)
    assert told in caught.value.what
    assert str(paths.config_file()) in str(caught.value)
    assert caught.value.do


def test_a_wrong_file_counts_for_nothing_where_it_is_forgiven(write: Any) -> None:
    write("[oven]\ndegres = 190\n")
    assert forgiving(Oven).degrees == 180
    assert forgiving(Oven, {"degrees": 210, "recipe": None}).degrees == 210


def test_a_wrong_variable_counts_for_nothing_where_it_is_forgiven(monkeypatch: Any) -> None:
    monkeypatch.setenv("FILBERT_OVEN_DEGREES", "hot")
    assert forgiving(Oven).degrees == 180
    assert forgiving(Oven, {"degrees": 210}).degrees == 210


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_in_the_place_of_the_file_is_told(home: Path) -> None:
    home.mkdir()
    os.mkfifo(paths.config_file())
    with pytest.raises(BadSetting, match="It is no plain file"):
        configured(Oven)


def test_a_variable_of_many_brackets_is_a_wrong_value(monkeypatch: Any) -> None:
    monkeypatch.setenv("FILBERT_OVEN_RACKS", "[" * 100_000)
    with pytest.raises(BadSetting, match=r"oven\.racks cannot be "):
        configured(Oven)


def test_a_bad_variable_is_told_with_its_value(monkeypatch: Any) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "perhaps")
    with pytest.raises(BadSetting, match=r"offline cannot be 'perhaps'.*It comes from FILBERT_OFFLINE"):
        configured(Settings)


def test_what_nobody_declared_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"There is no setting oven\.colour"):
        configured(Oven, {"colour": "red"})


def test_a_file_that_cannot_be_read_is_told(home: Path) -> None:
    paths.config_file().mkdir(parents=True)  # a folder where the file should be: unreadable for root as well
    with pytest.raises(BadSetting, match="cannot be read"):
        configured(Oven)


def test_what_a_preset_keeps_beats_the_file_and_nothing_that_was_told(write: Any, monkeypatch: Any) -> None:
    write('[oven]\ndegrees = 190\nracks = ["top"]\n')
    kept = {"degrees": 210}
    baked = configured(Oven).over_preset("cake", kept)
    assert (baked.degrees, baked.racks) == (210, ("top",))
    assert configured(Oven, {"degrees": 190}).over_preset("cake", kept).degrees == 190
    assert Oven(degrees=190).over_preset("cake", kept).degrees == 190
    assert configured(Oven).choosing(degrees=170).over_preset("cake", kept).degrees == 170
    monkeypatch.setenv("FILBERT_OVEN_DEGREES", "200")
    assert configured(Oven).over_preset("cake", kept).degrees == 200


def test_what_a_preset_keeps_wrong_is_told_with_its_name() -> None:
    with pytest.raises(BadSetting, match=r"It comes from the preset cake\. `filbert set cake degrees=` takes it away"):
        configured(Oven).over_preset("cake", {"degrees": "hot"})


def test_the_nearest_setting_is_told(write: Any, monkeypatch: Any) -> None:
    with pytest.raises(BadSetting, match=r"There is no setting oven\.degres\. Did you mean degrees\?"):
        configured(Oven, {"degres": 1})
    monkeypatch.setenv("FILBERT_OVEN_DEGRES", "190")
    with pytest.raises(BadSetting, match=r"It comes from FILBERT_OVEN_DEGRES\. Did you mean degrees\?"):
        configured(Oven)


def test_a_value_out_of_range_is_told_the_range_and_the_default(write: Any) -> None:
    said = "log_level cannot be 'LOUD'. It takes DEBUG | INFO | WARNING | ERROR; left out, it is INFO."
    with pytest.raises(BadSetting) as given:
        configured(Settings, {"log_level": "LOUD"})
    assert str(given.value).startswith(said)
    write('log_level = "LOUD"')
    with pytest.raises(BadSetting) as kept:
        configured(Settings)
    assert str(kept.value).startswith(said)
    with pytest.raises(BadSetting, match="It takes yes or no; left out, it is no"):
        configured(Settings, {"offline": "perhaps"})
