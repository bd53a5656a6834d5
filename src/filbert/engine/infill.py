"""Text between what stands before it and what comes after: models that were trained for it have marks of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filbert.core.errors import BadInput
from filbert.models.gguf import Header

if TYPE_CHECKING:
    from filbert.engine.model import Model

# What stands before the text before, before the text after, and before the answer. Families, the commonest first.
MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, Granite, Gemma's code models
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SmolLM's code models
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),  # DeepSeek
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)


def infill_marks(header: Header) -> tuple[str, str, str] | None:
    """The marks of the first family that are all in the vocabulary; None for a model that knows none."""
    if "tokenizer.ggml.tokens" not in header.metadata:
        return None
    tokens = header.load("tokenizer.ggml.tokens")
    known = set(tokens) if isinstance(tokens, tuple) else set()
    return next((marks for marks in MARKS if known.issuperset(marks)), None)


def infill_prompt(model: Model, prefix: str, suffix: str) -> str:
    """What a model goes on from to write what stands between. Raises BadInput for one that has no marks."""
    marks = infill_marks(model.header)
    if marks is None:
        raise BadInput(
            f"{model.name} does not fill in what is missing in a text.",
            why="Its vocabulary has no marks for it.",
            do="Leave suffix out, or take a model for code.",
        )
    before, after, answer = marks
    return f"{before}{prefix}{after}{suffix}{answer}"
