from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import filbert
import make_tiny
from filbert import Message, Model, Sampling
from filbert.core.errors import BadInput, ContextOverflow
from filbert.core.machine import memory
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.store import in_place

Load = Callable[..., Model]
ENDLESS = 2**31 - 1  # tokens
FREE = Sampling(grammar='root ::= "x" root')  # never ends by itself


@pytest.mark.parametrize(("letters", "answer"), [(250, 6), (254, 2), (255, 1)])
def test_a_prompt_may_fill_the_context_to_its_last_token(load: Load, letters: int, answer: int) -> None:
    reply = load("dense", context=256).complete("x" * letters, FREE).reply()
    assert reply.usage.prompt_tokens == letters
    assert reply.usage.completion_tokens == answer
    assert reply.finish.reason == "length"


@pytest.mark.parametrize("letters", [256, 257, 5000])
def test_a_prompt_over_the_context_is_refused_with_both_numbers(load: Load, letters: int) -> None:
    with pytest.raises(ContextOverflow, match=f"The prompt has {letters} tokens and the context holds 256") as caught:
        load("dense", context=256).complete("x" * letters)
    assert "--context" in caught.value.do


def test_who_has_the_whole_trained_context_is_not_told_to_take_more(load: Load) -> None:
    with pytest.raises(ContextOverflow, match="another model: this one was trained for no more"):
        load("dense", context=make_tiny.CONTEXT).complete("x" * (make_tiny.CONTEXT + 1))


def test_a_conversation_of_more_messages_than_the_context_has_tokens_never_reaches_the_engine(load: Load) -> None:
    with pytest.raises(ContextOverflow, match="has 300 messages, and the context holds 256 tokens"):
        load("dense", context=256).respond([Message("user", "x")] * 300)


def test_a_conversation_is_counted_with_its_template(load: Load) -> None:
    model = load("dense", context=256)
    around = model.count_tokens([Message("user", "")])
    reply = model.respond([Message("user", "x" * (255 - around))], FREE).reply()
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (255, 1)
    with pytest.raises(ContextOverflow, match="The prompt has 256 tokens"):
        model.respond([Message("user", "x" * (256 - around))], FREE)


def test_max_tokens_left_out_gives_an_answer_its_share_of_the_context(load: Load) -> None:
    reply = load("dense", context=512, parallel=4).complete("x", FREE).reply()
    assert (reply.usage.completion_tokens, reply.finish.reason) == (128, "length")


def test_more_new_tokens_than_there_is_room_for_end_at_the_context(load: Load) -> None:
    reply = load("dense", context=256).complete("x" * 100, FREE.model_copy(update={"max_tokens": 1000})).reply()
    assert (reply.usage.completion_tokens, reply.finish.reason) == (156, "length")


def test_the_default_is_the_trained_length_and_is_told(tiny: Path) -> None:
    with filbert.load(str(tiny / "dense.gguf")) as model:
        assert model.context == make_tiny.CONTEXT
        assert f"context {make_tiny.CONTEXT} tokens of {make_tiny.CONTEXT} trained" in model.summary


@pytest.mark.slow
def test_scores_have_the_trained_length_since_their_cache_grows_with_what_is_asked(tmp_path: Path) -> None:
    long = make_tiny.dense(tmp_path / "long.gguf", metadata={"llama.context_length": 32768})
    with Model(in_place(long)) as model:
        assert (model.context, model.scorer.context) == (16384, 32768)
        assert model.score("x" * 17000, ["y"])[0].tokens == 1
    with Model(in_place(long), LoadOptions(context=256)) as model:
        assert model.scorer.context == 256
        with pytest.raises(ContextOverflow):
            model.score("x" * 257, ["y"])  # what follows the last token is not read


def test_a_context_that_no_memory_holds_is_refused_with_the_advice_to_ask_for_less(tmp_path: Path) -> None:
    endless = make_tiny.dense(tmp_path / "endless.gguf", metadata={"llama.context_length": ENDLESS})
    with pytest.raises(BadInput, match="Ask for a smaller --context"):
        Model(in_place(endless), LoadOptions(context=ENDLESS))


def test_where_memory_is_short_a_model_that_writes_embeds_shorter_texts(starter: Path) -> None:
    stored, free = in_place(starter), memory().available >> 20
    roomy, tight = (LoadPlan(stored, LoadOptions(context=2048, prompt_cache_mib=mib)) for mib in (0, free - 1050))
    assert roomy.pooled_context == 2048
    assert tight.pooled_context in (512, 1024)
    assert tight.takes("text").total + tight.takes("embedding").own <= memory().available


def test_text_that_is_none_is_refused(load: Load) -> None:
    model = load("dense")
    for text in ("half \ud83d a character", 5, None, b"bytes"):
        with pytest.raises(BadInput):
            model.generate(text)  # type: ignore[arg-type]
        with pytest.raises(BadInput):
            model.complete(text)  # type: ignore[arg-type]


def test_an_empty_prompt_does_not_hang(load: Load) -> None:
    model = load("dense")
    assert model.complete("").reply().usage.prompt_tokens == 0
    assert model.generate("", max_tokens=3).reply().usage.prompt_tokens > 0


def test_a_model_without_a_template_goes_on_from_the_prompt(tmp_path: Path) -> None:
    with filbert.load(str(make_tiny.dense(tmp_path / "base.gguf", template=None)), context=256) as base:
        assert base.generate("abc", max_tokens=2).reply().usage.prompt_tokens == 3


def test_the_start_of_a_prompt_seen_before_is_not_computed_again(load: Load) -> None:
    model = load("dense")
    assert model.complete("x" * 200, Sampling(max_tokens=1)).reply().usage.cached_tokens == 0
    assert model.complete("x" * 200 + "yz", Sampling(max_tokens=1)).reply().usage.cached_tokens >= 190


def test_speculation_is_left_out_where_the_same_bytes_are_wanted(load: Load) -> None:
    model = load("dense", speculation="auto")
    model.generate("hi", max_tokens=2).reply()
    assert set(model.children.workers) == {"text"}
    assert model.children.workers["text"].plan.speculation
    for wish in ({"seed": 1}, {"temperature": 0}, {"logprobs": 2}):
        model.generate("hi", max_tokens=2, **wish).reply()
    assert not model.children.workers["plain"].plan.speculation


def test_speculation_is_off_unless_asked_for(load: Load) -> None:
    model = load("dense")
    model.generate("hi", max_tokens=2, seed=1).reply()
    assert set(model.children.workers) == {"text"}
    assert not model.children.workers["text"].plan.speculation


def test_a_second_child_that_does_not_fit_beside_the_first_is_refused_before_it_starts(load: Load) -> None:
    most = int(0.6 * memory().total) >> 20  # remembered prompts that are never filled
    model = load("dense", speculation="auto", prompt_cache_mib=most)
    with pytest.raises(BadInput, match=r"no memory for its text worker without speculation.*held: .*'s text worker \("):
        model.generate("hi", max_tokens=2, seed=1).reply()
    assert set(model.children.workers) == {"text"}
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_a_closed_model_says_so(load: Load) -> None:
    model = load("dense")
    model.close()
    model.close()
    for ask in (lambda: model.generate("hi").reply(), lambda: model.embed(["hi"]), lambda: model.score("a", ["b"])):
        with pytest.raises(BadInput, match="is closed"):
            ask()
