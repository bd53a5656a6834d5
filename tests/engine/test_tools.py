"""Calls of tools on real models: one whose template knows no tools, and one that knows them and gets them wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import filbert
import make_tiny
from filbert import Message, Sampling, Tool
from filbert.core.errors import BadInput, ContextOverflow
from filbert.engine.tools import knows_tools, tool_use
from running import lasting

WEATHER = Tool(
    "weather",
    "The weather of a town.",
    {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
        "required": ["town", "unit"],
    },
)
TIME = Tool("time", "The time now.")
NESTED = Tool(
    "größe/öß \"x\" 'y' \\",
    "Adresse ändern",
    {
        "type": "object",
        "properties": {
            "straße": {
                "type": "object",
                "properties": {"nr": {"type": "integer"}, "art": {"enum": ["gut", "schön", "東京"]}},
                "required": ["nr", "art"],
            },
            "list": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
            "maybe": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
        },
        "required": ["straße", "list", "maybe"],
    },
)
REFERRING = Tool(
    "move",
    "Move a piece from one square to another.",
    {
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/Square"}, "to": {"$ref": "#/$defs/Square"}, "$ref": {"const": 1}},
        "required": ["from", "to"],
        "$defs": {
            "Square": {"type": "object", "properties": {"file": {"$ref": "#/$defs/File"}}, "required": ["file"]},
            "File": {"enum": ["a", "b", "c"]},
        },
    },
)
ASKED = [Message("user", "How is the weather in Ulm? Use C.")]
STEADY = Sampling.model_validate({"temperature": 0, "max_tokens": 300})


def only_call(reply: filbert.Reply, *tools: Tool) -> tuple[str, Any]:
    """Name and arguments of the one call, checked against the schema of its tool."""
    (call,) = reply.tool_calls
    assert reply.finish.reason == "tool_calls"
    assert call["id"].startswith("call_") and call["type"] == "function"
    (tool,) = [tool for tool in tools if tool.name == call["function"]["name"]]
    arguments = json.loads(call["function"]["arguments"])
    jsonschema.validate(arguments, dict(tool.parameters))
    return tool.name, arguments


@pytest.fixture(scope="session")
def tools_model(tools_model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    with lasting(tools_model_file, tmp_path_factory.mktemp("home"), context=2048) as model:
        yield model


@pytest.mark.slow
@pytest.mark.parametrize("tool", [WEATHER, TIME, NESTED, REFERRING], ids=lambda tool: tool.name[:5])
def test_required_gives_one_call_that_holds_to_its_schema(model: filbert.Model, tool: Tool) -> None:
    reply = model.respond(ASKED, STEADY, [tool], "required").reply()
    assert only_call(reply, tool)[0] == tool.name
    assert reply.text == ""
    assert 0 < reply.usage.completion_tokens < 300


@pytest.mark.slow
@pytest.mark.parametrize("tool", [WEATHER, TIME, NESTED, REFERRING], ids=lambda tool: tool.name[:5])
def test_required_holds_where_the_engine_alone_fails_on_a_template_with_tools(
    tools_model: filbert.Model, tool: Tool
) -> None:
    reply = tools_model.respond(ASKED, STEADY, [tool], "required").reply()
    assert only_call(reply, tool)[0] == tool.name


@pytest.mark.slow
def test_a_number_holds_to_its_bounds_where_a_template_shows_the_tools(tools_model: filbert.Model) -> None:
    bounded = {"type": "number", "minimum": 100, "maximum": 100.5}
    tool = Tool("heat", "Heat to a temperature.", {"type": "object", "properties": {"to": bounded}, "required": ["to"]})
    only_call(tools_model.respond(ASKED, STEADY, [tool], "required").reply(), tool)


@pytest.mark.slow
def test_auto_reads_the_json_that_this_model_writes_instead_of_its_templates_calls(tools_model: filbert.Model) -> None:
    reply = tools_model.respond(ASKED, STEADY, [WEATHER]).reply()
    assert only_call(reply, WEATHER) == ("weather", {"town": "Ulm", "unit": "C"})
    assert reply.usage.prompt_tokens == tools_model.count_tokens(ASKED, tool_use([WEATHER]))


def test_a_tool_that_is_named_is_called_and_no_other(model: filbert.Model) -> None:
    reply = model.respond(ASKED, STEADY, [WEATHER, TIME], "time").reply()
    assert only_call(reply, TIME) == ("time", {})


@pytest.mark.slow
def test_one_of_sixty_four_tools_is_called(model: filbert.Model) -> None:
    told = [Tool(f"t{i}", "", {"properties": {f"p{i}": {"enum": [i]}}, "required": [f"p{i}"]}) for i in range(4)]
    tools = [*told, *(Tool(f"t{i}") for i in range(4, 64))]
    asked = [Message("user", "Call t2.")]
    reply = model.respond(asked, STEADY, tools, "required").reply()
    only_call(reply, *tools)
    assert reply.usage.prompt_tokens == model.count_tokens(asked, tool_use(tools, "required"))


@pytest.mark.slow
def test_parallel_calls_may_be_several_and_each_holds(model: filbert.Model) -> None:
    seeded = Sampling.model_validate({"temperature": 0, "max_tokens": 900})
    reply = model.respond(ASKED, seeded, [WEATHER], "required", parallel_tool_calls=True).reply()
    assert reply.finish.reason == "tool_calls"
    assert 1 <= len(reply.tool_calls) <= 8
    assert len({call["id"] for call in reply.tool_calls}) == len(reply.tool_calls)
    for call in reply.tool_calls:
        jsonschema.validate(json.loads(call["function"]["arguments"]), dict(WEATHER.parameters))


def test_a_call_streams_its_name_first_and_its_arguments_as_they_grow(model: filbert.Model) -> None:
    chunks = [chunk for chunk in model.respond(ASKED, STEADY, [WEATHER], "required") if chunk.tool_calls]
    first, *rest = [piece for chunk in chunks for piece in chunk.tool_calls]
    assert (first["function"]["name"], first["index"]) == ("weather", 0)
    assert len(rest) > 3 and not any("name" in piece["function"] for piece in rest)
    assert json.loads("".join(piece["function"]["arguments"] for piece in (first, *rest))).keys() == {"town", "unit"}


@pytest.mark.slow
def test_no_tools_are_shown_where_none_may_be_called(model: filbert.Model) -> None:
    bare = model.respond(ASKED, STEADY).reply()
    none = model.respond(ASKED, STEADY, [WEATHER], "none").reply()
    assert (none.text, none.usage.prompt_tokens) == (bare.text, bare.usage.prompt_tokens)


def test_a_prompt_with_tools_is_counted_with_them(model: filbert.Model) -> None:
    use = tool_use([WEATHER, TIME])
    reply = model.respond(ASKED, STEADY.model_copy(update={"max_tokens": 1}), use.tools).reply()
    assert reply.usage.prompt_tokens == model.count_tokens(ASKED, use) > model.count_tokens(ASKED) + 50
    assert model.prompt_bound(ASKED, use) >= model.count_tokens(ASKED, use)


def test_tools_that_fill_the_context_overflow_it(model: filbert.Model) -> None:
    many = [Tool(f"tool{i}", "What it does is described at length. " * 8) for i in range(64)]
    with pytest.raises(ContextOverflow, match="2048"):
        model.respond(ASKED, STEADY, many).reply()


def test_an_answer_that_must_call_leaves_out_stop_texts_and_logprobs(model: filbert.Model) -> None:
    wish = STEADY.model_copy(update={"stop": ("{", "}"), "logprobs": 2})
    reply = model.respond(ASKED, wish, [WEATHER], "required").reply()
    only_call(reply, WEATHER)
    assert reply.logprobs == ()


def test_text_keeps_its_logprobs_where_a_tool_might_have_been_called(model: filbert.Model) -> None:
    wish = Sampling.model_validate({"temperature": 0, "max_tokens": 12, "logprobs": 1})
    reply = model.respond([Message("user", "What is the capital of France?")], wish, [WEATHER]).reply()
    assert "".join(token.token for token in reply.logprobs) == reply.text != ""


@pytest.mark.slow
def test_a_seed_gives_the_same_arguments_again(model: filbert.Model) -> None:
    wish = Sampling.model_validate({"temperature": 1.2, "seed": 5, "max_tokens": 200})

    def arguments() -> str:
        (call,) = model.respond(ASKED, wish, [WEATHER], "required").reply().tool_calls
        said: str = call["function"]["arguments"]
        return said

    arguments()  # what is remembered of a prompt is computed otherwise
    assert arguments() == arguments()


def test_a_call_that_is_cut_says_so_and_is_no_call(model: filbert.Model) -> None:
    reply = model.respond(ASKED, Sampling.model_validate({"max_tokens": 14}), [WEATHER], "required").reply()
    assert reply.finish.reason == "length"


def test_a_schema_of_the_answer_gives_way_to_a_call_that_must_be(model: filbert.Model) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    wish = STEADY.model_copy(update={"json_schema": schema})
    only_call(model.respond(ASKED, wish, [WEATHER], "required").reply(), WEATHER)


@pytest.mark.slow
def test_a_schema_and_tools_give_a_call_or_what_holds_to_the_schema(model: filbert.Model) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/one"}},
        "required": ["a"],
        "$defs": {"one": {"const": 1}},
    }
    wish = STEADY.model_copy(update={"json_schema": schema})
    for seed in range(2):
        free = wish.model_copy(update={"temperature": 2.0, "seed": seed})
        reply = model.respond(ASKED, free, [WEATHER]).reply()
        if reply.tool_calls:
            only_call(reply, WEATHER)
        else:
            jsonschema.validate(json.loads(reply.text), schema)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: tool_use([WEATHER], "rain"), "tool_choice names rain, which is none"),
        (lambda: tool_use([], "required"), "there is none"),
        (lambda: tool_use([WEATHER, WEATHER]), "same name"),
        (lambda: tool_use([Tool(f"t{i}") for i in range(129)]), "128 may be given"),
        (lambda: tool_use([Tool(f"t{i}", "x" * 30_000) for i in range(9)]), "bytes together"),
        (lambda: Tool(""), "1 to 256 characters"),
        (lambda: Tool("x", "\ud800"), "half a character"),
        (lambda: Tool("x", "", {"type": "string"}), "describe an object"),
        (lambda: Tool("x", "", {"properties": {"a": {"type": "strin"}}}), "unknown"),
        (
            lambda: Tool("x", "", {"properties": {"a": {"$ref": "#/$defs/b"}}}),
            "leads nowhere.*JSON schema of an object",
        ),
        (lambda: Tool("x", "", {"properties": {"a": {"pattern": "(?=x)"}}}), "cannot be held to"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_a_tool_is_refused_in_a_sentence(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        ask()


def test_a_grammar_of_ones_own_and_tools_are_refused(model: filbert.Model) -> None:
    with pytest.raises(BadInput, match="grammar and call tools"):
        model.respond(ASKED, Sampling.model_validate({"grammar": 'root ::= "x"'}), [WEATHER])


def test_calls_and_results_are_text_for_a_template_that_knows_none(model: filbert.Model) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
    talk = [*ASKED, Message("assistant", tool_calls=(call,)), Message("tool", "Hail.", tool_call_id="1")]
    body = tool_use([WEATHER]).body(talk, model.chat_template)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == '{"name": "weather", "arguments": {"town": "Ulm"}}'
    assert body["messages"][3]["content"] == "The result of weather:\nHail."
    assert "tools" not in body and not any("tool_calls" in message for message in body["messages"])
    bare = tool_use([]).body([Message("system", "Be kind."), *talk], model.chat_template)
    assert [message["role"] for message in bare["messages"]] == ["system", "user"]
    assert bare["messages"][1]["content"].endswith("\n\nThe result of weather:\nHail.")
    assert model.count_tokens(talk) == model.count_tokens([Message("user", bare["messages"][1]["content"])])


def test_a_template_knows_tools_when_it_uses_them() -> None:
    assert knows_tools("{% if tools %}{{ tools | tojson }}{% endif %}")
    assert knows_tools("{%- for tool in tools -%}{%- endfor -%}")
    assert not knows_tools("{{ 'tools' }} tools {{ message.tools }}")
    assert not knows_tools("")


def test_a_template_that_knows_tools_shows_them_itself(tmp_path: Path) -> None:
    with filbert.load(str(tools_template(tmp_path)), context=512) as tiny:
        body = tool_use([TIME]).body(ASKED, tiny.chat_template)
        assert (body["tool_choice"], len(body["messages"])) == ("auto", 1)
        only_call(tiny.respond(ASKED, STEADY, [TIME], "required").reply(), TIME)


def tools_template(folder: Path) -> Path:
    """A model of random weights whose template knows tools and reads the arguments of calls."""
    template = (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% for key, value in call.function.arguments.items() %}"
        "{{ key }}={{ value }}{% endfor %}{% endfor %}{% endfor %}"
    )
    make_tiny.write(folder / "t.gguf", make_tiny.dense_parts(template=template))
    return folder / "t.gguf"


def test_arguments_of_earlier_calls_are_read_or_refused_before_the_engine_fails_on_them(tmp_path: Path) -> None:
    def talk(arguments: str) -> list[Message]:
        call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
        return [*ASKED, Message("assistant", tool_calls=(call,)), Message("tool", "Hail.", tool_call_id="1")]

    wish = STEADY.model_copy(update={"max_tokens": 2})
    with filbert.load(str(tools_template(tmp_path)), context=512) as tiny:
        counts = [tiny.respond(talk(each), wish).reply().usage.prompt_tokens for each in ("", "{}", '{"town": "Ulm"}')]
        assert counts[0] == counts[1] < counts[2]
        with pytest.raises(BadInput, match="a call of weather are no JSON"):
            tiny.respond(talk("Ulm"), wish)
