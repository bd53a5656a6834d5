from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import pytest

from filbert import Model
from filbert.core.errors import EngineCrashed, EngineStalled
from filbert.engine.relay import RelayedAnswer, relay
from running import busy_slots, until, worker_pid

ROUTE = "/v1/completions"
ENDLESS = json.dumps({"prompt": "abc", "grammar": 'root ::= "x" root', "max_tokens": 1500, "stream": True}).encode()


def test_a_workers_stream_comes_byte_for_byte_to_its_end(tiny_model: Model) -> None:
    async def ask() -> tuple[int, bytes]:
        body = json.dumps({"prompt": "abc", "max_tokens": 5, "stream": True}).encode()
        async with relay(tiny_model.children.socket("text"), ROUTE, body) as answer:
            return answer.status, b"".join([piece async for piece in answer.body()])

    status, whole = asyncio.run(ask())
    assert status == 200
    assert whole.startswith(b"data: {")
    assert whole.endswith(b"data: [DONE]\n\n")


def test_a_refusal_comes_with_its_status(tiny_model: Model) -> None:
    async def ask() -> tuple[int, bytes]:
        async with relay(tiny_model.children.socket("text"), ROUTE, b'{"prompt": ') as answer:
            return answer.status, b"".join([piece async for piece in answer.body()])

    status, whole = asyncio.run(ask())
    assert status == 400
    assert "error" in json.loads(whole)


async def _read_on(answer: RelayedAnswer, after_first: Callable[[], None]) -> None:
    pieces = answer.body()
    await anext(pieces)
    after_first()
    async for _ in pieces:
        pass


def test_leaving_the_block_early_frees_the_slot(model: Model) -> None:
    async def ask() -> None:
        async with relay(model.children.socket("text"), ROUTE, ENDLESS) as answer:
            await anext(answer.body())

    asyncio.run(ask())
    assert until(lambda: busy_slots(model) == 0)


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGKILL, EngineCrashed), (signal.SIGSTOP, EngineStalled)])
def test_a_worker_that_dies_or_hangs_in_mid_stream_is_told(
    load: Callable[..., Model], sent: signal.Signals, error: type[Exception]
) -> None:
    model = load("dense", context=2048, stall_s=1)

    async def ask() -> None:
        async with relay(model.children.socket("text"), ROUTE, ENDLESS) as answer:
            await _read_on(answer, lambda: os.kill(worker_pid(model), sent))

    with pytest.raises(error):
        asyncio.run(ask())


def test_a_worker_that_is_gone_does_not_answer(load: Callable[..., Model]) -> None:
    model = load("dense")
    socket = model.children.socket("text")
    model.close()

    async def ask() -> None:
        async with relay(socket, ROUTE, ENDLESS):
            pass

    with pytest.raises(EngineCrashed, match="does not answer"):
        asyncio.run(ask())
