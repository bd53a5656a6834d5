"""What happens when more is asked than can be answered."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from running import until
from running_server import (
    FOR_EVER,
    STARTER,
    WAIT_S,
    RunningServer,
    documents,
    install,
    request,
    sent,
    serving,
    unharmed,
)


@pytest.fixture(scope="module")
def strict(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One answer at a time, two may wait, and none takes longer than four seconds."""
    home = tmp_path_factory.mktemp("strict")
    install(home, starter)
    flags = ("--context", "1024", "--parallel", "1", "--queue", "2", "--deadline", "4")
    with serving(home, *flags) as running:
        assert running.post().status_code == 200
        yield running


def test_who_comes_when_the_queue_is_full_is_told_when_to_come_back(strict: RunningServer) -> None:
    with strict.streaming(grammar=FOR_EVER, max_tokens=900) as running:
        next(running.iter_raw())
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: strict.post(max_tokens=1), range(8)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[429] >= 4  # at its deadline the first one may make room meanwhile
    assert set(statuses) <= {200, 429, 504}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "busy"
    assert strict.post().status_code == 200


@pytest.mark.slow
def test_an_answer_ends_at_its_deadline_and_its_place_is_free(strict: RunningServer) -> None:
    whole = strict.post(grammar=FOR_EVER, max_tokens=900)
    assert (whole.status_code, whole.json()["error"]["code"]) == (504, "deadline_passed")
    with strict.streaming(grammar=FOR_EVER, max_tokens=900) as running:
        *_, last = documents(running.iter_lines())
    assert last["error"]["code"] == "deadline_passed"
    assert strict.post().status_code == 200


@pytest.mark.slow
def test_of_500_clients_64_wait_and_are_answered_and_all_others_are_sent_away(narrow: RunningServer) -> None:
    """One answers at a time, and 64 may wait."""
    with sent(narrow, stream=True) as under_way:
        assert under_way.recv(1)
        statuses, full = asyncio.run(crowd(narrow, 500, under_way))
    assert statuses == {200: 64, 429: 436}
    assert (full.status_code, full.json()["error"]["code"]) == (429, "busy")
    assert 1 <= int(full.headers["retry-after"]) <= 60
    assert unharmed(narrow)
    assert narrow.http.get("/ready").status_code == 200


@pytest.mark.slow
def test_who_wants_vectors_of_a_worker_that_hangs_waits_in_line_until_the_deadline(strict: RunningServer) -> None:
    texts = {"model": STARTER, "input": ["nuts"]}
    before = {worker.pid for worker in strict.workers()}
    assert strict.http.post("/v1/embeddings", json=texts).status_code == 200
    (hung,) = (worker for worker in strict.workers() if worker.pid not in before)
    hung.suspend()
    assert asyncio.run(many(strict, "/v1/embeddings", texts)) == {504: 3, 429: 67}
    hung.resume()
    assert strict.http.post("/v1/embeddings", json=texts).status_code == 200


@pytest.mark.slow
def test_who_wants_a_model_that_does_not_come_waits_in_line_until_the_deadline(starter: Path, tmp_path: Path) -> None:
    install(tmp_path / "home", starter)
    with serving(tmp_path / "home", "--context", "512", "--queue", "2", "--deadline", "4") as server:
        asked = {"model": STARTER, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(server.http.post, "/v1/chat/completions", json=asked)
            assert until(lambda: bool(server.workers()))
            (worker,) = server.workers()
            worker.suspend()
            assert asyncio.run(many(server, "/v1/chat/completions", asked)) == {504: 2, 429: 68}
            assert first.result().status_code == 504
        worker.resume()
        assert server.post(max_tokens=1).status_code == 200
        assert len(server.workers()) == 1


async def many(server: RunningServer, route: str, body: dict[str, Any], size: int = 70) -> Counter[int]:
    """What so many are told at once; meanwhile the server tells others what models there are."""
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_S, limits=httpx.Limits()) as client:
        asks = [asyncio.create_task(client.post(route, json=body)) for _ in range(size)]
        while sum(ask.done() for ask in asks) < size - 3:
            await asyncio.sleep(0.01)
        models = await client.get("/v1/models")
        assert not all(ask.done() for ask in asks)
        assert models.json()["data"]
        return Counter([(await ask).status_code for ask in asks])


async def crowd(server: RunningServer, size: int, under_way: socket.socket) -> tuple[Counter[int], httpx.Response]:
    """What so many are told at once, and whether the server was ready when nobody more could wait. Then the answer
    under way is left."""
    asks, statuses = [asyncio.create_task(asked_for_a_word(server)) for _ in range(size)], Counter[int]()
    for ask in asyncio.as_completed(asks):
        statuses[await ask] += 1
        if statuses == {429: size - 64}:
            ready = await asyncio.to_thread(server.http.get, "/ready")
            under_way.close()
    return statuses, ready


async def asked_for_a_word(server: RunningServer) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(max_tokens=1))
    status = await reader.readline()
    writer.close()
    return int(status.split()[1])


@pytest.mark.slow
def test_an_answer_under_way_ends_well_when_the_server_is_told_to_end(stocked: Path) -> None:
    with serving(stocked, "--context", "1024") as server:
        assert server.post().status_code == 200
        with server.streaming(max_tokens=60, ignore_eos=True) as running:
            lines = running.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))
            server.process.send_signal(signal.SIGTERM)
            told = list(documents(lines))
        assert told[-1]["choices"][0]["finish_reason"] in ("stop", "length")
        assert server.process.wait(60) in (0, -signal.SIGTERM)
