"""A conversation as the text that a model is shown."""

from __future__ import annotations

from collections.abc import Sequence

from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.model import Model
from filbert.engine.sampling import Sampling
from filbert.engine.thinking import think_fields
from filbert.engine.tools import NO_TOOLS


def chat_prompt(model: Model, messages: Sequence[Message]) -> str:
    """By the model's chat template, up to where its answer begins, which is without a thought where it can be. Raises
    BadInput for a model that has no template."""
    model.need("text")
    if not model.chat_template:
        raise BadInput(f"{model.name} has no chat template.", do="Leave --chat-template out, or give it a preset's.")
    can_leave_out = model.thinking is not None and not model.thinking.always
    sampling = configured(Sampling, {"think": "off"} if can_leave_out else {})
    body = NO_TOOLS.body(model.conversation(messages), model.chat_template)
    body |= think_fields(model.name, model.thinking, sampling)
    (event,) = model.children.send("text", "/apply-template", body)
    return str(event["prompt"])
