from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import filbert
import make_tiny
from filbert import Model, Sampling
from filbert.core.errors import BadInput, BadModelFile, BadRequest, EngineCrashed, EngineStalled
from filbert.core.runtime_folder import RuntimeFolder
from filbert.engine.load_options import LoadOptions
from filbert.models.store import in_place
from running import gone, until, worker_pid

Load = Callable[..., Model]
FREE = Sampling(grammar='root ::= "x" root')  # never ends by itself


def test_a_worker_killed_in_mid_stream_fails_that_answer_and_the_next_one_works(load: Load) -> None:
    model = load("dense", context=2048, parallel=1)
    generation = model.complete("abc", FREE)
    with pytest.raises(EngineCrashed, match="SIGKILL"):
        for chunk in generation:
            if chunk.text:
                os.kill(worker_pid(model), signal.SIGKILL)
    assert generation.so_far().text
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_a_worker_killed_before_the_first_token_fails_that_answer_and_the_next_one_works(load: Load) -> None:
    model = load("dense")
    generation = model.generate("hi", max_tokens=5)
    pid = worker_pid(model)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(generation.reply)
        assert until(lambda: generation._exchange is not None)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed, match="SIGKILL"):
            answer.result(60)
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_a_worker_that_died_while_idle_is_replaced_unnoticed(load: Load) -> None:
    model = load("dense")
    os.kill(worker_pid(model), signal.SIGKILL)
    assert until(lambda: not model.children.workers["text"].running)
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_a_worker_whose_socket_is_gone_fails_one_answer_and_is_replaced(load: Load) -> None:
    model = load("dense")
    Path(model.children.socket("text").address.removeprefix("unix://")).unlink()
    with pytest.raises(EngineCrashed, match="does not answer"):
        model.generate("hi", max_tokens=2).reply()
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_a_worker_that_hangs_ends_at_its_deadline_and_is_replaced(load: Load) -> None:
    model = load("dense", stall_s=1)
    pid = worker_pid(model)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EngineStalled, match="no sign of life for 1 s"):
        model.generate("hi", max_tokens=5).reply()
    assert gone(pid)
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens
    assert worker_pid(model) != pid


def test_a_model_that_does_not_load_in_time_is_closed_and_told_what_helps(tiny: Path) -> None:
    model = Model(in_place(tiny / "dense.gguf"), LoadOptions(context=512, stall_s=0.001))
    with pytest.raises(EngineStalled, match="raise FILBERT_LOAD_STALL_S"):
        model.wait_until_loaded()
    with pytest.raises(BadInput, match="is closed"):
        model.generate("hi").reply()


def test_a_worker_killed_while_embedding_is_replaced(load: Load) -> None:
    embedder = load("embedder")
    os.kill(embedder.children.workers["embedding"].pid, signal.SIGKILL)
    assert until(lambda: not embedder.children.workers["embedding"].running)
    assert len(embedder.embed(["the cat"]).vectors) == 1


def test_texts_that_are_embedded_together_get_the_time_each_may_take(load: Load) -> None:
    embedder = load("embedder", stall_s=1)
    os.kill(embedder.children.workers["embedding"].pid, signal.SIGSTOP)
    with pytest.raises(EngineStalled, match="no sign of life for 2 s"):
        embedder.embed(["nuts", "nuts"])  # ten tokens at most, at ten a second
    assert len(embedder.embed(["nuts"]).vectors) == 1


def test_the_worker_that_took_the_place_of_one_that_hung_is_left_alone(load: Load) -> None:
    model = load("dense")
    old = model.children.socket("text")
    os.kill(worker_pid(model), signal.SIGKILL)
    assert until(lambda: not model.children.workers["text"].running)
    model.children.socket("text")
    model.children.end("text", old)
    assert model.children.workers["text"].running
    model.children.end("text", model.children.socket("text"))
    assert not model.children.workers["text"].running


def test_many_callers_at_once_wait_for_one_worker_to_load(load: Load) -> None:
    model = load("dense")
    os.kill(worker_pid(model), signal.SIGKILL)
    assert until(lambda: not model.children.workers["text"].running)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: model.generate(f"{n}", max_tokens=2).reply(), range(8)))
    assert len(replies) == 8
    assert len([child for child in psutil.Process().children() if child.pid == worker_pid(model)]) == 1


@pytest.mark.parametrize(
    ("name", "why"), [("aborting", "GGML_ASSERT"), ("refused", r"tensor 'blk\.1\.attn_q\.weight' has wrong shape")]
)
def test_a_file_the_engine_aborts_on_or_refuses_is_an_error_that_says_why(tiny: Path, name: str, why: str) -> None:
    before = psutil.Process().children()
    for _ in range(2):
        with pytest.raises(BadModelFile, match=f"The engine could not load {name}.gguf. .*{why}"):
            filbert.load(str(tiny / f"{name}.gguf"))
    assert set(psutil.Process().children()) <= set(before)


