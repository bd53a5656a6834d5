"""What OpenAI's routes answer, and those of the server itself. `/openapi.json` is made from it."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from filbert.models.header import Kind

FinishReason = Literal["stop", "length", "tool_calls"]


class Health(TypedDict):
    status: Literal["ok"]


class Readiness(TypedDict):
    status: Literal["ready"]


class ModelRow(TypedDict):
    id: str
    object: Literal["model"]
    created: Annotated[int, Field(description="When it was pulled, in seconds since 1970; 0 where nobody knows.")]
    owned_by: str
    kind: NotRequired[Annotated[Kind, Field(description="An adapter is named after its model, as in base+adapter.")]]
    stands_for: NotRequired[Annotated[str, Field(description="The model that this name stands for.")]]
    remote: NotRequired[Annotated[Literal[True], Field(description="It is on another server.")]]
    status: NotRequired[Annotated[Literal["up", "down"], Field(description="Of that server.")]]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelRow]


class Deleted(TypedDict):
    id: str
    object: Literal["model"]
    deleted: Literal[True]


class LikelyToken(TypedDict):
    id: Annotated[int, Field(description="Its number in the model's vocabulary.")]
    token: str
    bytes: list[int]
    logprob: Annotated[float, Field(description="In nats.")]


class TokenLogprobs(LikelyToken):
    top_logprobs: Annotated[list[LikelyToken], Field(description="The likeliest at this place, the likeliest first.")]


class ChatLogprobs(TypedDict):
    content: list[TokenLogprobs]


class ChatCalledFunction(TypedDict):
    name: str
    arguments: Annotated[str, Field(description="JSON; of a call that was cut its beginning.")]


class ChatCall(TypedDict):
    id: str
    type: Literal["function"]
    function: ChatCalledFunction


class ChatAnswer(TypedDict):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: NotRequired[Annotated[str, Field(description="The thought before the answer.")]]
    tool_calls: NotRequired[list[ChatCall]]


class ChatChoice(TypedDict):
    index: int
    finish_reason: FinishReason
    message: ChatAnswer
    logprobs: NotRequired[ChatLogprobs]


class PromptDetails(TypedDict):
    cached_tokens: Annotated[int, Field(description="Remembered from an earlier request, and not computed again.")]


class CompletionDetails(TypedDict):
    reasoning_tokens: int


class TokenUsage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptDetails]
    completion_tokens_details: NotRequired[CompletionDetails]


class ChatCompletion(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class PieceOfFunction(TypedDict):
    name: NotRequired[str]
    arguments: NotRequired[str]


class PieceOfCall(TypedDict):
    """The first piece of a call holds its id and its function's name."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: NotRequired[PieceOfFunction]


class Delta(TypedDict):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[PieceOfCall]]


class ChatChunkChoice(TypedDict):
    index: int
    finish_reason: FinishReason | None
    delta: Delta
    logprobs: NotRequired[ChatLogprobs | None]


class EngineTimings(TypedDict):
    """Tokens and milliseconds, by the engine's own clock."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: NotRequired[int]
    draft_n_accepted: NotRequired[int]


class Chunk(TypedDict):
    id: str
    created: int
    model: str
    system_fingerprint: NotRequired[str]
    usage: NotRequired[Annotated[TokenUsage, Field(description="In the last event, where stream_options ask for it.")]]
    timings: NotRequired[EngineTimings]


class ChatCompletionChunk(Chunk):
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]


class CompletionLogprobs(TypedDict):
    tokens: Annotated[list[str], Field(description="A part of a character of a prompt is written as bytes:\\xf0.")]
    token_logprobs: Annotated[list[float | None], Field(description="In nats; null for the first token of a prompt.")]
    top_logprobs: Annotated[
        list[dict[str, float | None] | None], Field(description="The likeliest at each place, and the token itself.")
    ]
    text_offset: Annotated[list[int], Field(description="Characters of the text before each.")]


class CompletionChoice(TypedDict):
    index: int
    finish_reason: FinishReason
    text: str
    logprobs: NotRequired[CompletionLogprobs]


class Completion(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage


class CompletionChunkChoice(TypedDict):
    index: int
    finish_reason: FinishReason | None
    text: str
    logprobs: NotRequired[CompletionLogprobs | None]


class CompletionChunk(Chunk):
    object: Literal["text_completion"]
    choices: list[CompletionChunkChoice]


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: Annotated[
        list[float] | str, Field(description="A unit vector; as base64 its little-endian 32-bit numbers.")
    ]


class EmbeddingUsage(TypedDict):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class RankedText(TypedDict):
    text: str


class Ranked(TypedDict):
    index: Annotated[int, Field(description="Which of the documents.")]
    relevance_score: Annotated[float, Field(description="How close it is; only the order means something.")]
    document: NotRequired[RankedText]


class Ranking(TypedDict):
    """The closest document first."""

    object: Literal["list"]
    model: str
    results: list[Ranked]
