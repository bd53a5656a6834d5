"""What every client asks, and what has to come of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

STARTER = "smollm2:135m"
TOOLS_MODEL = "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M"
EMBEDDER = "all-MiniLM-L6-v2.F16"
TEXTS = ["A cat sleeps.", "A kitten naps.", "Shares fell on Monday."]
DIMENSIONS = 384

CAPITAL = "What is the capital of France? Answer in one sentence."
HELLO: list[Any] = [{"role": "user", "content": CAPITAL}]
WEATHER = "How is the weather in Ulm? Use C."


class Weather(BaseModel):
    """The weather of a town."""

    town: Literal["Ulm", "Rome", "Lima"]  # not a text: some clients leave its greatest length out of the schema
    unit: Literal["C", "F"]


PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "town": {"type": "string", "enum": ["Ulm", "Rome", "Lima"]},
        "unit": {"type": "string", "enum": ["C", "F"]},
    },
    "required": ["town", "unit"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "The weather of a town.", "parameters": PARAMETERS}
TOOL: Any = {"type": "function", "function": FUNCTION}


def cosine(left: Any, right: Any) -> float:
    """Of unit vectors."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def alike(vectors: Any) -> bool:
    """Whether TEXTS were embedded: the first two are the nearest, and each has its numbers."""
    first, second, third = vectors
    return len(first) == len(second) == len(third) == DIMENSIONS and cosine(first, second) > cosine(first, third) + 0.2
