"""A model's tokens, as vLLM tells them: lm-eval takes texts apart with it. It names no model, so that there has to be
one only."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from filbert.core.errors import BadInput
from filbert.models.gguf import Header, read_header
from filbert.server import openapi
from filbert.server.bodies import IN_USE, Body, TokenId
from filbert.server.error_bodies import ErrorBody
from filbert.server.json_route import JsonRoute, lent, offered_by
from filbert.server.patience import patient

router = APIRouter(
    tags=[openapi.SERVER],
    route_class=JsonRoute,
    responses=openapi.refused(ErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
WHICH = "The name of a model; left out, there has to be one only."


class TokenizeBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"model": IN_USE, "prompt": "a text"}]})

    model: str = Field("", description=WHICH)
    prompt: str
    add_special_tokens: bool = Field(False, description="Put before it what the model wants before every text.")


class DetokenizeBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"model": IN_USE, "tokens": [1, 2]}]})

    model: str = Field("", description=WHICH)
    tokens: list[TokenId] = Field(max_length=1 << 20)


class Tokens(TypedDict):
    tokens: list[int]
    count: int
    max_model_len: Annotated[int, Field(description="Tokens of a prompt told again, and of the one that follows.")]


class Detokenized(TypedDict):
    prompt: str


class TokenizerInfo(TypedDict):
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


@router.get("/tokenizer_info")
def get_tokenizer_info(request: Request, model: str = "") -> TokenizerInfo:
    """The marks around texts, and the chat template."""
    header = read_header(offered_by(request).find(model or _only(request)).path)
    return {
        "bos_token": _named(header, "bos"),
        "eos_token": _named(header, "eos"),
        "chat_template": header.chat_template,
    }


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, request: Request) -> Tokens:
    """The tokens of a text, special ones read as such."""
    with await lent(request, body.model or await asyncio.to_thread(_only, request)) as loan:
        asked = loan.model.waited(lambda: loan.model.tokenize(body.prompt, body.add_special_tokens))
        tokens = await patient(request, asked)
        return {"tokens": tokens, "count": len(tokens), "max_model_len": loan.model.scored_context}


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, request: Request) -> Detokenized:
    """The text of tokens."""
    with await lent(request, body.model or await asyncio.to_thread(_only, request)) as loan:
        return {"prompt": await patient(request, loan.model.waited(lambda: loan.model.detokenize(body.tokens)))}


def _only(request: Request) -> str:
    """Another model's tokens would look right, and be wrong."""
    names = [stored.name for stored in offered_by(request).known() if stored.kind == "language"]
    if len(names) != 1:
        raise BadInput(
            f"{len(names)} models can be asked for, and none was named.",
            do="Name one, or ask with a key that is for one model only.",
        )
    return names[0]


def _named(header: Header, mark: str) -> str | None:
    number: Any = header.metadata.get(f"tokenizer.ggml.{mark}_token_id")
    if number is None or "tokenizer.ggml.tokens" not in header.metadata:
        return None
    tokens: Any = header.load("tokenizer.ggml.tokens")
    return str(tokens[number])
