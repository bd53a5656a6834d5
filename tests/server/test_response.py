"""The stream as the worker writes it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from filbert.core.messages import Message
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import STREAMED, Model
from filbert.engine.relay import relay
from filbert.engine.sampling import Sampling
from filbert.engine.transport import WorkerSocket
from filbert.models import store
from filbert.server.measured import Measured, tapped
from filbert.server.openai_shape import legacy_logprobs, without_usage
from filbert.server.response import without_progress
from running_server import STARTER, serving

OWN = re.compile(rb'"(created|id)":("[^"]*"|\d+)|"timings":\{[^}]*\}')


def test_a_stream_is_the_worker_s_own_byte_for_byte(stocked: Path) -> None:
    """Apart from what names the answer, its second and its speed. Both workers see their first prompt."""
    messages = [Message("user", "Tell me of Ünïcödé 🌰 and nuts.")]
    wish = {"temperature": 0.8, "seed": 7, "max_tokens": 24, "logprobs": 1}

    async def from_worker(model: Model) -> bytes:
        body = {"messages": [message.to_json() for message in messages], **STREAMED, "return_progress": False}
        prepared = model.prepare("/v1/chat/completions", body, Sampling(**wish), 1000)
        async with relay(
            model.children.socket(prepared.role), prepared.route, json.dumps(prepared.body).encode()
        ) as answer:
            return b"".join([piece async for piece in answer.body()])

    with Model(store.installed(STARTER), LoadOptions(context=4096)) as model:
        direct = asyncio.run(from_worker(model))
    asked = wish | {"logprobs": True, "top_logprobs": 1, "stream_options": {"include_usage": True}}
    with serving(stocked, "--context", "4096") as server:
        with server.streaming(messages=[message.to_json() for message in messages], **asked) as answer:
            relayed = answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
    assert relayed.endswith(b"data: [DONE]\n\n")
    assert OWN.sub(b"", relayed) == OWN.sub(b"", direct)


def test_a_token_stands_once_among_the_likeliest_however_it_is_written() -> None:
    alone = {"id": 7, "token": "\ufffd", "logprob": -1.0}
    chosen = {
        "id": 7,
        "token": "🚀",
        "logprob": -1.0,
        "top_logprobs": [alone, {"id": 8, "token": "a", "logprob": -2.0}],
    }
    assert legacy_logprobs([chosen])["top_logprobs"] == [{"🚀": -1.0, "a": -2.0}]


PROGRESS = b'data: {"choices":[],"prompt_progress":{"total":9}}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"\\"prompt_progress\\":{"}}]}\n\n'


@given(st.integers(0, 3), st.integers(0, 3), st.lists(st.integers(1, 60), max_size=12))
def test_progress_is_taken_out_however_the_bytes_are_cut(before: int, after: int, cuts: list[int]) -> None:
    stream = PROGRESS * before + TOKEN * after + b"data: [DONE]\n\n"

    async def pieces() -> AsyncIterator[bytes]:
        rest = stream
        for cut in cuts:
            if rest:
                yield rest[:cut]
            rest = rest[cut:]
        if rest:
            yield rest

    async def relayed() -> bytes:
        return b"".join([piece async for piece in without_progress(pieces())])

    assert asyncio.run(relayed()) == TOKEN * after + b"data: [DONE]\n\n"


def test_a_reader_that_takes_nothing_keeps_the_worker_waiting_not_the_memory_filling(tmp_path: Path) -> None:
    """A worker that would say 100 MB stops when the pipe is full, and is told when nobody wants the rest."""
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    written, told = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        leaving = asyncio.create_task(reader.read(1))
        while not leaving.done() and written < 100_000_000:
            writer.write(piece)
            await writer.drain()
            written += len(piece)
        told.set()
        writer.close()

    async def read_one_piece() -> int:
        async with await asyncio.start_unix_server(answer, tmp_path / "x.sock"):
            worker = WorkerSocket(f"unix://{tmp_path}/x.sock", "secret", 5)
            async with relay(worker, "/", b"") as stream:
                assert await anext(stream.body())
                before = -1
                while written > before:  # until the pipe is full
                    before = written
                    await asyncio.sleep(0.2)
            await asyncio.wait_for(told.wait(), 60)
            return before

    assert 0 < asyncio.run(read_one_piece()) < 4_000_000


@given(st.lists(st.integers(1, 40)), st.booleans())
def test_usage_is_taken_out_wherever_the_pieces_are_cut(cuts: list[int], has_choices: bool) -> None:
    said = b'data: {"choices":[{"delta":{"content":"\\"usage\\":{"}}]}\n\n'
    choices = b'[{"text":""}]' if has_choices else b"[]"
    last = (
        b'data: {"choices":'
        + choices
        + b',"usage":{"prompt_tokens":1,"completion_tokens":2},"timings":{"cache_n":0}}\n\n'
    )
    whole = said + last + b"data: [DONE]\n\n"

    async def pieces() -> AsyncIterator[bytes]:
        at = 0
        for cut in cuts:
            yield whole[at : at + cut]
            at += cut
        yield whole[at:]

    async def taken() -> bytes:
        return b"".join([piece async for piece in without_usage(tapped(pieces(), measured))])

    measured = Measured()
    out = asyncio.run(taken())
    kept = b'data: {"choices":[{"text":""}],"timings":{"cache_n":0}}\n\n' if has_choices else b""
    assert (measured.prompt_tokens, measured.completion_tokens) == (1, 2)
    assert out == said + kept + b"data: [DONE]\n\n"
