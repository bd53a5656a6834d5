"""Texts as vectors, for the routes of all protocols."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastapi import Request

from filbert.core.errors import BadInput
from filbert.engine.bounds import LONGEST_TOKEN, Input, text_bound
from filbert.engine.pool import Loan
from filbert.server.lent import Lent
from filbert.server.measured import measured_of
from filbert.server.patience import patient
from filbert.server.response import owner_of, queue_of

TEXTS_AT_ONCE = 32  # what is asked of another server has bounds
MARKS_AROUND = 4  # tokens that a model may want before and after a text


async def embedded(loan: Loan[Lent], texts: Sequence[Input], request: Request) -> list[list[float]]:
    """A unit vector a text; the request is measured. Raises ContextOverflow, BadInput, Busy, and as `patient`."""
    vectors: list[list[float]] = []
    measured = measured_of(request.scope)
    measured.model = loan.model.name
    owner, queue = owner_of(request.scope), queue_of(request.scope)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = await patient(request, loan.model.embedding(texts[start : start + TEXTS_AT_ONCE], owner, queue))
        vectors += part.vectors
        measured.prompt_tokens += part.usage.prompt_tokens
    return vectors


def beginning(model: Lent, text: str) -> str:
    """As much of a text as the model takes at once."""
    most = model.pooled_context - MARKS_AROUND
    text = text[: most * LONGEST_TOKEN]  # more is not counted
    while text_bound(text) > most and (tokens := len(model.tokenize(text))) > most:
        text = text[: len(text) * most // tokens]
    return text


def shortened(vector: list[float], dimensions: int) -> list[float]:
    """The first numbers of a vector, a unit again: models trained for it (Matryoshka) keep most of the meaning there.
    Raises BadInput for more than there are."""
    if dimensions > len(vector):
        raise BadInput(f"The model's vectors have {len(vector)} numbers.", do="Ask for so many dimensions at most.")
    first = vector[:dimensions]
    length = math.hypot(*first) or 1.0
    return [value / length for value in first]
