from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from filbert import Message, Model, Sampling
from filbert.core.errors import BadInput
from filbert.engine.generation import gather
from running import busy_slots, until

FACT = "What is the capital of France? Answer in one sentence."
STORY = "Write a long story about a river and a mill."


def test_an_answer_streams_and_its_pieces_are_the_whole(model: Model) -> None:
    generation = model.generate(FACT, temperature=0)
    chunks = list(generation)
    assert len(chunks) > 5
    assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert generation.reply() == gather(chunks)
    assert "Paris" in generation.text == str(generation) == str(generation.reply())


def test_the_finish_carries_every_count_and_time(model: Model) -> None:
    reply = model.generate(STORY, max_tokens=7, temperature=0).reply()
    assert reply.finish.reason == "length"
    assert reply.usage.completion_tokens == 7
    assert reply.usage.prompt_tokens == model.count_tokens([Message("user", STORY)])
    assert reply.timings.generation_s > 0
    assert reply.timings.generation_tps == pytest.approx(7 / reply.timings.generation_s, rel=0.3)


def test_max_tokens_left_out_lets_the_answer_end_by_itself(model: Model) -> None:
    assert model.generate(FACT, temperature=0).reply().finish.reason == "stop"


@pytest.mark.parametrize("stop", ["Paris", ("nowhere to be found", " of France")])
def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(model: Model, stop: Any) -> None:
    whole = model.generate(FACT, temperature=0).text
    cut = model.generate(FACT, temperature=0, stop=stop).reply()
    assert cut.text == whole[: whole.index(stop if isinstance(stop, str) else stop[-1])]
    assert cut.finish.reason == "stop"


def test_a_seed_repeats_exactly_and_another_gives_another_text(model: Model) -> None:
    texts = [model.generate(STORY, seed=seed, temperature=1.2, max_tokens=12).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_seed_repeats_whatever_the_engine_remembers_of_the_prompt(model: Model) -> None:
    def told() -> str:
        return model.generate(STORY + " Go on for long.", seed=5, temperature=1.2, max_tokens=24).text

    first = told()
    model.generate(STORY + " Go on for a while, and then", max_tokens=1).reply()  # half of it is remembered now
    assert told() == first


def test_without_a_seed_texts_differ(model: Model) -> None:
    assert len({model.generate(STORY, temperature=1.5, max_tokens=8).text for _ in range(3)}) > 1


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}], ids=str)
def test_a_sampler_narrowed_to_one_token_takes_the_likeliest(model: Model, narrow: dict[str, Any]) -> None:
    greedy = model.generate(STORY, temperature=0, max_tokens=16).text
    assert model.generate(STORY, temperature=2, seed=3, max_tokens=16, **narrow).text == greedy


@pytest.mark.parametrize("penalty", ["repeat_penalty", "frequency_penalty", "presence_penalty"])
def test_penalties_reach_the_engine(model: Model, penalty: str) -> None:
    prompt = "one two one two one two one two one two"
    free, penalised = (
        model.complete(prompt, Sampling(temperature=0, max_tokens=6, **wish)).text for wish in ({}, {penalty: 2.0})
    )
    assert penalised != free


@pytest.mark.parametrize("way", ["chat", "completion"])
@pytest.mark.parametrize("others", [0, 5])
def test_logprobs_are_of_the_tokens_and_their_likeliest_neighbours(model: Model, way: str, others: int) -> None:
    sampling = Sampling(temperature=0, logprobs=others, max_tokens=5)
    reply = (
        model.respond([Message("user", FACT)], sampling) if way == "chat" else model.complete("Paris is the", sampling)
    ).reply()
    assert "".join(item.token for item in reply.logprobs) == reply.text
    assert len(reply.logprobs) == 5
    for item in reply.logprobs:
        assert item.logprob <= 0
        assert item.top[0] == (item.token, pytest.approx(item.logprob, abs=1e-4))
        assert [value for _, value in item.top] == sorted((value for _, value in item.top), reverse=True)
        assert sum(math.exp(value) for _, value in item.top) <= 1.001


@pytest.mark.slow
def test_an_answer_holds_to_a_nested_json_schema(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "rivers": {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string", "maxLength": 12}, "long": {"type": "boolean"}},
                    "required": ["name", "long"],
                    "additionalProperties": False,
                },
            },
            "size": {"enum": ["small", "large"]},
        },
        "required": ["city", "rivers", "size"],
        "additionalProperties": False,
    }
    wish = Sampling(json_schema=schema, temperature=0)
    for generation in (model.respond([Message("user", "Rivers of Paris?")], wish), model.complete("Paris:", wish)):
        answer = json.loads(generation.text)
        assert list(answer) == ["city", "rivers", "size"]
        assert answer["size"] in ("small", "large")
        assert all(isinstance(river["long"], bool) and set(river) == {"name", "long"} for river in answer["rivers"])


