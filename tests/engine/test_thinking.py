"""Thought before the answer: by the real starter under a template that has it think, and, plumbing only, by random
weights under the templates of models that people use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import filbert
import make_tiny
from filbert.core.errors import BadInput
from filbert.core.messages import Message, shown
from filbert.engine.sampling import Sampling
from filbert.engine.thinking import thinking_of
from filbert.engine.tools import Tool

DATA = Path(__file__).parent.parent / "data"
THINKING = (DATA / "thinking.jinja").read_text("utf-8")
QUESTION = [Message("user", "Is a whale a fish?")]
SCHEMA = {"type": "object", "properties": {"fish": {"type": "boolean"}}, "required": ["fish"]}
TEMPLATES = DATA / "templates"  # of models that people use
FINAL = "<|start|>assistant<|channel|>final<|message|>"
# What each family writes before, between and after its thought and its answer: what the prompt opens is not written.
MARKS = {
    "qwen3": ("<think>", "</think>"),
    "granite3.3": ("<think>", "</think>"),
    "smollm3": ("<think>", "</think>"),
    "deepseek-r1": ("", "</think>"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|>" + FINAL),
}
NO_THOUGHT = {
    "qwen3": "<think>\n\n</think>\n\n",
    "deepseek-r1": "<think>\n</think>",
    "smollm3": "<think>\n\n</think>\n",
    "granite3.3": "<|start_of_role|>assistant<|end_of_role|>",
    "gpt-oss": "<|start|>assistant",
}


@pytest.fixture(scope="module")
def thinker(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(tmp_path_factory.mktemp("home")))
        model = filbert.load(str(starter), context=1024, template=THINKING)
    with model:
        yield model


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, filbert.Model]]:
    """A model of random weights under each family's template."""
    folder = tmp_path_factory.mktemp("families")
    loaded: dict[str, filbert.Model] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(folder / "home"))
        for name in MARKS:
            template = (TEMPLATES / f"{name}.jinja").read_text("utf-8")
            path = make_tiny.dense(folder / f"{name}.gguf", template=template)
            loaded[name] = filbert.load(str(path), context=2048, speculation="off")
    yield loaded
    for model in loaded.values():
        model.close()


def rendered(model: filbert.Model, sampling: Sampling) -> str:
    """The prompt as the engine makes it of a request."""
    prepared = model.prepare_chat(QUESTION, sampling)
    (event,) = model.children.send("text", "/apply-template", prepared.body)
    return str(event["prompt"])


# The real starter


@pytest.mark.slow
def test_a_real_model_thinks_and_the_thought_is_no_part_of_the_answer(thinker: filbert.Model) -> None:
    chunks = list(thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=100)))
    reply = thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=100)).reply()
    assert "whale" in reply.reasoning and "mammal" in reply.text
    assert "think>" not in reply.reasoning + reply.text
    assert [chunk.reasoning for chunk in chunks if chunk.reasoning] and chunks[-1].finish == chunks[-1].finish
    answered = next(i for i, chunk in enumerate(chunks) if chunk.text)
    assert not any(chunk.reasoning for chunk in chunks[answered:])


def test_the_tokens_of_a_thought_are_the_engine_s_own_count(thinker: filbert.Model) -> None:
    reply = thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=100)).reply()
    assert reply.usage.reasoning_tokens == len(thinker.tokenize(reply.reasoning))
    assert reply.usage.reasoning_tokens < reply.usage.completion_tokens


def test_a_thought_is_left_out_when_it_is_not_wanted(thinker: filbert.Model) -> None:
    reply = thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=100, think="off")).reply()
    assert (reply.reasoning, reply.usage.reasoning_tokens) == ("", 0)
    assert "mammal" in reply.text


def test_a_schema_holds_the_answer_and_not_the_thought(thinker: filbert.Model) -> None:
    for think, thinks in (("on", True), ("off", False)):
        options = Sampling(temperature=0, max_tokens=150, think=think, json_schema=SCHEMA)
        reply = thinker.respond(QUESTION, options).reply()
        assert bool(reply.reasoning) is thinks
        assert isinstance(json.loads(reply.text)["fish"], bool)


@pytest.mark.slow
def test_a_call_that_is_required_comes_after_the_thought(thinker: filbert.Model) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
    asked = [Message("user", "What is the weather in Paris?")]
    for think, thinks in (("on", True), ("off", False)):
        options = Sampling(temperature=0, max_tokens=150, think=think)
        weather = Tool("weather", "The weather in a city.", city)
        reply = thinker.respond(asked, options, tools=[weather], tool_choice="required").reply()
        (call,) = reply.tool_calls
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "Paris"})
        assert (bool(reply.reasoning), reply.text, reply.finish.reason) == (thinks, "", "tool_calls")


