"""Ollama's routes that ask a model, with the requests that its clients send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from filbert.server.bodies_ollama import OllamaChatBody, seconds
from running_server import FOR_EVER, STARTER, WAIT_S, RunningServer, gone, install, serving

THOUGHT = 'root ::= "Two and two.</think>Four."'  # the template's prompt opens the thought
HI = [{"role": "user", "content": "Say hi."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "required": ["town"], "properties": {"town": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def roomy(starter: Path, embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The starter, loaded when it is asked for, and an embedder."""
    home = tmp_path_factory.mktemp("roomy")
    install(home, starter)
    with serving(home, "-m", str(embedder), "--context", "2048") as running:
        yield running


def ask(server: RunningServer, route: str = "chat", **fields: Any) -> Any:
    """One document, or what is wrong."""
    body = {"model": STARTER, "stream": False, **({"messages": HI} if route == "chat" else {}), **fields}
    return server.http.post(f"/api/{route}", json=body).json()


def lines(server: RunningServer, route: str = "chat", **fields: Any) -> list[dict[str, Any]]:
    body = {"model": STARTER, **({"messages": HI} if route == "chat" else {}), **fields}
    with server.http.stream("POST", f"/api/{route}", json=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.iter_lines()]


def in_memory(server: RunningServer) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in server.http.get("/api/ps").json()["models"]:
        found.setdefault(each["name"], []).append(each["context_length"])
    return found


def test_the_root_says_who_is_there(server: RunningServer) -> None:
    assert server.http.get("/").text == "Filbert is running"
    assert server.http.head("/").status_code == 200
    assert server.http.get("/api/version").json()["version"].count(".") == 2


def test_a_chat_streams_by_default_and_says_what_the_whole_answer_says(server: RunningServer) -> None:
    options = {"temperature": 0, "seed": 3, "num_predict": 8}
    whole = ask(server, options=options)
    *pieces, last = lines(server, options=options)
    assert "".join(piece["message"]["content"] for piece in pieces) == whole["message"]["content"] != ""
    assert not any(piece["done"] for piece in pieces) and last["done"]
    assert (last["model"], last["done_reason"], last["eval_count"]) == (STARTER, "length", 8)
    assert last["prompt_eval_count"] == whole["prompt_eval_count"] > 8
    assert last["total_duration"] >= last["eval_duration"] + last["load_duration"] > 0


def test_a_body_without_a_type_or_with_a_form_s_is_read_as_json(server: RunningServer) -> None:
    body = json.dumps({"model": STARTER, "messages": HI, "options": {"num_predict": 1}}).encode()
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = server.http.post("/api/chat", content=body, headers=headers)
        assert answer.status_code == 200 and json.loads(answer.text.splitlines()[-1])["done"]


def test_options_shape_the_answer_and_unknown_ones_are_ignored(server: RunningServer) -> None:
    raw = {"prompt": "1, 2, 3,", "raw": True}
    options = {"temperature": 0, "num_predict": 20, "mirostat": 2, "numa": True, "top_k": -1, "min_p": None}
    assert "4" in ask(server, "generate", **raw, options=options)["response"]
    for stop in ("4", ["4", ""]):
        stopped = ask(server, "generate", **raw, options={**options, "stop": stop})
        assert "4" not in stopped["response"] and stopped["done_reason"] == "stop"


@pytest.mark.parametrize("seed", [-1, 0, -7, 2**63])
def test_every_seed_of_theirs_is_taken(server: RunningServer, seed: int) -> None:
    assert ask(server, options={"seed": seed, "num_predict": 1})["done"]


def test_an_answer_may_take_all_that_the_context_holds(thinker: RunningServer) -> None:
    options = {"grammar": FOR_EVER, "num_predict": -2}
    endless = ask(thinker, "generate", model="thinker", prompt="word", raw=True, options=options)
    assert endless["prompt_eval_count"] + endless["eval_count"] >= 511
    assert endless["done_reason"] == "length"


def test_generate_answers_a_prompt_by_the_chat_template_with_a_system_message(server: RunningServer) -> None:
    options = {"temperature": 0, "num_predict": 6}
    told = [{"role": "system", "content": "You are a pirate."}, *HI]
    chat = ask(server, messages=told, options=options)
    assert (
        ask(server, "generate", prompt="Say hi.", system="You are a pirate.", options=options)["response"]
        == (chat["message"]["content"])
    )
    *pieces, last = lines(server, "generate", prompt="Say hi.", options=options)
    assert "".join(piece["response"] for piece in pieces) and last["response"] == "" and last["eval_count"] == 6


