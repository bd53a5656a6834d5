"""Several answers at once on one model, with async."""

import asyncio

import filbert

QUESTIONS = ["Name a nut.", "Name a tree.", "Name a bird.", "Name a river."]


async def main() -> None:
    async with await filbert.aload("smollm2:135m", parallel=4) as model:
        replies = await asyncio.gather(*(ask(model, question) for question in QUESTIONS))
        for question, reply in zip(QUESTIONS, replies, strict=True):
            print(f"{question} {reply.text.strip()}")


async def ask(model: filbert.Model, question: str) -> filbert.Reply:
    return await model.agenerate(question, max_tokens=20, temperature=0)


asyncio.run(main())