def test_a_thought_cut_by_the_token_limit_is_kept_and_no_answer_is_made_of_it(thinker: filbert.Model) -> None:
    reply = thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=4)).reply()
    assert (reply.finish.reason, reply.text) == ("length", "")
    assert reply.reasoning and reply.usage.reasoning_tokens == reply.usage.completion_tokens == 4


def test_a_thought_that_is_stopped_was_heard_as_far_as_it_went(thinker: filbert.Model) -> None:
    answer = thinker.respond(QUESTION, Sampling(temperature=0, max_tokens=100))
    for chunk in answer:
        if chunk.reasoning:
            answer.cancel()
    so_far = answer.so_far()
    assert so_far.finish.reason == "cancelled" and so_far.reasoning
    assert so_far.usage.reasoning_tokens >= 1


def test_a_session_keeps_the_thought_beside_the_answer_and_leaves_it_out_of_the_next_turn(
    thinker: filbert.Model,
) -> None:
    session = thinker.chat(temperature=0, max_tokens=100)
    session.send("Is a whale a fish?").reply()
    thought = session.messages[-1].reasoning
    assert thought and thought not in session.messages[-1].text
    assert thought not in json.dumps(shown([*session.messages, Message("user", "Sure?")]))


def test_a_text_without_a_template_is_untouched(thinker: filbert.Model) -> None:
    reply = thinker.complete("<think>", Sampling(temperature=0, max_tokens=3, think="high")).reply()
    assert reply.text and not reply.reasoning


# Random weights: plumbing only


@pytest.mark.parametrize("family", MARKS)
def test_the_thought_of_every_family_is_told_apart(families: dict[str, filbert.Model], family: str) -> None:
    opens, closes = MARKS[family]
    told = json.dumps(f"{opens}I see.{closes}Yes.")
    reply = families[family].respond(QUESTION, Sampling(think="on", grammar=f"root ::= {told}", max_tokens=150)).reply()
    assert (reply.reasoning.strip(), reply.text) == ("I see.", "Yes.")
    assert 6 <= reply.usage.reasoning_tokens <= reply.usage.completion_tokens - len("Yes.")


@pytest.mark.parametrize("family", MARKS)
def test_off_leaves_the_thought_out_of_the_prompt(families: dict[str, filbert.Model], family: str) -> None:
    model = families[family]
    assert rendered(model, Sampling(think="off")).endswith(NO_THOUGHT[family])
    on = rendered(model, Sampling(think="on"))
    assert on != rendered(model, Sampling(think="off")) and not on.endswith("</think>")
    assert model.prepare_chat(QUESTION, Sampling(think="off")).body["reasoning_budget_tokens"] == 0


def test_a_family_that_always_thinks_is_told_to_think_little(families: dict[str, filbert.Model]) -> None:
    model = families["gpt-oss"]
    for think, told in (("off", "low"), ("low", "low"), ("medium", "medium"), ("high", "high")):
        assert f"Reasoning: {told}" in rendered(model, Sampling.model_validate({"think": think}))


def test_effort_bounds_the_thought_where_a_template_knows_no_levels(families: dict[str, filbert.Model]) -> None:
    bodies = [
        families["qwen3"].prepare_chat(QUESTION, Sampling.model_validate({"think": think})).body
        for think in ("low", "medium", "high", "on", "off")
    ]
    assert [body.get("reasoning_budget_tokens") for body in bodies] == [512, 2048, None, None, 0]


def test_a_budget_ends_a_thought_and_the_schema_holds_what_comes_after(families: dict[str, filbert.Model]) -> None:
    prepared = families["deepseek-r1"].prepare_chat(QUESTION, Sampling(think="low", json_schema=SCHEMA, seed=1))
    prepared = replace(prepared, body={**prepared.body, "reasoning_budget_tokens": 5})
    reply = families["deepseek-r1"]._generate(prepared).reply()
    assert 1 <= reply.usage.reasoning_tokens <= 8  # half a character is told with its other half
    assert isinstance(json.loads(reply.text)["fish"], bool)


MARK_TOKENS = {
    "qwen3": ["<think>", "</think>"],
    "gpt-oss": ["<|channel|>", "analysis", "<|message|>", "<|end|>", "<|start|>", "<|return|>", "<|call|>"],
}
LIKELY = ("<think>", "<|channel|>", "analysis", "<|message|>")


