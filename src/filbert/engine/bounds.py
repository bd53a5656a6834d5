"""How many tokens a text has at most and at least, without counting them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from filbert.core.errors import BadInput, ContextOverflow

LONGEST_TOKEN = 256  # bytes: vocabularies hold runs of 128 blanks or dashes, and nothing longer is known
MESSAGE_OVERHEAD = 64  # tokens a chat template may put around one message, generously
TEMPLATE_OVERHEAD = 256  # and at the head of them all: a date, an identity
Input = str | Sequence[int]  # a text, or its tokens
AnyText = TypeVar("AnyText", bound=Input)
UNBOUNDED = 1 << 40  # an image has as many tokens as its projector likes


def text_bound(text: str) -> int:
    """A token has one byte at least, and one may be put before the first. Raises BadInput for what is no text."""
    if not isinstance(text, str):
        raise BadInput(f"A text is wanted, not {type(text).__name__}.", do="Give it as a string.")
    try:
        return len(text.encode()) + 1
    except UnicodeEncodeError as exc:
        raise BadInput("The text holds half a character (a lone surrogate).", do="Decode it as UTF-8.") from exc


def input_bound(text: Input) -> int:
    """Of a text, or of its tokens, which are as many as they are. Raises BadInput for what is neither."""
    return len(text) if isinstance(text, list | tuple) else text_bound(text)  # type: ignore[arg-type]


def listed(texts: Iterable[AnyText]) -> list[AnyText]:
    """The texts, also out of what gives them only once. Raises BadInput for what is no list of them."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise BadInput(f"A list of texts is wanted, not {type(texts).__name__}.", do="Write [text].")
    return list(texts)


def conversation_bound(messages: Sequence[Mapping[str, Any]], template: str) -> int:
    own_words = max(TEMPLATE_OVERHEAD, len(template.encode()))  # some bring pages of them
    return own_words + sum(map(_message_bound, messages))


def _message_bound(message: Mapping[str, Any]) -> int:
    if any(part.get("type") != "text" for part in _parts(message)):
        return UNBOUNDED
    return text_bound(json.dumps(message, ensure_ascii=False)) + MESSAGE_OVERHEAD


def need_context(text_bytes: int, context: int, trained: int | None = None) -> None:
    """Raises ContextOverflow for more bytes than the context can hold as tokens. The engine is not asked to count
    them: it fails on hundreds of megabytes. trained: tokens the model was trained with."""
    if text_bytes > context * LONGEST_TOKEN:
        raise ContextOverflow(
            f"The text has {text_bytes} bytes, and {context} tokens of context hold {context * LONGEST_TOKEN} at most.",
            do=more_room(context, trained),
        )


def need_messages(n_messages: int, context: int, trained: int | None = None) -> None:
    """Raises ContextOverflow for more messages than tokens, of which each has some: rendering 100,000 takes minutes."""
    if n_messages > context:
        raise ContextOverflow(
            f"The conversation has {n_messages} messages, and the context holds {context} tokens.",
            do=more_room(context, trained),
        )


def more_room(context: int, trained: int | None) -> str:
    """What to do about a context that is full."""
    if trained and context >= trained:
        return "Shorten it, or choose another model: this one was trained for no more."
    return "Shorten it, or load the model with a larger --context."


def text_bytes(body: Mapping[str, Any]) -> int:
    """Of the prompt, or the messages and tools, of a request, without images."""
    if "prompt" in body:
        prompt = body["prompt"]
        return len(prompt.encode(errors="replace")) if isinstance(prompt, str) else len(prompt)
    parts = (part for message in body["messages"] for part in _parts(message))
    tools = len(json.dumps(body["tools"])) if body.get("tools") else 0
    return tools + sum(len(part.get("text", "").encode(errors="replace")) for part in parts)


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
