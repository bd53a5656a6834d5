"""`filbert keys`, and what `filbert serve` says of keys, as a person types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from running_server import STARTER, WAIT_S, serving

FILBERT = str(Path(sys.executable).with_name("filbert"))


def filbert(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FILBERT, *words], capture_output=True, text=True, timeout=60)


def test_a_key_is_printed_once_and_listed_without_itself() -> None:
    assert "There is no key." in filbert("keys", "list").stderr
    made = filbert("keys", "add", "ada", "--requests-a-minute", "60", "--tokens-a-day", "100000", "-m", "smollm2:135m")
    key = made.stdout.strip()
    assert re.fullmatch(r"fk-[0-9A-Za-z]{43}", key)
    assert "not shown again" in made.stderr
    shown, as_json = filbert("keys", "list").stdout, filbert("keys", "list", "--json").stdout
    assert key not in shown + as_json
    assert "60 requests a minute; 100,000 tokens a day; smollm2:135m" in shown
    (only,) = json.loads(as_json)
    assert (only["name"], only["scope"], only["revoked"]) == ("ada", "infer", None)
    assert "sha256" not in only


def test_a_model_that_is_here_is_kept_by_its_whole_name(stocked: Path) -> None:
    filbert("keys", "add", "ada", "-m", STARTER)
    assert json.loads(filbert("keys", "list", "--json").stdout)[0]["models"] == [STARTER]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", ""), "needs a name"),
        (("add", "twice"), "already"),
        (("add", "x", "--scope", "root"), "root"),
        (("add", "x", "--tokens-a-day", "0"), "It takes 1 or more."),
        (("revoke", "twise"), "Did you mean twice?"),
        (("ad", "x"), "There is no command"),
    ],
)
def test_what_cannot_be_done_is_told(words: tuple[str, ...], says: str) -> None:
    filbert("keys", "add", "twice")
    told = filbert("keys", *words)
    assert (told.returncode, told.stdout, says in told.stderr) == (2, "", True), told.stderr


@pytest.mark.slow
def test_a_server_that_others_reach_does_not_start_without_a_key() -> None:
    """Guides for other servers teach 0.0.0.0, and hundreds of thousands stand open."""
    told = filbert("serve", "--host", "0.0.0.0", "--port", "0")
    assert (told.returncode, "`filbert keys add NAME`" in told.stderr) == (2, True)
    filbert("keys", "add", "ada")
    filbert("keys", "revoke", "ada")
    assert filbert("serve", "--host", "0.0.0.0", "--port", "0").returncode == 2


@pytest.mark.slow
def test_with_a_key_it_starts_and_asks_for_it_until_it_is_revoked(stocked: Path) -> None:
    key = filbert("keys", "add", "ada").stdout.strip()
    with serving(stocked, "--host", "0.0.0.0", "--context", "512") as server:
        mine = {"Authorization": f"Bearer {key}"}
        assert (
            server.http.get("/v1/models").status_code == 401
        )  # from this machine, too: a proxy's clients come from it
        assert server.http.get("/v1/models", headers=mine).status_code == 200
        filbert("keys", "revoke", "ada")
        assert httpx.get(f"{server.url}/health").status_code == 200
        end = time.monotonic() + WAIT_S
        while server.http.get("/v1/models", headers=mine).status_code != 401:
            assert time.monotonic() < end


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--no-auth", "--require-key"), "contradict"),
        (("--fetch-images", "--offline"), "--offline forbids it"),
        (("--allow-origin", "*"), "a site as browsers name it"),
        (("--tls-cert", "cert.pem"), "--tls-key"),
        (("--host", "nowhere.invalid", "--no-auth"), "whoever reaches nowhere.invalid"),
        (("--host", "192.0.2.1", "--no-auth"), "cannot be used on 192.0.2.1"),
    ],
)
def test_a_server_that_cannot_listen_so_says_why(flags: tuple[str, ...], says: str) -> None:
    told = filbert("serve", "--port", "0", *flags)
    assert (told.returncode, says in told.stderr) == (2, True), told.stderr
