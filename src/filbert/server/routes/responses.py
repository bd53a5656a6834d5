"""OpenAI's /v1/responses: answers that are kept, and gone on from."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from filbert.core.errors import BadInput, FilbertError, UnknownPreviousResponse, UnknownResponse
from filbert.core.log import log
from filbert.engine.model import STREAMED, Prepared
from filbert.engine.tool_calls import reader
from filbert.server import openapi
from filbert.server.answers_responses import DeletedResponse, InputItems, ResponseDocument, ResponseEvent
from filbert.server.bodies_responses import ResponsesBody
from filbert.server.error_bodies import ErrorBody
from filbert.server.fetched_images import with_images
from filbert.server.json_route import JsonRoute, lent
from filbert.server.response import Gathered, StreamedWithProgress, owner_of
from filbert.server.response_items import ITEMS, Item, conversation
from filbert.server.response_store import ResponseStore
from filbert.server.responses_shape import Document, ResponsesShape
from filbert.server.truncation import truncated

router = APIRouter(
    tags=[openapi.RESPONSES],
    route_class=JsonRoute,
    responses=openapi.refused(ErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
STREAM = openapi.streamed("text/event-stream", ResponseEvent, "A response, or with `stream` its events.")


class GatheredAndKept(Gathered):
    """A response that tells whether it can be read again has to be kept before it is sent."""

    _shape: ResponsesShape

    async def _finished(self, document: Document) -> Document:
        return await self._shape.kept(document)


@router.post("/v1/responses", response_model=ResponseDocument, responses=STREAM)
async def create_response(body: ResponsesBody, request: Request) -> Response:
    """Answer a conversation, or go on with one that was kept."""
    use, before = body.tool_use(), await asyncio.to_thread(_before, body, request)
    body = await with_images(body, request)
    items = [*before, *body.items]
    if not items:
        raise BadInput("No item says anything.", do="Send input.")
    loan = await lent(request, body.model)

    def prepare() -> Prepared:
        model = loan.model
        model.need("text")
        messages, sampling = conversation(body.instructions, items), body.sampling_for(model.thinking is not None)
        if body.truncation == "auto":
            messages = truncated(model, messages, sampling, use)
        prepared = model.prepare_chat(messages, sampling, use)
        return replace(prepared, body={**prepared.body, **STREAMED})

    async def keep(document: Document) -> bool:
        return body.store and await asyncio.to_thread(_kept, request, document, items)

    shape = ResponsesShape(body.told_again(), reader(use), keep)
    return StreamedWithProgress(loan, prepare, shape) if body.stream else GatheredAndKept(loan, prepare, shape)


@router.get("/v1/responses/{response_id}", response_model=ResponseDocument)
async def get_response(response_id: str, request: Request, stream: bool = False) -> Document:
    """A response that was kept."""
    if stream:
        raise BadInput("A response that was kept is told as a whole.", do="Leave out stream.")
    found: Document = (await asyncio.to_thread(_found, request, response_id))["response"]
    return found


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, request: Request) -> DeletedResponse:
    """Forget a response. Those that went on from it stay."""
    if not await asyncio.to_thread(_store(request).delete, owner_of(request.scope), response_id):
        raise _unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/v1/responses/{response_id}/input_items", response_model=InputItems)
async def list_input_items(
    response_id: str,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str = "",
) -> dict[str, Any]:
    """What a response answers to: the items of all turns before it, and of its own request."""
    items = (await asyncio.to_thread(_found, request, response_id))["input"]
    ordered = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    if after and after not in ids:
        raise BadInput(f"There is no item {after[:80]!r} in this response.", do="Give after the id of one.")
    begin = ids.index(after) + 1 if after else 0
    page = ordered[begin : begin + limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": begin + limit < len(ordered), **ends}


@router.post("/v1/responses/{response_id}/cancel", status_code=400, response_model=ErrorBody)
async def cancel_response(response_id: str, request: Request) -> None:
    """Always refused: only responses in the background can be cancelled, and there are none."""
    await asyncio.to_thread(_found, request, response_id)
    raise BadInput("Only a response in the background can be cancelled.", do="Close the connection of one under way.")


def _before(body: ResponsesBody, request: Request) -> list[Item]:
    """The conversation that a request goes on with. Raises UnknownPreviousResponse."""
    if not body.previous_response_id:
        return []
    try:
        found = _found(request, body.previous_response_id)
    except UnknownResponse as exc:
        raise UnknownPreviousResponse(exc.what, why=exc.why, do=exc.do) from exc
    return ITEMS.validate_python([*found["input"], *found["response"]["output"]])


def _found(request: Request, id: str) -> dict[str, Any]:
    """What was kept of a response: itself, and its input. Raises UnknownResponse."""
    found = _store(request).get(owner_of(request.scope), id)
    if found is None:
        raise _unknown(id)
    read: dict[str, Any] = json.loads(found)
    return read


def _unknown(id: str) -> UnknownResponse:
    why = "It was never kept, or not for so long."
    return UnknownResponse(f"There is no response {id[:80]!r}.", why=why, do="Ask again, without it.")


def _kept(request: Request, document: Document, items: list[Item]) -> bool:
    """An answer that cannot be kept is an answer all the same."""
    told = {"response": {**document, "store": True}, "input": [item.model_dump() for item in items]}
    try:
        return _store(request).put(owner_of(request.scope), document["id"], json.dumps(told).encode())
    except FilbertError as exc:
        log.warning("%s", exc)
        return False


def _store(request: Request) -> ResponseStore:
    store: ResponseStore = request.app.state.responses
    return store
