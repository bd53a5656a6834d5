from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from filbert.models import results
from filbert.models.catalogue import entries
from filbert.report.measurement import Measurement, Provenance, Result, named
from models.model_servers import HubServer, serving


@pytest.fixture
def hub(monkeypatch) -> Iterator[HubServer]:
    server = HubServer()
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_search_shows_what_there_is_and_what_is_here(filbert, stocked) -> None:
    done = filbert("search", "smolm2", "hugging")
    head, first, *_ = done.stdout.splitlines()
    assert head.split() == ["name", "size", "licence", "can", "installed"]
    assert first.split() == ["smollm2:135m-q4_1", "98", "MB", "apache-2.0", "chat", "yes"]
    told = json.loads(filbert("search", "smollm2", "--json").stdout)
    assert (told[0]["maker"], told[0]["installed"], told[1]["installed"]) == ("Hugging Face", True, False)


def test_a_size_that_no_list_states_is_told_as_about_so_much(filbert) -> None:
    unstated = next(entry for entry in entries() if not entry.size_bytes and entry.parameters)
    row = next(line for line in filbert("list", "--available").stdout.splitlines() if line.startswith(unstated.name))
    assert row.split()[1] == "about" and row.split()[3] in ("GB", "MB")
    (told,) = (
        one for one in json.loads(filbert("list", "--available", "--json").stdout) if one["name"] == unstated.name
    )
    assert told["bytes"] is None


def test_nothing_found_is_said(filbert) -> None:
    done = filbert("search", "xyzzy-plugh")
    assert (done.returncode, done.stdout) == (0, "") and "--hub" in done.stderr
    assert json.loads(filbert("search", "xyzzy-plugh", "--json").stdout) == []


@pytest.mark.slow
def test_without_a_word_the_families_are_shown(filbert) -> None:
    done = filbert("search")
    head, *rows = done.stdout.splitlines()
    assert (done.returncode, head.split()) == (0, ["family", "maker", "sizes", "can"])
    assert len(rows) == len({entry.name.partition(":")[0] for entry in entries()})
    assert any(row.startswith("smollm2 ") and "135m 1.7b" in row for row in rows)
    assert "`filbert search FAMILY`" in done.stderr
    assert len(json.loads(filbert("search", "--json").stdout)) == len(entries())
    refused = filbert("search", "--hub")
    assert (refused.returncode, "nothing to look for on the hub" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_the_hub_is_searched_where_it_is_asked_for(filbert, hub) -> None:
    hub.repos["acme/Tiny-GGUF"] = {"Tiny-Q4_K_M.gguf": b"", "Tiny-Q8_0.gguf": b""}
    hub.downloads["acme/Tiny-GGUF"] = 12345
    assert filbert("search", "tiny", "gguf").returncode == 0 and hub.requests == 0
    done = filbert("search", "tiny", "gguf", "--hub")
    assert done.stdout.splitlines()[1].split() == ["hf:acme/Tiny-GGUF", "12,345", "?", "no", "q4_k_m", "q8_0"]
    (told,) = json.loads(filbert("search", "--hub", "--json", "tiny").stdout)
    assert told["quantisations"] == ["q4_k_m", "q8_0"]
    assert "no GGUF repository" in filbert("search", "--hub", "nothing of the kind").stderr


def test_a_hostile_hub_drives_no_terminal(terminal, hub) -> None:
    hub.listing = json.dumps(
        [{"id": "evil/\x1b]0;gone\x07"}, {"id": "good/one", "tags": ["license:\x1b[31m"], "downloads": 3}]
    ).encode()
    screen = terminal("search", "--hub", "one")
    assert screen.wait() == 0
    assert "hf:good/one" in screen.seen and "\x1b" not in screen.seen and "evil" not in screen.seen


@pytest.mark.slow
def test_offline_and_unreachable_are_sentences(filbert, hub) -> None:
    assert filbert("search", "--hub", "--offline", "tiny").returncode == 3 and hub.requests == 0
    done = filbert("search", "--hub", "tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 4 and "The hub at 127.0.0.1 (HF_ENDPOINT) cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_show_tells_what_was_measured(filbert, stocked) -> None:
    made_by = Provenance("smollm2:135m", entries()[0].files[0].sha256, "filbert", "here", 2, "filbert perplexity …")
    measurement = Measurement(value=14.25, interval=(14.0, 14.5), against="a.txt", n=9, made_by=made_by)
    results.keep(
        Result(
            kind="perplexity",
            about="a.txt",
            settings="window 512",
            run="perplexity-1",
            time="2026-11-24T10:00:00+00:00",
            measurements=(named(measurement, "perplexity"),),
        )
    )
    assert "perplexity, a.txt, window 512: perplexity 14.25 (95 %" in filbert("show", "smollm2:135m").stdout
    (told,) = json.loads(filbert("show", "smollm2:135m", "--json").stdout)["measured"]
    assert told["measurements"][0]["value"] == 14.25
