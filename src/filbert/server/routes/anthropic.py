"""Anthropic's routes. /v1/models answers in their shape as well, where their clients ask; it stands in openai.py."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from filbert.engine.model import STREAMED, Prepared
from filbert.engine.tool_calls import reader
from filbert.server import openapi
from filbert.server.answers_anthropic import MessageAnswer, MessageEvent, TokenCount
from filbert.server.anthropic_shape import AnthropicShape
from filbert.server.bodies_anthropic import CountBody, MessagesBody
from filbert.server.error_bodies import AnthropicErrorBody
from filbert.server.fetched_images import with_images
from filbert.server.json_route import JsonRoute, lent
from filbert.server.patience import patient
from filbert.server.response import Gathered, StreamedWithProgress

router = APIRouter(
    tags=[openapi.ANTHROPIC],
    route_class=JsonRoute,
    responses=openapi.refused(AnthropicErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
STREAM = openapi.streamed("text/event-stream", MessageEvent, "A message, or with `stream` its events.")


@router.post("/v1/messages", response_model=MessageAnswer, responses=STREAM)
async def create_message(body: MessagesBody, request: Request) -> Response:
    """Answer a conversation, as Anthropic's API does."""
    use, body = body.tool_use(), await with_images(body, request)
    loan = await lent(request, body.model)

    def prepare() -> Prepared:
        prepared = loan.model.prepare_chat(body.conversation(), body.sampling_for(loan.model), use)
        return replace(prepared, body={**prepared.body, **STREAMED, **body.engine_fields(loan.model)})

    shape = AnthropicShape(reader(use), body.shows_thought)
    return (StreamedWithProgress if body.stream else Gathered)(loan, prepare, shape)


@router.post("/v1/messages/count_tokens")
async def count_tokens(body: CountBody, request: Request) -> TokenCount:
    """Prompt tokens of a conversation as it would be asked."""
    use, body = body.tool_use(), await with_images(body, request)
    with await lent(request, body.model) as loan:
        loan.model.need("text")
        counting = loan.model.waited(
            lambda: loan.model.count_tokens(body.conversation(), use, body.sampling_for(loan.model))
        )
        counted = await patient(request, counting)
    return {"input_tokens": counted}
