"""`filbert config`: what counts, from where, and a file that keeps its comments."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Run, Terminal

from filbert.cli.config import tables
from filbert.core.settings import takes


def row(filbert: Run, setting: str, **environment: str) -> list[str]:
    listing = filbert("config", **environment).stdout.splitlines()
    return next(line for line in listing if line.startswith(f"{setting} ")).split()[:3]


@pytest.mark.slow
def test_every_setting_is_shown_with_its_value_and_origin(filbert: Run, home: Path) -> None:
    assert filbert("config", "set", "load.parallel", "2").returncode == 0
    assert row(filbert, "load.parallel") == ["load.parallel", "2", "file"]
    assert row(filbert, "load.parallel", FILBERT_LOAD_PARALLEL="3") == [
        "load.parallel",
        "3",
        "FILBERT_LOAD_PARALLEL",
    ]
    assert row(filbert, "load.kv") == ["load.kv", "f16", "default"]
    assert filbert("config", "path").stdout.strip() == str(home / "config.toml")


@pytest.mark.slow
def test_one_setting_is_told_with_its_origin(filbert: Run, home: Path) -> None:
    told = filbert("config", "get", "load.kv")
    assert (told.returncode, told.stdout, told.stderr) == (0, "f16\n", "the default\n")
    filbert("config", "set", "load.parallel", "2")
    told = filbert("config", "get", "load.parallel")
    assert (told.stdout, told.stderr) == ("2\n", f"from {home / 'config.toml'}\n")
    told = filbert("config", "get", "load.parallel", FILBERT_LOAD_PARALLEL="3")
    assert (told.stdout, told.stderr) == ("3\n", "from FILBERT_LOAD_PARALLEL\n")
    assert filbert("config", "get", "database_url").stderr.startswith("not set: Where chats are kept")
    assert "Did you mean load.context?" in filbert("config", "get", "contxt").stderr


def test_a_narrow_terminal_gets_several_lines_a_setting(terminal: Callable[..., Terminal]) -> None:
    listing = terminal("config")
    assert listing.wait() == 0
    lines = listing.seen.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:2] == ["load.kv", "f16"])
    assert lines[at + 1].startswith("    Number type of the key/value cache;")
    assert max(map(len, lines[:-1])) <= 80


def test_setting_and_unsetting_keep_the_comments_of_the_file(filbert: Run, home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text('# mine\nmodel = "smollm2:135m"  # small\n\n[load]\n# room\ncontext = 4096\n')
    assert filbert("config", "set", "load.context", "8192").returncode == 0
    assert filbert("config", "set", "sampling.stop", '["END", "###"]').returncode == 0
    text = file.read_text()
    assert "# mine" in text and "# small" in text and "# room" in text
    assert "context = 8192" in text and 'stop = ["END", "###"]' in text
    assert filbert("config", "unset", "load.context").returncode == 0
    assert "context" not in file.read_text() and "# room" in file.read_text()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("load.contxt", "1", "There is no setting load.contxt. Did you mean load.context?"),
        ("contxt", "4096", "Did you mean load.context?"),
        ("load.context", "many", "context cannot be 'many'."),
        ("load.context", "1", "context cannot be '1'. It takes 64 or more."),
        ("load.context", "-5", "context cannot be '-5'. It takes 64 or more."),
        ("sampling.stop", "[x", "[x is not JSON."),
        ("load.kv", "f12", "| q8_0 |"),
        ("sampling.stop", "[" * 100_000, "[[[ is not JSON."),
        ("model", os.fsdecode(b"\xff"), "The value is not UTF-8 text."),
    ],
    ids=[
        "no such setting",
        "no table",
        "no number",
        "too small",
        "below zero",
        "no JSON",
        "none of those",
        "too deep",
        "no UTF-8",
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_is_written(
    filbert: Run, home: Path, setting: str, value: str, said: str
) -> None:
    done = filbert("config", "set", setting, value)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (home / "config.toml").exists()


def test_a_broken_file_is_named_and_left_alone(filbert: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("model = ")
    done = filbert("config", "set", "offline", "yes")
    assert done.returncode == 2
    assert "config.toml is not a TOML file" in done.stderr
    assert (home / "config.toml").read_text() == "model = "


@pytest.mark.slow
def test_a_file_with_wrong_keys_is_mended_one_key_at_a_time(filbert: Run, home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text('ofline = true\n[load]\ncontxt = 3\ncontext = "x"\n')
    refused = filbert("list").stderr
    assert (
        f"There is no setting ofline. It comes from {file}. Did you mean offline? `filbert config unset ofline`"
        in refused
    )
    assert "load.context cannot be 'x'." in filbert("config").stderr
    for setting in ("load.context", "load.contxt", "ofline"):
        done = filbert("config", "unset", setting)
        assert (done.returncode, done.stderr) == (0, f"{setting} is no longer in {file}.\n")
    assert filbert("list").returncode == 0


def test_unsetting_what_is_nowhere_is_refused(filbert: Run) -> None:
    assert "There is no setting contxt, and none in the file." in filbert("config", "unset", "contxt").stderr
    assert "load.context is not in " in filbert("config", "unset", "load.context").stderr


def test_variables_and_tables_that_nobody_reads_are_told_the_nearest(filbert: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[laod]\ncontext = 4096\n")
    told = filbert("config", FILBERT_OFLINE="1", FILBERT_ELSEWHERE="x").stderr
    assert "Nothing reads the variable FILBERT_OFLINE. Did you mean FILBERT_OFFLINE?" in told
    assert "Did you mean load? `filbert config unset laod` takes it out." in told
    assert "ELSEWHERE" not in told and "FILBERT_HOME" not in told
    refused = filbert("chat", "hi", FILBERT_LOAD_CONTXT="4096")
    assert (refused.returncode, "It comes from FILBERT_LOAD_CONTXT. Did you mean context?" in refused.stderr) == (
        2,
        True,
    )


def test_unsetting_claims_what_it_did_and_nothing_else(filbert: Run, home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text('"a.b" = 1\n[[load]]\ncontext = 4096\n')
    assert "load in " in filbert("config", "unset", "load.context").stderr
    assert filbert("config", "unset", "a.b").stderr == f"a.b is no longer in {file}.\n"
    assert file.read_text() == "[[load]]\ncontext = 4096\n"


def test_a_settings_file_that_is_a_link_stays_one(filbert: Run, home: Path, tmp_path: Path) -> None:
    home.mkdir(exist_ok=True)
    mine = tmp_path / "mine.toml"
    mine.write_text("# mine\n")
    (home / "config.toml").symlink_to(mine)
    assert filbert("config", "set", "offline", "yes").returncode == 0
    assert mine.read_text() == "# mine\noffline = true\n"
    assert (home / "config.toml").is_symlink()


@pytest.mark.parametrize("text", ["model = ", "ofline = true"], ids=["no TOML", "a wrong key"])
def test_path_and_doctor_work_whatever_is_in_the_file(filbert: Run, home: Path, text: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    assert filbert("config", "path").stdout.strip() == str(home / "config.toml")
    done = filbert("doctor", "--json")
    assert done.returncode == 0
    assert done.stdout.count(str(home / "config.toml")) == 2  # where the file is, and one sentence of what is wrong


def test_a_flag_beats_the_variable_beats_the_file(filbert: Run) -> None:
    filbert("config", "set", "offline", "true")
    done = filbert("pull", "hf:owner/repo:Q4_0")
    assert done.returncode == 3
    assert "The network is forbidden (--offline, FILBERT_OFFLINE or the setting `offline`)." in done.stderr
    assert filbert("chat", "--temperature", "9", "hi", FILBERT_SAMPLING_TEMPERATURE="8").stderr.startswith(
        "error: temperature cannot be 9.0."
    )


def test_what_a_setting_takes_is_said_in_words() -> None:
    said = {
        f"{options.table}.{name}": takes(field) for options in tables() for name, field in options.model_fields.items()
    }
    assert said[".offline"] == "yes or no"
    assert said[".log_level"] == "DEBUG | INFO | WARNING | ERROR"
    assert said["load.context"] == "64 or more"
    assert said["load.speculation"] == "off | auto"
    assert said["sampling.temperature"] == "0 to 5"
    assert said["sampling.repeat_penalty"] == "above 0, at most 10"
    assert said["sampling.stop"] == "a list of texts"
    assert said["sampling.json_schema"] == "JSON"
    assert all(said.values())


@pytest.mark.parametrize(("variable", "value"), [("FILBERT_LOAD_CONTEXT", "x"), ("FILBERT_OFFLINE", "perhaps")])
def test_a_wrong_variable_is_told_by_the_commands_that_help_to_mend_it(filbert: Run, variable: str, value: str) -> None:
    told = f"It comes from {variable}."
    shown, doctor = filbert("config", **{variable: value}), filbert("doctor", "--json", **{variable: value})
    assert (shown.returncode, doctor.returncode) == (0, 0)
    assert told in shown.stderr
    assert told in doctor.stdout
    assert "default" in row(filbert, "load.context", **{variable: value})
    assert filbert("config", "path", **{variable: value}).returncode == 0


def test_unsetting_a_whole_table_is_refused_and_one_that_nobody_reads_is_told_and_goes(
    filbert: Run, home: Path
) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text("[load]\ncontext = 4096\nparallel = 2\n[lod]\ncontext = 1\n")
    done = filbert("config", "unset", "load")
    assert (done.returncode, done.stderr) == (
        2,
        "error: load is a table, not a setting. Name one of its settings: context, parallel.\n",
    )
    assert f"Nothing reads the table [lod] of {file}." in filbert("config").stderr
    assert filbert("config", "unset", "lod").returncode == 0
    assert file.read_text() == "[load]\ncontext = 4096\nparallel = 2\n"


def test_a_value_where_a_table_should_be_is_told_and_goes(filbert: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("load = 3\n")
    done = filbert("config", "set", "load.context", "4096")
    told = f"load in {home / 'config.toml'} is no table. `filbert config unset load` takes it out."
    assert (done.returncode, done.stderr) == (2, f"error: {told}\n")
    assert filbert("config", "unset", "load").returncode == 0
    assert filbert("config", "set", "load.context", "4096").returncode == 0
