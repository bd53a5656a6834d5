"""A chat as Markdown, to be read: the branch at which it stands, a heading for each speaker."""

from __future__ import annotations

import re
from collections.abc import Iterator

from filbert.chat.record import UNTITLED, Chat, Said

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
LIKE_A_SPEAKER = re.compile(rf"^(?=## (?:{'|'.join(SPEAKERS.values())})\b)", re.MULTILINE)


def markdown(chat: Chat) -> str:
    """Headings of level two are speakers, and nothing else is: a line of a message that looks like one is escaped."""
    path = chat.path(chat.leaf)
    parts = [f"# {chat.title or UNTITLED}", f"{chat.created:%Y-%m-%d %H:%M} UTC, {chat.model or 'no model'}"]
    if elsewhere := len(chat.said) - len(path):
        parts.append(f"{elsewhere} messages of other branches are left out; JSON has them.")
    if chat.system:
        parts += ["## System", _escaped(chat.system)]
    parts += [part for said in path for part in _described(said)]
    return "\n\n".join(parts) + "\n"


def _described(said: Said) -> Iterator[str]:
    message = said.message
    yield f"## {SPEAKERS[message.role]}" + (f" {message.name}" if message.name else "")
    if message.reasoning:
        yield f"<details><summary>Thought</summary>\n\n{_escaped(message.reasoning)}\n\n</details>"
    if text := message.text:
        yield _escaped(text)
    if isinstance(message.content, tuple):
        yield from ("*(an image)*" for part in message.content if part.get("type") == "image_url")
    for call in message.tool_calls:
        asked = call.get("function") or {}
        yield f"Calls `{asked.get('name', '')}`:\n\n```json\n{asked.get('arguments', '')}\n```"
    if said.was_cut:
        yield "*(cut)*"


def _escaped(text: str) -> str:
    return LIKE_A_SPEAKER.sub(r"\\", text.strip())
