"""A model's tokens, told as vLLM tells them."""

from __future__ import annotations

from pathlib import Path

import make_tiny
from running_server import STARTER, RunningServer, serving

TEXT = "<|im_start|>Nuts — 栗"


def test_a_text_comes_back_from_its_tokens(server: RunningServer) -> None:
    told = server.http.post("/tokenize", json={"prompt": TEXT, "add_special_tokens": False}).json()
    assert told["count"] == len(told["tokens"]) and told["tokens"][0] == 1  # one, of that name
    assert told["max_model_len"] == 4096
    assert server.http.post("/detokenize", json={"tokens": told["tokens"]}).json() == {"prompt": TEXT}
    info = server.http.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>" and "im_start" in info["chat_template"]


def test_tokens_that_are_none_are_a_400(server: RunningServer) -> None:
    answer = server.http.post("/detokenize", json={"tokens": [49152]})
    assert (answer.status_code, "no token 49152" in answer.text) == (400, True)


def test_of_several_models_one_has_to_be_named(stocked: Path, tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "tiny.gguf")
    with serving(stocked, "-m", STARTER, "-m", str(path), "--context", "512") as server:
        for answer in (server.http.get("/tokenizer_info"), server.http.post("/tokenize", json={"prompt": "a"})):
            assert (answer.status_code, "2 models" in answer.text) == (400, True)
        assert server.http.post("/tokenize", json={"prompt": "ab", "model": "tiny"}).json()["count"] == 2


def test_what_a_model_wants_before_every_text_is_put_there_when_it_is_asked_for(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "begins.gguf", metadata={"tokenizer.ggml.add_bos_token": True})
    with serving(tmp_path / "home", "-m", str(path), "--context", "512") as server:
        asked = [{"prompt": "ab", "add_special_tokens": special} for special in (False, True)]
        bare, begun = (server.http.post("/tokenize", json=body).json()["tokens"] for body in asked)
        assert begun[1:] == bare and len(bare) == 2
        assert server.http.post("/detokenize", json={"tokens": begun[:1]}).json() == {"prompt": "<|endoftext|>"}