@pytest.mark.parametrize("part", [{"uniqueItems": True}, {"items": {"format": "uri"}}, {"not": {}}], ids=str)
def test_what_only_a_chat_can_be_held_to_is_refused_for_a_completion(tiny_model: Model, part: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="cannot be held to a schema with"):
        tiny_model.complete("abc", Sampling(json_schema={"type": "array", **part}))


@pytest.mark.parametrize("way", ["chat", "completion"])
def test_an_answer_holds_to_a_grammar(tiny_model: Model, way: str) -> None:
    sampling = Sampling(grammar='root ::= ("yes" | "no") "!"', temperature=2, seed=7)
    chat = way == "chat"
    generation = (
        tiny_model.respond([Message("user", "Well?")], sampling) if chat else tiny_model.complete("Well?", sampling)
    )
    assert generation.text in ("yes!", "no!")


def test_characters_split_over_tokens_arrive_whole(model: Model) -> None:
    asked = model.complete("😀🎉🚀😀🎉🚀😀🎉🚀", Sampling(temperature=0, max_tokens=30))
    texts = [chunk.text for chunk in asked]
    assert any(ord(letter) > 0xFFFF for text in texts for letter in text)
    assert not any("\ufffd" in text for text in texts)
    assert "".join(texts).encode().decode() == asked.text


def test_an_answer_cancelled_from_another_thread_keeps_what_was_said_and_frees_the_slot(model: Model) -> None:
    generation = model.generate(STORY, temperature=0)
    enough, ended = threading.Event(), threading.Event()

    def read() -> None:
        for number, _ in enumerate(generation):
            if number == 3:
                enough.set()
        ended.set()

    threading.Thread(target=read).start()
    assert enough.wait(60)
    generation.cancel()
    assert ended.wait(1)  # the issue's own bound
    reply = generation.so_far()
    assert reply.finish.reason == "cancelled"
    assert reply.text
    assert reply.usage.prompt_tokens == model.count_tokens([Message("user", STORY)])
    assert reply.usage.completion_tokens >= 3
    assert until(lambda: busy_slots(model) == 0)


def test_an_answer_cancelled_while_its_prompt_is_read_frees_the_slot(model: Model) -> None:
    generation = model.complete("word " * 900, Sampling(temperature=0, max_tokens=100))
    reader = threading.Thread(target=generation.reply)
    reader.start()
    assert until(lambda: busy_slots(model) == 1)
    generation.cancel()
    reader.join(60)
    assert not reader.is_alive()
    assert until(lambda: busy_slots(model) == 0)
    assert generation.so_far().finish.reason == "cancelled"


def test_an_answer_cancelled_before_it_began_asks_nothing(model: Model) -> None:
    generation = model.generate(STORY)
    generation.cancel()
    reply = generation.reply()
    assert (reply.text, reply.finish.reason) == ("", "cancelled")


def test_leaving_the_loop_early_frees_the_slot(model: Model) -> None:
    generation = model.generate(STORY, temperature=0)
    for chunk in generation:
        if chunk.text:
            break
    assert until(lambda: busy_slots(model) == 0)
    assert generation.reply().finish.reason == "cancelled"
    assert generation.text


def test_an_exception_in_the_loop_frees_the_slot(model: Model) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in model.generate(STORY, temperature=0):
            1 / 0  # noqa: B018
    assert until(lambda: busy_slots(model) == 0)


def test_several_answers_at_once_are_what_each_is_alone(tiny_model: Model) -> None:
    prompts = [f"Name a word that begins with {letter}." for letter in "ABCD"]

    def ask(prompt: str) -> str:
        return tiny_model.generate(prompt, temperature=0, max_tokens=12).text

    alone = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, prompts)) == alone
    assert len(set(alone)) == 4


def test_answers_at_once_really_run_at_once(model: Model) -> None:
    endless = 'root ::= "x" root'
    generations = [model.generate(STORY, grammar=endless, max_tokens=100) for _ in range(3)]
    readers = [threading.Thread(target=generation.reply) for generation in generations]
    for reader in readers:
        reader.start()
    assert until(lambda: busy_slots(model) == 3)
    for generation in generations:
        generation.cancel()
    for reader in readers:
        reader.join(60)
    assert until(lambda: busy_slots(model) == 0)
