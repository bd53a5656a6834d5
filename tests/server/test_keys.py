"""Keys: what is kept of them, what each may do, and that no route and no form of a header knows a way around them."""

from __future__ import annotations

import asyncio
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
import sqlalchemy as sql

from filbert.core.errors import BadInput, Busy, StoreReadOnly, Unauthorized
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.models.manifest import manifest_file
from filbert.server import scopes
from filbert.server.app import make_app
from filbert.server.key_ring import KeyRing
from filbert.server.keys import Keys, Use, Wanted, hashed, now
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions
from running_server import STARTER, WAIT_S, RunningServer, install, serving

TWIN = "twin:135m-q4_1"
FORMS: dict[str, Callable[[str], Any]] = {
    "bearer": lambda key: {"Authorization": f"Bearer {key}".strip()},
    "odd capitals": lambda key: {"aUTHORIZATION": f"bEARER  {key}".strip()},
    "x-api-key": lambda key: {"x-api-key": key},
    "both": lambda key: {"Authorization": f"Bearer {key}".strip(), "X-API-Key": key},
    "second": lambda key: {"Authorization": "Bearer", "X-Api-Key": key},
    "twice": lambda key: [("Authorization", "Bearer none"), ("Authorization", f"Bearer {key}".strip())],
}
NO_FORMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "another header": lambda key: {"headers": {"api-key": key}},
    "no word before it": lambda key: {"headers": {"Authorization": key}},
    "another word": lambda key: {"headers": {"Authorization": f"Token {key}"}},
    "basic": lambda key: {"auth": ("user", key)},
    "for a proxy": lambda key: {"headers": {"Proxy-Authorization": f"Bearer {key}"}},
    "cookie": lambda key: {"headers": {"Cookie": f"key={key}; authorization={key}"}},
    "address": lambda key: {"params": {"key": key, "api_key": key, "x-api-key": key}},
}


def routes() -> Iterator[tuple[str, str]]:
    """The application's own table: each method and path."""
    offered = Offered(Pool(LoadOptions()))
    try:
        yield from found(make_app(offered, ServeOptions()).routes)
    finally:
        offered.close()


def found(table: Any) -> Iterator[tuple[str, str]]:
    for route in table:
        if router := getattr(route, "original_router", None):
            yield from found(router.routes)
        else:
            yield from ((method, route.path) for method in sorted(route.methods))


def asked(path: str) -> str:
    """A path of the table as a client writes it."""
    return re.sub(r"\{.*?\}", "nothing", path)


