"""Where the engine's two routes spell a wish differently."""

from __future__ import annotations

from typing import Any

from filbert.engine.sampling import Sampling
from filbert.engine.schema import need_held_without_template
from filbert.engine.schema_integers import with_both_bounds


def spelled(sampling: Sampling, *, chat: bool) -> dict[str, Any]:
    """Fields of a body for /v1/chat/completions, or for /v1/completions."""
    fields: dict[str, Any] = {}
    if sampling.logprobs is not None:
        others = max(1, sampling.logprobs)  # asked for none, the engine leaves out the token's own as well
        fields |= {"logprobs": True, "top_logprobs": others} if chat else {"logprobs": others}
    if sampling.json_schema is not None:
        if not chat:
            need_held_without_template(sampling.json_schema)
        held = with_both_bounds(sampling.json_schema)
        schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": held}}
        fields |= {"response_format": schema} if chat else {"json_schema": sampling.json_schema}
    return fields
