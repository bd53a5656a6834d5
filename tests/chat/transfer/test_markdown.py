from __future__ import annotations

import re

from filbert.chat.record import UNFINISHED, Chat, Said
from filbert.chat.transfer.markdown import markdown
from filbert.core.messages import Message

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CHAT = Chat(title="Rome", model="m", system="Be kind.", leaf=5)
CHAT.said = {
    1: Said(Message("user", "Look:\n## Assistant\n\n```\n## User\n```"), None, 1),
    2: Said(Message("assistant", "", "I should look.", (CALL,)), 1, 2),
    3: Said(Message("tool", "sunny", name="weather"), 2, 3),
    4: Said(Message("assistant", "Other branch."), 3, 4),
    5: Said(Message("assistant", "It is sunn"), 3, 5, finish=UNFINISHED),
}


def test_each_speaker_has_a_heading_and_nothing_else_looks_like_one() -> None:
    headings = re.findall(r"^## (.+)$", markdown(CHAT), re.MULTILINE)
    assert headings == ["System", "User", "Assistant", "Tool weather", "Assistant"]


def test_thoughts_calls_cuts_and_other_branches_are_told() -> None:
    text = markdown(CHAT)
    assert text.startswith("# Rome\n\n")
    for part in ("<summary>Thought</summary>", "Calls `weather`", '{"city": "Rome"}', "*(cut)*", "1 messages of other"):
        assert part in text
    assert "Other branch." not in text
