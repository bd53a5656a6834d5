"""`filbert bench` as a person runs it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from terminal import Run, Terminal

from running import children_of, gone, until

pytestmark = pytest.mark.usefixtures("stocked")
NAME = "smollm2:135m-q4_1"
SMALL = ("--prompt", "8", "--generate", "3", "--depth", "0,16", "--rounds", "2")


@pytest.mark.slow
def test_a_model_is_measured_and_told_as_a_table_or_markdown(filbert: Run) -> None:
    done = filbert("bench", NAME, *SMALL, "--busy", "1")
    head, *rows = done.stdout.split("\n\n")[0].splitlines()
    assert head.split("  ")[0] == "model"
    assert [head.index(name) > 0 for name in ("size", "params", "threads", "beside", "test", "tokens/s")] == [True] * 6
    tests = ["pp8", "pp8", "tg3", "tg3", "pp8 @ d16", "pp8 @ d16", "tg3 @ d16", "tg3 @ d16"]
    for row, test, busy in zip(rows, tests, [False, True] * 4, strict=True):
        assert row.startswith(f"{NAME}  98 MB  134.52 M")
        assert f" {test} " in row
        assert ("1 busy" in row) == busy
        assert row.count("±") == (2 if "pp" in test else 1)
    again = next(line for line in done.stdout.splitlines() if line.startswith("again: "))
    assert again == f"again: filbert bench {NAME} {' '.join(SMALL)} --busy 1"
    assert "memory of" in done.stdout
    assert "bench: 100 % of 16 answers" in done.stderr
    table = filbert("bench", NAME, NAME, *SMALL, "--rounds", "1", "--markdown", "--quiet")
    assert table.stderr == ""
    lines = table.stdout.split("\n\n")[0].splitlines()
    assert lines[:2] == [
        "| model | size | params | threads | beside | test | tokens/s | first token, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    assert len(lines) == 2 + 2 * 4
    assert all(line.count("|") == 9 for line in lines)


@pytest.mark.slow
def test_its_json_is_a_list_and_its_command_asks_the_same_again(filbert: Run) -> None:
    first = json.loads(filbert("bench", NAME, *SMALL, "--threads", "1", "--json").stdout)
    again = json.loads(filbert(*shlex.split(first[0]["command"])[1:], "--json").stdout)
    asked = ("model", "n_prompt", "n_gen", "n_depth", "n_busy", "n_threads", "n_ctx", "command")
    assert [[row[name] for name in asked] for row in again] == [[row[name] for name in asked] for row in first]
    assert {len(row["samples_ts"]) for row in first} == {2}
    assert {row["n_threads"] for row in first} == {1}
    (kept,) = json.loads(filbert("show", NAME, "--json").stdout)["measured"]  # the second in the first one's place
    names = ["pp8", "tg3", "pp8 @ d16", "tg3 @ d16", "first token of pp8", "first token of pp8 @ d16", "memory"]
    assert [each["name"] for each in kept["measurements"]] == names
    assert [each["value"] for each in kept["measurements"]][:4] == [row["avg_ts"] for row in again]
    assert kept["measurements"][0]["made_by"]["command"] == first[0]["command"]


def test_more_than_the_context_is_a_sentence(filbert: Run) -> None:
    done = filbert("bench", NAME, "--depth", "100000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: pp512 @ d100000 needs 100513 tokens of context" in done.stderr


def test_ctrl_c_leaves_no_process(terminal: Callable[..., Terminal]) -> None:
    asked = terminal("bench", NAME, *SMALL, "--rounds", "10000", "--busy", "2")
    found = {}

    def all_run() -> bool:
        asked.read()
        found.update({each.pid: each for each in children_of(asked.process.pid)})
        return len(children_of(asked.process.pid)) == 3

    assert until(all_run)
    asked.type("\x03")
    assert asked.wait(pressing="\x03") == 130
    assert "Traceback" not in asked.seen
    assert until(lambda: all(gone(pid) for pid in found))
