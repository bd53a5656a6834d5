"""OpenAI's routes. Each request is rebuilt from our own schema; a stream's bytes go out as the worker wrote them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from filbert.core.conversation import Message
from filbert.core.errors import BadInput
from filbert.core.settings import configured
from filbert.engine.model import Model, Prepared, prompt_bound
from filbert.engine.sampling import Sampling
from filbert.models import store
from filbert.server.relayed import Gathered, Relayed

router = APIRouter()


class OpenAISampling(Sampling):
    """Sampling in OpenAI's spelling; what a client sends beyond it is ignored, as other servers do."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _in_our_spelling(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        body = {name: value for name, value in given.items() if value is not None}
        if "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if isinstance(body.get("stop"), str):
            body["stop"] = [body["stop"]]
        if isinstance(body.get("logprobs"), bool):
            body["logprobs"] = body.get("top_logprobs", 0) if body["logprobs"] else None
        if isinstance(body.get("response_format"), dict):
            body["json_schema"] = _schema(body["response_format"])
        return body

    def sampling(self) -> Sampling:
        fields = {name: getattr(self, name) for name in Sampling.model_fields if name in self.model_fields_set}
        return configured(Sampling, fields)


def _schema(wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        found = wanted.get("json_schema", {}).get("schema")
        if not isinstance(found, dict):
            raise ValueError("response_format.json_schema.schema is missing")
        return found
    return {"type": "object"} if kind == "json_object" else None


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str = ""
    tool_call_id: str = ""
    tool_calls: list[dict[str, Any]] = Field(default_factory=list)

    def message(self) -> Message:
        content = self.content or ""
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=content if isinstance(content, str) else "".join(_text(part) for part in content),
            name=self.name,
            tool_call_id=self.tool_call_id,
            tool_calls=tuple(self.tool_calls),
        )


def _text(part: Mapping[str, Any]) -> str:
    if part.get("type") != "text":
        raise BadInput(f"Parts of type {part.get('type')} are not understood.", do="Send text parts.")
    return str(part.get("text", ""))


class StreamOptions(BaseModel):
    include_usage: bool = False


class GenerationBody(OpenAISampling):
    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Literal[1] = 1


class ChatBody(GenerationBody):
    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None


class CompletionBody(GenerationBody):
    prompt: str


class EmbeddingsBody(BaseModel):
    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"


@router.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/v1/models")
async def models() -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "filbert"}
            for model in store.list_models()
        ],
    }


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatBody, request: Request) -> Response:
    model: Model = await request.app.state.loaded.get(body.model)
    messages = [message.message() for message in body.messages]
    rest: dict[str, Any] = {"messages": [message.to_json() for message in messages]}
    if body.tools:
        rest |= {"tools": body.tools} | ({"tool_choice": body.tool_choice} if body.tool_choice else {})
    size = prompt_bound(messages) + len(json.dumps(body.tools))
    return await _generate(model, "/v1/chat/completions", rest, body, size)


@router.post("/v1/completions")
async def completions(body: CompletionBody, request: Request) -> Response:
    model: Model = await request.app.state.loaded.get(body.model)
    return await _generate(model, "/v1/completions", {"prompt": body.prompt}, body, len(body.prompt.encode()) + 1)


async def _generate(model: Model, route: str, rest: dict[str, Any], body: GenerationBody, size: int) -> Response:
    """The worker always streams; a client that did not ask for a stream gets the whole."""
    usage = body.stream_options.include_usage or not body.stream
    wanted = {**rest, "stream": True, "stream_options": {"include_usage": usage}}
    prepared = await asyncio.to_thread(model.prepare, route, wanted, body.sampling(), size)
    return Relayed(model, prepared) if body.stream else Gathered(model, prepared)


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request) -> Response:
    model: Model = await request.app.state.loaded.get(body.model)
    model.need_embeddings()
    wanted = {"input": body.input, "encoding_format": body.encoding_format}
    return Relayed(model, Prepared("embedding", "/v1/embeddings", wanted, tokens=0))