@pytest.mark.parametrize("family", MARK_TOKENS)
def test_a_budget_ends_a_thought_that_the_model_begins_itself(tmp_path: Path, family: str) -> None:
    """Of none, as `off` asks for, the thought is empty; marks are a token each here, as they are in real models."""
    opens, closes = MARKS[family]
    rule = f"root ::= {json.dumps(opens)} [a-z]* {json.dumps(closes + 'Yes.')}"
    template = (TEMPLATES / f"{family}.jinja").read_text("utf-8")
    path = make_tiny.dense(tmp_path / "tiny.gguf", template=template, marks=MARK_TOKENS[family])
    with filbert.load(str(path), context=1024, speculation="off") as model:
        bias = [[model.tokenize(mark)[0], 30] for mark in MARK_TOKENS[family] if mark in LIKELY]
        asked = model.prepare_chat(QUESTION, Sampling(think="on", grammar=rule, seed=3, max_tokens=60))
        lengths = []
        for budget in (-1, 4, 0):
            body = {**asked.body, "reasoning_budget_tokens": budget, "logit_bias": bias}
            reply = model._generate(replace(asked, body=body)).reply()
            lengths.append(len(model.tokenize(reply.reasoning)))
            assert reply.text == "Yes." or budget == -1
        assert lengths[0] >= lengths[1] > lengths[2] == 0


@pytest.mark.parametrize("thought", ["So.", "1 < 2 </ thin </thin", "ü 🌰", "a\n\nb"])
def test_marks_are_found_wherever_tokens_split_them(families: dict[str, filbert.Model], thought: str) -> None:
    """Nearly each byte is a token to this model."""
    told = json.dumps(f"<think>{thought}</think>Yes <b>.", ensure_ascii=False)
    answer = families["qwen3"].respond(QUESTION, Sampling(think="on", grammar=f"root ::= {told}", max_tokens=100))
    chunks = list(answer)
    assert (answer.reply().reasoning.strip(), answer.reply().text) == (thought, "Yes <b>.")
    assert not any("think>" in chunk.reasoning + chunk.text for chunk in chunks)


@pytest.mark.parametrize("family", ["qwen3", "deepseek-r1", "granite3.3", "smollm3"])
def test_a_grammar_holds_the_answer_of_a_model_that_would_think_first(
    families: dict[str, filbert.Model], family: str
) -> None:
    reply = families[family].respond(QUESTION, Sampling(grammar='root ::= "No."')).reply()
    assert (reply.reasoning, reply.text.strip()) == ("", "No.")


def test_a_grammar_that_a_model_s_own_marks_would_break_is_refused(families: dict[str, filbert.Model]) -> None:
    with pytest.raises(BadInput, match=r"cannot hold to a grammar.*JSON schema"):
        families["gpt-oss"].respond(QUESTION, Sampling(grammar='root ::= "No."'))


@pytest.mark.parametrize("family", ["qwen3", "gpt-oss"])
def test_calls_of_the_turn_under_way_keep_the_thought_that_led_to_them(
    families: dict[str, filbert.Model], family: str
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    loop = [
        Message("assistant", reasoning="I need f.", tool_calls=(call,)),
        Message("tool", "7", tool_call_id="1", name="f"),
    ]
    model = families[family]

    def prompt(messages: list[Message]) -> str:
        (event,) = model.children.send("text", "/apply-template", model.prepare_chat(messages, Sampling()).body)
        return str(event["prompt"])

    assert "I need f." in prompt([*QUESTION, *loop])
    assert "I need f." not in prompt([*QUESTION, *loop, Message("assistant", "7"), *QUESTION])


def test_a_model_that_knows_no_thought_refuses_a_wish_and_takes_off(tiny_model: filbert.Model) -> None:
    for think in ("on", "low", "medium", "high"):
        with pytest.raises(BadInput, match=r"cannot think before it answers\. Its chat template knows no thought\."):
            tiny_model.respond(QUESTION, Sampling(think=think))
    assert tiny_model.respond(QUESTION, Sampling(think="off", max_tokens=1)).reply().usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("template", "thinks", "levels"),
    [
        (make_tiny.CHATML, False, False),
        ("", False, False),
        ("{% if enable_thinking %}", True, False),
        ("{{ '<think>' }}", True, False),
        ("<|channel|>analysis {{ reasoning_effort }}", True, True),
        ("{{ '[THINK]' }}", True, False),
    ],
)
def test_what_a_template_knows_of_thought(template: str, thinks: bool, levels: bool) -> None:
    found = thinking_of(template)
    assert (found is not None, bool(found and found.levels)) == (thinks, levels)


@pytest.mark.parametrize(("given", "kept"), [(True, "on"), (False, "off"), ("medium", "medium")])
def test_think_is_spelled_as_people_spell_it(given: object, kept: str) -> None:
    assert Sampling(think=given).think == kept  # type: ignore[arg-type]