def test_an_answer_is_json_or_holds_to_a_schema(server: RunningServer) -> None:
    schema = {"enum": ["yes", "no"]}
    for route, fields in (("chat", {}), ("generate", {"prompt": "OK?"}), ("generate", {"prompt": "OK?", "raw": True})):
        answer = ask(server, route, **fields, format=schema, options={"num_predict": 40})
        said = answer["message"]["content"] if route == "chat" else answer["response"]
        assert json.loads(said) in ("yes", "no")
    person = [{"role": "user", "content": "A person as JSON."}]
    free = ask(server, messages=person, format="json", options={"temperature": 0, "num_predict": 8})
    assert free["message"]["content"].lstrip().startswith("{")
    assert ask(server, format="", options={"num_predict": 1})["done"]
    assert "format" in ask(server, format="yaml")["error"]


@pytest.mark.slow
def test_a_call_s_arguments_are_an_object_and_it_comes_whole(server: RunningServer) -> None:
    asked = {"tools": [WEATHER], "options": {"temperature": 0, "num_predict": 40}}
    asked["format"] = {"const": {"name": "weather", "arguments": {"town": "Paris"}}}  # it may not say anything else
    whole = ask(server, **asked)
    *before, calling, last = lines(server, **asked)
    assert not before and calling["message"]["content"] == "" and last["done"]
    for told in (whole, calling):
        (call,) = (each["function"] for each in told["message"]["tool_calls"])
        assert (call["index"], call["name"], list(call["arguments"])) == (0, "weather", ["town"])
    assert whole["done_reason"] == last["done_reason"] == "stop"


def test_a_result_belongs_to_the_call_of_its_name() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"at": 1}}}

    told: list[dict[str, Any]] = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call("a"), call("b"), call("b")]},
        *({"role": "tool", "content": name, "tool_name": name} for name in ("b", "a", "b", "c")),
        {"role": "tool", "content": "nameless"},
    ]
    messages = OllamaChatBody.model_validate({"model": "m", "messages": told}).conversation()
    first, second, third = (call["id"] for call in messages[1].tool_calls)
    assert [message.tool_call_id for message in messages[2:]] == [second, first, third, "", ""]
    assert json.loads(messages[1].tool_calls[0]["function"]["arguments"]) == {"at": 1}


def test_a_conversation_with_calls_and_results_is_answered(server: RunningServer) -> None:
    call = {"function": {"name": "weather", "arguments": {"town": "Paris"}}}
    result = {"role": "tool", "content": "Sunny.", "tool_name": "weather"}
    told = [*HI, {"role": "assistant", "content": "", "tool_calls": [call]}, result]
    assert ask(server, messages=told, tools=[WEATHER], options={"num_predict": 3})["eval_count"] == 3


def test_a_thought_is_a_field_of_its_own(thinker: RunningServer) -> None:
    asked = {"model": "thinker", "think": True, "options": {"grammar": THOUGHT, "num_predict": 64}}
    chat = ask(thinker, **asked)
    assert chat["message"] == {"role": "assistant", "content": "Four.", "thinking": "Two and two."}
    assert chat["done_reason"] == "stop" and chat["eval_count"] > 5 and chat["prompt_eval_count"] > 0
    whole = ask(thinker, "generate", prompt="2 + 2?", **asked)
    assert (whole["thinking"], whole["response"]) == ("Two and two.", "Four.")
    *pieces, last = lines(thinker, **asked)
    assert "".join(piece["message"].get("thinking", "") for piece in pieces) == "Two and two."
    assert "".join(piece["message"]["content"] for piece in pieces) == "Four."
    assert last["done"] and last["eval_count"] > 5


def test_thought_may_be_left_out_and_a_model_without_one_refuses_the_wish(
    server: RunningServer, thinker: RunningServer
) -> None:
    brief = {"num_predict": 1}
    thinking, answering = (
        ask(thinker, model="thinker", options=brief, **wish)["prompt_eval_count"] for wish in ({}, {"think": False})
    )
    assert answering > thinking  # the template closes the thought in the prompt
    assert ask(thinker, model="thinker", think="low", options=brief)["done"]
    assert "cannot think" in ask(server, think=True)["error"]
    assert ask(server, think=False, options=brief)["done"]


