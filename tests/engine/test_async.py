from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import filbert
from filbert import Model
from filbert.core.errors import BadSetting, ContextOverflow
from running import busy_slots, until

FACT = "What is the capital of France? Answer in one sentence."
STORY = "Write a long story about a river and a mill."


def test_an_answer_can_be_awaited(model: Model) -> None:
    async def ask() -> filbert.Reply:
        return await model.agenerate(FACT, temperature=0)

    assert asyncio.run(ask()).text == model.generate(FACT, temperature=0).text


def test_an_answer_can_be_streamed_and_then_awaited_without_asking_again(tiny_model: Model) -> None:
    async def ask() -> tuple[list[filbert.Chunk], filbert.Reply]:
        generation = tiny_model.agenerate(FACT, seed=5, temperature=1, max_tokens=12)
        chunks = [chunk async for chunk in generation]
        return chunks, await generation

    chunks, reply = asyncio.run(ask())
    assert "".join(chunk.text for chunk in chunks) == reply.text
    assert chunks[-1].finish == reply.finish


def test_sixteen_at_once_are_answered(tiny_model: Model) -> None:
    async def ask() -> list[filbert.Reply]:
        return await asyncio.gather(
            *(tiny_model.agenerate(f"Say {n}.", temperature=0, max_tokens=6) for n in range(16))
        )

    replies = asyncio.run(ask())
    assert len(replies) == 16
    assert all(reply.usage.completion_tokens for reply in replies)


def test_the_event_loop_is_free_while_the_model_answers(model: Model) -> None:
    async def ask() -> int:
        ticks = 0
        task = asyncio.ensure_future(_reply(model))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.005)
        return ticks

    assert asyncio.run(ask()) > 5


async def _reply(model: Model) -> filbert.Reply:
    return await model.agenerate(STORY, max_tokens=12)


def test_a_cancelled_task_frees_the_slot(model: Model) -> None:
    async def ask() -> None:
        task = asyncio.ensure_future(_story(model))
        await asyncio.to_thread(until, lambda: busy_slots(model) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    assert until(lambda: busy_slots(model) == 0)


async def _story(model: Model) -> filbert.Reply:
    return await model.agenerate(STORY, max_tokens=400)


def test_leaving_an_async_loop_early_frees_the_slot(model: Model) -> None:
    async def ask() -> None:
        async for chunk in model.agenerate(STORY, max_tokens=400):
            if chunk.text:
                break

    asyncio.run(ask())
    assert until(lambda: busy_slots(model) == 0)


def test_cancel_ends_an_async_answer_with_what_was_said(model: Model) -> None:
    async def ask() -> filbert.Reply:
        generation = model.agenerate(STORY, max_tokens=400)
        async for chunk in generation:
            if chunk.text:
                generation.cancel()
        return await generation

    reply = asyncio.run(ask())
    assert reply.text
    assert reply.finish.reason == "cancelled"


def test_what_goes_wrong_is_raised_where_it_is_awaited(tiny_model: Model) -> None:
    async def ask(**wish: object) -> filbert.Reply:
        return await tiny_model.agenerate("word " * (3000 if not wish else 1), **wish)

    with pytest.raises(ContextOverflow):
        asyncio.run(ask())
    with pytest.raises(BadSetting):
        asyncio.run(ask(temperature=-1))


def test_vectors_and_loading_have_their_twins(tiny: Path) -> None:
    async def ask() -> tuple[int, int]:
        async with await filbert.aload(str(tiny / "embedder.gguf")) as embedder:
            vectors = await embedder.aembed(["the cat", "paris"])
        async with await filbert.aload(str(tiny / "reranker.gguf")) as reranker:
            ranks = await reranker.arerank("the cat", ["the dog", "paris"])
        return len(vectors.vectors), len(ranks)

    assert asyncio.run(ask()) == (2, 2)