@dataclass
class Guarded:
    server: RunningServer
    home: Path
    keys: Keys

    def add(self, name: str, **wanted: Any) -> str:
        return self.keys.add(Wanted(name, **wanted))[1]

    def ask(self, key: str, method: str = "GET", path: str = "/v1/models", **more: Any) -> Any:
        return self.server.http.request(method, path, headers=FORMS["bearer"](key), **more)

    def chat(self, key: str, **fields: Any) -> Any:
        body = {"model": STARTER, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4, **fields}
        return self.ask(key, "POST", "/v1/chat/completions", json=body)

    def tokens_of(self, name: str) -> int:
        return next(key.tokens_today for key in self.keys.all() if key.name == name)

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture(scope="module")
def guarded(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that asks for keys on this machine, too, and holds one model by two names."""
    home = tmp_path_factory.mktemp("guarded")
    install(home, starter)
    names = home / "models" / "names"
    (only,) = names.iterdir()
    (names / manifest_file(TWIN).name).write_text(only.read_text().replace(STARTER, TWIN))
    keys = Keys(f"sqlite:///{home / 'keys.db'}")
    keys.add(Wanted("first"))
    with serving(home, "-m", STARTER, "--context", "4096", "--require-key") as running:
        yield Guarded(running, home, keys)
    keys.close()


# what is kept


def test_nothing_kept_is_enough_to_come_in_with(home: Path) -> None:
    keys = Keys()
    assert keys.all() == []
    assert not (home / "keys.db").exists()
    key, text = keys.add(Wanted("ada"))
    assert text.startswith("fk-")
    assert len(text) == 46
    assert keys.in_use() == [key]
    assert key.sha256 == hashed(text)
    for file in home.glob("keys.db*"):
        assert text.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys.close()


def test_no_two_keys_are_alike() -> None:
    keys = Keys()
    assert len({keys.add(Wanted(str(number)))[1] for number in range(50)}) == 50
    keys.close()


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\x1b[31mb", "fk-abc"])
def test_a_key_has_a_name_that_can_be_shown(name: str) -> None:
    with pytest.raises(BadInput):
        Keys().add(Wanted(name))


def test_a_name_is_free_again_when_its_key_is_revoked() -> None:
    keys = Keys()
    keys.add(Wanted("ada"))
    with pytest.raises(BadInput, match="already"):
        keys.add(Wanted("ada"))
    keys.revoke("ada")
    assert keys.in_use() == []
    keys.add(Wanted("ada"))
    assert [bool(key.revoked) for key in keys.all()] == [True, False]
    with pytest.raises(BadInput, match="Did you mean ada"):
        keys.revoke("adaa")
    keys.close()


def test_tokens_add_up_over_a_day_and_begin_anew_with_the_next() -> None:
    keys, moment = Keys(), now()
    key, _ = keys.add(Wanted("ada"))
    keys.keep({key.id: Use(moment - timedelta(days=1), 100)})
    keys.keep({key.id: Use(moment, 5)})
    keys.keep({key.id: Use(moment, 7)})
    (kept,) = keys.all()
    assert (kept.tokens_today, kept.last_used) == (12, moment)
    keys.close()


def test_keys_of_a_newer_filbert_and_damaged_ones_let_nobody_in(home: Path) -> None:
    keys = Keys()
    keys.add(Wanted("ada"))
    keys.close()
    engine = sql.create_engine(f"sqlite:///{home / 'keys.db'}")
    with engine.begin() as connection:
        connection.execute(sql.text("UPDATE keys_schema SET version = 99"))
    engine.dispose()
    with pytest.raises(StoreReadOnly, match="newer"):
        Keys().in_use()
    (home / "keys.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreReadOnly, match="damaged"):
        Keys().in_use()


# what each may do


def test_a_revoked_key_and_one_that_never_was_are_none_and_what_others_send_is_no_key() -> None:
    keys = Keys()
    key, text = keys.add(Wanted("ada"))
    old = keys.add(Wanted("old"))[1]
    keys.revoke("old")
    ring = KeyRing(keys)
    assert asyncio.run(ring.find(["none", "", text])) == key
    assert asyncio.run(ring.find(["none", ""])) is None
    for wrong in (old, text[:-1], text + "0", "fk-" + text[3:].swapcase(), "fk-", "fk-ü"):
        with pytest.raises(Unauthorized):
            asyncio.run(ring.find([wrong]))
    keys.close()


def test_a_key_waits_when_it_asks_too_often_or_has_used_its_day() -> None:
    keys = Keys()
    often, _ = keys.add(Wanted("often", requests_a_minute=3))
    much, _ = keys.add(Wanted("much", tokens_a_day=10))
    ring = KeyRing(keys)
    for _ in range(3):
        ring.admit(often)
    with pytest.raises(Busy) as busy:
        ring.admit(often)
    assert 1 <= busy.value.retry_after_s <= 60
    ring.admit(much)
    ring.spend(much.id, 10)
    with pytest.raises(Busy) as busy:
        ring.admit(much)
    assert 1 <= busy.value.retry_after_s <= 86_400
    keys.close()


def test_a_route_that_nobody_declared_is_for_admins_only() -> None:
    for method, path in (
        ("GET", "/nothing"),
        ("DELETE", "/v1/models/x"),
        ("GET", "/metrics"),
        ("POST", "/api/pull"),
        ("POST", "/v1/models"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/health"),
        ("POST", "/v1/chat/completions/"),
        ("GET", "//v1/models"),
    ):
        assert scopes.needed(method, path) == "admin", (method, path)
    assert scopes.needed("GET", "/v1/models/hf:owner/repo:Q4_K_M") == "infer"
    assert scopes.needed("GET", "/health") is None


def test_the_table_of_scopes_knows_every_route_and_no_other() -> None:
    """Whoever adds a route decides who may use it: in server/scopes.py, or here."""
    every = {f"{method} {path}" for method, path in routes()}
    assert every == scopes.OPEN | scopes.INFER | scopes.ADMIN


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_route_asks_for_a_key_in_every_form_of_header(guarded: Guarded, form: Callable[[str], Any]) -> None:
    """Open WebUI CVE-2026-45339: limits that one form of the header went around."""
    mine = str(form(""))[:40]
    infer, admin = guarded.add(f"infer {mine}"), guarded.add(f"admin {mine}", scope="admin")
    revoked = guarded.add(f"revoked {mine}")
    guarded.keys.revoke(f"revoked {mine}")
    for method, path in routes():
        if (needed := scopes.needed(method, path)) is None:
            continue
        path = asked(path)
        for headers in ({}, form(""), form("none"), form("fk-" + "0" * 43), form(revoked)):
            answer = guarded.server.http.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
        told = guarded.server.http.request(method, path, headers=form(infer)).status_code
        assert (told == 403) == (needed == "admin"), (method, path, told)
        assert guarded.server.http.request(method, path, headers=form(admin)).status_code not in (401, 403)


def test_no_route_takes_a_key_that_comes_in_another_way(guarded: Guarded) -> None:
    """What stands in an address is in logs, and a cookie is sent by pages."""
    key = guarded.add("another way", scope="admin")
    for method, path in routes():
        if scopes.needed(method, path):
            for name, form in NO_FORMS.items():
                answer = guarded.server.http.request(method, asked(path), **form(key))
                assert answer.status_code == 401, (method, path, name)


def test_of_two_keys_the_first_counts_with_its_scope_and_its_limits(guarded: Guarded) -> None:
    """Open WebUI CVE-2026-45339: the limits of one header's key were not those of the other's."""
    admin = guarded.add("of two", scope="admin")
    few, narrow = guarded.add("few of two", requests_a_minute=1), guarded.add("narrow of two", models=(TWIN,))

    def ask(first: str, second: str, path: str = "/v1/models") -> Any:
        return guarded.server.http.get(path, headers={"x-api-key": second, "Authorization": f"Bearer {first}"})

    assert [ask(few, admin).status_code for _ in range(2)] == [200, 429]
    assert ask(narrow, admin, "/metrics").status_code == 403
    assert [each["id"] for each in ask(narrow, admin).json()["data"]] == [TWIN]
    assert ask(admin, narrow, "/metrics").status_code == 200


def test_a_route_that_is_none_is_not_there_rather_than_for_admins(guarded: Guarded) -> None:
    infer, admin = guarded.add("lost"), guarded.add("lost admin", scope="admin")
    for method, path in (
        ("GET", "/nothing"),
        ("POST", "/v1/audio/speech"),
        ("POST", "/api/push"),
        ("GET", "/metrics/x"),
    ):
        answer = guarded.ask(infer, method, path)
        assert (answer.status_code, f"{method} {path}" in answer.text) == (404, True)
        assert guarded.ask(admin, method, path).status_code == 404
        assert guarded.server.http.request(method, path).status_code == 401
    assert guarded.ask(infer, "GET", "/metrics").status_code == 403


@pytest.mark.slow
def test_a_key_neither_unloads_a_model_for_others_nor_keeps_it_for_good(stocked: Path) -> None:
    keys = Keys()
    ada, bob, admin = (
        keys.add(Wanted(name, scope=scope))[1]
        for name, scope in (("ada", "infer"), ("bob", "infer"), ("root", "admin"))
    )
    keys.close()
    with serving(stocked, "--require-key", "--context", "512", "--keep-alive", "300") as server:

        def ask(key: str, **fields: Any) -> None:
            body = {"model": STARTER, "stream": False, "options": {"num_predict": 1}, **fields}
            assert server.http.post("/api/generate", json=body, headers=FORMS["bearer"](key)).status_code == 200

        def years() -> list[int]:
            told = server.http.get("/api/ps", headers=FORMS["bearer"](ada)).json()["models"]
            return [datetime.fromisoformat(each["expires_at"]).year for each in told]

        ask(ada, prompt="Hi", keep_alive=-1)
        assert years() == [now().year]
        ask(bob, prompt="Hi", keep_alive=0)
        ask(bob, keep_alive=0)
        assert years() == [now().year]
        ask(admin, keep_alive=-1)
        ask(ada, keep_alive=0)
        assert years() == [2318]
        ask(admin, keep_alive=0)
        assert years() == []


def test_whether_the_server_lives_may_be_asked_without_a_key(guarded: Guarded) -> None:
    for path in ("/health", "/ready"):
        assert guarded.server.http.get(path).status_code == 200
        assert guarded.server.http.get(path, headers=FORMS["bearer"]("fk-wrong")).status_code == 200


def test_the_refusal_is_in_the_words_of_the_protocol(guarded: Guarded) -> None:
    http = guarded.server.http
    assert http.post("/v1/chat/completions").json()["error"]["type"] == "invalid_request_error"
    assert http.post("/v1/messages").json()["error"]["type"] == "authentication_error"
    assert "key" in http.post("/api/chat").json()["error"]


def test_a_large_body_without_a_key_is_refused_in_words_and_not_by_a_broken_connection(guarded: Guarded) -> None:
    for _ in range(3):
        assert guarded.server.http.post("/v1/completions", content=b"x" * 8_000_000).status_code == 401


def test_other_models_are_as_if_they_did_not_exist(guarded: Guarded) -> None:
    everything, narrow = guarded.add("everything"), guarded.add("narrow", models=(TWIN,))

    def listed(key: str) -> list[str]:
        return sorted(each["id"] for each in guarded.ask(key).json()["data"])

    assert listed(everything) == [STARTER, TWIN]
    assert listed(narrow) == [TWIN]
    assert [each["name"] for each in guarded.ask(narrow, path="/api/tags").json()["models"]] == [TWIN]
    assert guarded.ask(everything, path="/api/ps").json()["models"]
    assert guarded.ask(narrow, path="/api/ps").json()["models"] == []
    hidden, absent = guarded.chat(narrow, model=STARTER), guarded.chat(narrow, model="smollm2:135m-q4_2")
    assert hidden.status_code == absent.status_code == 404
    assert f"installed: {STARTER}" not in absent.text
    assert guarded.ask(narrow, path=f"/v1/models/{STARTER}").status_code == 404
    assert guarded.ask(narrow, "POST", "/v1/embeddings", json={"model": STARTER, "input": "x"}).status_code == 404
    assert guarded.chat(narrow, model=TWIN).status_code == 200
    assert guarded.chat(everything, model=STARTER).status_code == 200
    bodies: list[dict[str, str]] = [{}, {"model": TWIN}, {"model": STARTER}]
    assert [
        guarded.ask(key, "POST", "/tokenize", json={"prompt": "a", **body}).status_code
        for key in (narrow, everything)
        for body in bodies
    ] == [200, 200, 404, 400, 200, 200]


def test_nobody_inherits_what_the_one_before_on_the_same_connection_might_see(guarded: Guarded) -> None:
    narrow, everything = guarded.add("before", models=(TWIN,)), guarded.add("after")
    for _ in range(5):
        assert guarded.chat(narrow, model=STARTER).status_code == 404
        assert guarded.chat(everything, model=STARTER).status_code == 200


def test_a_revoked_key_is_refused_soon(guarded: Guarded) -> None:
    key = guarded.add("brief")
    assert guarded.ask(key).status_code == 200
    guarded.keys.revoke("brief")
    guarded.until(lambda: guarded.ask(key).status_code == 401)


def test_who_asks_too_often_is_told_when_to_come_back(guarded: Guarded) -> None:
    key = guarded.add("often", requests_a_minute=2)
    assert [guarded.ask(key).status_code for _ in range(2)] == [200, 200]
    refused = guarded.chat(key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_tokens_are_counted_however_an_answer_is_asked_for_and_the_day_ends(guarded: Guarded) -> None:
    key = guarded.add("frugal", tokens_a_day=150)
    spent = guarded.chat(key).json()["usage"]["total_tokens"]
    guarded.until(lambda: guarded.tokens_of("frugal") == spent)
    assert '"usage"' not in guarded.chat(key, stream=True).text  # the same tokens, though nobody is told
    guarded.until(lambda: guarded.tokens_of("frugal") == 2 * spent)
    for _ in range(10):
        last = guarded.chat(key)
        if last.status_code == 429:
            break
    assert "tokens" in last.json()["error"]["message"]
    assert int(last.headers["retry-after"]) <= 86_400


def test_who_leaves_before_the_end_pays_for_what_was_read_and_written(guarded: Guarded) -> None:
    key = guarded.add("hasty")
    body = {"model": STARTER, "prompt": "word " * 200, "max_tokens": 1000, "stream": True, "seed": 1}
    with guarded.server.http.stream("POST", "/v1/completions", json=body, headers=FORMS["x-api-key"](key)) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(9)]
    guarded.until(lambda: guarded.tokens_of("hasty") >= 200)


def test_no_key_is_in_the_log(guarded: Guarded) -> None:
    key = guarded.add("quiet", tokens_a_day=1)
    guarded.until(lambda: guarded.chat(key).status_code == 429)
    log = (guarded.home / "log" / "filbert.log").read_text()
    assert '"status": 429' in log
    assert "fk-" not in log
    (id,) = (each.id for each in guarded.keys.all() if each.name == "quiet")
    assert f'"key": "{id}"' in log


def test_clients_of_openai_bring_their_key(guarded: Guarded) -> None:
    key = guarded.add("openai")
    client = guarded.server.openai
    assert client.with_options(api_key=key).models.list().data
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


# where none is asked for


@pytest.mark.slow
def test_on_this_machine_no_key_is_needed_and_one_of_ours_still_counts(stocked: Path) -> None:
    keys = Keys()
    key = keys.add(Wanted("ada", models=(TWIN,)))[1]
    with serving(stocked, "--context", "512") as server:
        for headers in ({}, FORMS["bearer"](""), FORMS["bearer"]("none"), {"Authorization": "Basic eDp5"}):
            assert server.http.get("/v1/models", headers=headers).json()["data"], headers
        for form in FORMS.values():
            assert server.http.get("/v1/models", headers=form(key)).json()["data"] == []
            assert server.http.get("/v1/models", headers=form("fk-wrong")).status_code == 401
        assert server.http.get("/metrics").status_code == 200
    keys.close()