def test_an_image_is_seen_in_a_message_and_in_a_prompt(eyes: RunningServer) -> None:
    file = BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    image, options = base64.b64encode(file.getvalue()).decode(), {"num_predict": 1}
    blind = ask(eyes, model="eyes", options=options)["prompt_eval_count"]
    seeing = ask(eyes, model="eyes", messages=[HI[0] | {"images": [image]}], options=options)
    assert seeing["prompt_eval_count"] == blind + 4  # 2 x 2 patches
    prompt = ask(eyes, "generate", model="eyes", prompt="Say hi.", images=[image], options=options)
    assert prompt["prompt_eval_count"] == blind + 4
    for broken in ("AAAA", "!", "http://127.0.0.1/a.png", "/etc/hostname", "data:text/plain,a"):
        assert "error" in ask(eyes, model="eyes", messages=[HI[0] | {"images": [broken]}], options=options)


def test_log_probabilities_come_with_their_tokens(server: RunningServer) -> None:
    asked = {"logprobs": True, "top_logprobs": 2, "options": {"temperature": 0, "num_predict": 3}}
    whole = ask(server, **asked)
    assert "".join(token["token"] for token in whole["logprobs"]) == whole["message"]["content"]
    assert all(len(token["top_logprobs"]) >= 2 and token["logprob"] <= 0 for token in whole["logprobs"])
    streamed = [token["token"] for piece in lines(server, **asked) for token in piece.get("logprobs", [])]
    assert streamed == [token["token"] for token in whole["logprobs"]]


def test_a_suffix_is_refused_where_the_model_has_no_marks_for_it(server: RunningServer) -> None:
    refused = ask(server, "generate", prompt="def add(a, b):", suffix="return c")
    assert "does not fill in" in refused["error"]


@pytest.mark.parametrize(
    "wish",
    [
        {"template": "{{ .Prompt }}"},
        {"context": [1, 2]},
        {"raw": True, "system": "Be brief."},
        {"options": {"temperature": -1}},
        {"options": {"num_ctx": "many"}},
        {"options": [1]},
        {"keep_alive": "soon"},
        {"keep_alive": True},
        {"think": "hard"},
        {"images": "abc"},
        {"model": ""},
        {"stream": "perhaps"},
    ],
    ids=str,
)
def test_what_cannot_be_done_is_a_sentence(server: RunningServer, wish: dict[str, Any]) -> None:
    answer = server.http.post("/api/generate", json={"model": STARTER, "prompt": "Hi", **wish})
    assert answer.status_code == 400 and set(answer.json()) == {"error"}


def test_an_unknown_model_is_a_404_with_the_nearest(server: RunningServer) -> None:
    for route in ("chat", "generate", "embed", "embeddings", "show"):
        answer = server.http.post(f"/api/{route}", json={"model": "smolm2:135m", "messages": HI, "prompt": "a"})
        assert answer.status_code == 404 and STARTER in answer.json()["error"]


def test_a_crash_in_the_middle_of_a_stream_is_its_last_line(narrow: RunningServer) -> None:
    asked = {"model": STARTER, "messages": HI, "options": {"grammar": FOR_EVER, "num_predict": 4000}}
    with narrow.http.stream("POST", "/api/chat", json=asked) as answer:
        told = answer.iter_lines()
        assert not json.loads(next(told))["done"]
        narrow.worker().kill()
        *_, last = told
    assert set(json.loads(last)) == {"error"}
    assert ask(narrow, options={"num_predict": 1})["done"]


def test_a_client_that_leaves_lets_the_next_one_in(narrow: RunningServer) -> None:
    asked = {"model": STARTER, "messages": HI, "options": {"grammar": FOR_EVER, "num_predict": 4000}}
    with narrow.http.stream("POST", "/api/chat", json=asked) as answer:
        next(answer.iter_lines())
    assert ask(narrow, options={"num_predict": 1})["done"]


def test_another_context_is_a_load_of_its_own_and_an_empty_request_unloads_all(roomy: RunningServer) -> None:
    options = {"num_predict": 1}
    assert ask(roomy, options=options)["load_duration"] > 0
    assert ask(roomy, options=options | {"num_ctx": 512})["done"]
    assert sorted(in_memory(roomy)[STARTER]) == [512, 2048]
    workers = roomy.workers()
    assert ask(roomy, "generate", keep_alive=0) | {"created_at": ""} == {
        "model": STARTER,
        "created_at": "",
        "response": "",
        "done": True,
        "done_reason": "unload",
    }
    assert STARTER not in in_memory(roomy)
    kept = {worker.pid for worker in roomy.workers()}
    assert gone([worker for worker in workers if worker.pid not in kept])