def test_a_chat_template_that_loops_for_ever_ends_at_the_deadline(load: Load) -> None:
    model = load("looping", stall_s=1)
    pid = worker_pid(model)
    with pytest.raises(EngineStalled, match="template"):
        model.generate("loop").reply()
    assert gone(pid)
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


@pytest.mark.slow
def test_a_chat_template_that_explodes_never_takes_the_machines_memory(load: Load) -> None:
    model = load("exploding", stall_s=60)
    limit = model.children.workers["text"].plan.memory_limit
    peak = _Peak(worker_pid(model))
    with peak, pytest.raises((BadRequest, EngineStalled, EngineCrashed)):
        model.generate("explode").reply()
    assert 0 < peak.bytes <= limit + (256 << 20)
    assert limit < 4 << 30
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


class _Peak:
    """The most memory a process held while it was watched, in bytes."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process, self._over = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            try:
                self.bytes = max(self.bytes, self._process.memory_info().rss)
            except psutil.Error:
                return


@pytest.mark.parametrize(
    "wish",
    [
        {"json_schema": {"type": "string", "pattern": "^(((((a?){100}){100}){100}){100})$"}},
        {"grammar": "root ::= " + "( [a-z]* " * 60 + ")*" * 60},
        {"grammar": 'root ::= "' + "a" * 60_000 + '"{2000}'},
        {"json_schema": {"allOf": [{"anyOf": [{"const": f"{i}{j}"} for j in range(40)]} for i in range(25)]}},
    ],
    ids=["pattern", "nested repetitions", "long repetition", "product of choices"],
)
def test_a_grammar_or_schema_that_explodes_ends_by_the_deadline(load: Load, wish: dict[str, object]) -> None:
    model = load("dense", stall_s=4)
    began = time.monotonic()
    try:
        model.generate("hi", max_tokens=3, **wish).reply()
    except (BadRequest, EngineStalled, EngineCrashed) as exc:
        assert exc.do
    assert time.monotonic() - began < 60  # not a speed: it would otherwise run for years
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


@pytest.mark.parametrize(
    "wish",
    [
        {"grammar": "root ::= nonsense ::"},
        {"grammar": 'root ::= root "a"'},
        {"json_schema": {"$ref": "http://127.0.0.1:1/schema"}},
        {"json_schema": {"type": "integer", "minimum": float("nan")}},
    ],
    ids=["broken", "left recursion", "schema elsewhere", "NaN"],
)
def test_a_grammar_or_schema_that_is_none_is_refused_and_the_worker_lives(load: Load, wish: dict[str, object]) -> None:
    model = load("dense")
    pid = worker_pid(model)
    with pytest.raises((BadRequest, BadInput)):
        model.generate("hi", max_tokens=3, **wish).reply()
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens
    assert worker_pid(model) == pid


def test_leaving_the_block_ends_the_workers_and_their_folders(load: Load) -> None:
    with load("dense") as model:
        model.embed(["hi"])
        workers = list(model.children.workers.values())
    assert len(workers) == 2
    assert all(gone(worker.pid) and not worker._folder.path.exists() for worker in workers)


def test_a_model_that_nobody_holds_any_more_takes_its_worker_along(tiny: Path) -> None:
    model = filbert.load(str(tiny / "dense.gguf"), context=256)
    pid = worker_pid(model)
    del model
    gc.collect()
    assert until(lambda: gone(pid))


def test_the_socket_is_its_owners_alone_and_wants_the_secret(model: Model) -> None:
    socket = model.children.socket("text")
    folder = Path(socket.address.removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    stranger = type(socket)(socket.address, "guess", 10)
    with pytest.raises(BadRequest, match="Invalid API Key"):
        list(stranger.send("/tokenize", {"content": "hi"}))


ENDLESS = "{% set big = range(20000) %}" + "".join(f"{{% for {x} in big %}}" for x in "abc") + "{% endfor %}" * 3


def test_a_chat_template_that_never_ends_at_load_ends_by_the_deadline(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "endless.gguf", template=ENDLESS + make_tiny.CHATML)
    with pytest.raises(EngineStalled):
        filbert.load(str(path), context=256, stall_s=1)


def test_a_worker_that_never_finishes_loading_ends_with_its_caller_and_the_next_one_clears_up(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "endless.gguf", template=ENDLESS + make_tiny.CHATML)
    program = f"""
import filbert
from filbert.engine.load_options import LoadOptions
from filbert.models.store import in_place
from pathlib import Path
model = filbert.Model(in_place(Path({str(path)!r})), LoadOptions(context=256))
print(model.children.worker("text").pid, model.children.worker("text")._folder.path, flush=True)
model.wait_until_loaded()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker, folder = process.stdout.readline().split()
    time.sleep(1)  # it is in its template by now
    process.kill()
    process.wait()
    assert until(lambda: gone(int(worker)))
    os.utime(folder, (0, 0))
    RuntimeFolder().remove()
    assert not Path(folder).exists()