def test_an_empty_request_loads_and_keep_alive_says_for_how_long(roomy: RunningServer) -> None:
    loaded = ask(roomy, messages=[], keep_alive="1h")
    assert (loaded["done_reason"], loaded["message"]) == ("load", {"role": "assistant", "content": ""})
    assert in_memory(roomy)[STARTER] == [2048]

    def until() -> str:
        (found,) = (each for each in roomy.http.get("/api/ps").json()["models"] if each["name"] == STARTER)
        return str(found["expires_at"])

    hour = until()
    ask(roomy, "generate", keep_alive=-1)
    assert until() > hour and until().startswith("2318")
    ask(roomy, options={"num_predict": 1}, keep_alive=0)
    assert STARTER not in in_memory(roomy)


def test_what_was_loaded_for_good_at_the_start_is_not_unloaded_by_a_request(server: RunningServer) -> None:
    workers = server.workers()
    assert ask(server, "generate", keep_alive=0)["done_reason"] == "unload"
    assert ask(server, options={"num_predict": 1})["done"] and server.workers() == workers


def test_texts_are_embedded_cut_and_shortened(roomy: RunningServer, embedder: Path) -> None:
    name = embedder.stem
    two = ask(roomy, "embed", model=name, input=["a nut", "a hazel"])
    assert [len(vector) for vector in two["embeddings"]] == [384, 384]
    assert two["prompt_eval_count"] > 4 and two["total_duration"] > 0
    one = ask(roomy, "embed", model=name, input="a nut", dimensions=8)["embeddings"][0]
    assert len(one) == 8 and sum(number**2 for number in one) == pytest.approx(1)
    assert ask(roomy, "embeddings", model=name, prompt="a nut")["embedding"] == pytest.approx(
        two["embeddings"][0], abs=1e-4
    )
    long = "word " * 3000
    assert len(ask(roomy, "embed", model=name, input=long)["embeddings"][0]) == 384
    assert "512" in ask(roomy, "embed", model=name, input=long, truncate=False)["error"]
    assert ask(roomy, "embed", model=name, input=[])["embeddings"] == []
    assert ask(roomy, "embeddings", model=name)["embedding"] == []


@pytest.mark.slow
def test_what_stands_before_a_suffix_is_written_by_a_model_for_code(tools_model_file: Path, tmp_path: Path) -> None:
    name = tools_model_file.stem
    with serving(tmp_path / "home", "-m", str(tools_model_file), "--context", "1024") as running:
        prompt = {"prompt": "def add(a, b):\n    c = ", "suffix": "\n    return c\n"}
        written = ask(running, "generate", model=name, **prompt, options={"temperature": 0, "num_predict": 6})
        assert "a + b" in written["response"]
        assert "insert" in running.http.post("/api/show", json={"model": name}).json()["capabilities"]


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        (7, 7),
        (0, 0),
        ("0", 0),
        ("300", 300),
        (-1, -1),
        ("-1", -1),
        ("-1m", -1),
        (10**400, 10**9),
        (-(10**400), -1),
    ],
)
def test_durations_are_read_as_go_writes_them(given: Any, means: float) -> None:
    assert seconds(given) == means


@given(st.text(alphabet="0123456789.hmsnuµ-+ ", max_size=400))
def test_no_text_is_a_duration_that_is_no_number_of_seconds(text: str) -> None:
    try:
        read = seconds(text)
    except ValueError:
        return
    assert read == -1 or 0 <= read <= 10**9


def test_a_name_is_called_model_or_name() -> None:
    assert OllamaChatBody.model_validate({"name": "a"}).model == "a"
    with pytest.raises(ValidationError):
        OllamaChatBody.model_validate({})


@pytest.mark.slow
def test_the_queue_that_is_full_is_told_in_their_words(starter: Path, tmp_path: Path) -> None:
    install(tmp_path, starter)
    with serving(tmp_path, "-m", STARTER, "--context", "512", "--parallel", "1", "--queue", "0") as running:
        asked = {"model": STARTER, "messages": HI, "options": {"grammar": FOR_EVER, "num_predict": 300}}
        with running.http.stream("POST", "/api/chat", json=asked) as answer:
            next(answer.iter_lines())
            refused = httpx.post(f"{running.url}/api/chat", json=asked, timeout=WAIT_S)
        assert refused.status_code == 429 and set(refused.json()) == {"error"}
