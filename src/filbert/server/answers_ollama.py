"""What Ollama's routes answer. `/openapi.json` is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Capability = Literal["completion", "tools", "insert", "vision", "thinking", "embedding"]
Nanoseconds = Annotated[int, Field(description="Nanoseconds.")]


class SpokenVersion(TypedDict):
    version: str


class OllamaCalledFunction(TypedDict):
    index: int
    name: str
    arguments: dict[str, Any]


class OllamaMadeCall(TypedDict):
    id: str
    function: OllamaCalledFunction


class OllamaAnswer(TypedDict):
    role: Literal["assistant"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[OllamaMadeCall]]


class OllamaLikelyToken(TypedDict):
    token: str
    logprob: Annotated[float, Field(description="In nats.")]


class OllamaLogprob(OllamaLikelyToken):
    top_logprobs: list[OllamaLikelyToken]


class OllamaPiece(TypedDict):
    """Of a stream, a piece; the last has `done` and the counts and times of all."""

    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[Literal["stop", "length", "load", "unload"]]
    logprobs: NotRequired[list[OllamaLogprob]]
    total_duration: NotRequired[Nanoseconds]
    load_duration: NotRequired[Nanoseconds]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[Nanoseconds]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[Nanoseconds]


class OllamaChatPiece(OllamaPiece):
    message: OllamaAnswer


class OllamaGeneratePiece(OllamaPiece):
    response: str
    thinking: NotRequired[str]


class OllamaEmbeddings(TypedDict):
    """Unit vectors, one a text."""

    model: str
    embeddings: list[list[float]]
    total_duration: Nanoseconds
    load_duration: Nanoseconds
    prompt_eval_count: int


class OllamaEmbedding(TypedDict):
    embedding: list[float]


class OllamaDetails(TypedDict):
    parent_model: Annotated[str, Field(description="The model that this name stands for.")]
    format: Annotated[Literal["gguf", ""], Field(description="Empty for a model on another server.")]
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    name: str
    model: str
    modified_at: str
    size: Annotated[int, Field(description="Bytes on disk.")]
    digest: str
    details: OllamaDetails
    remote_model: NotRequired[Annotated[str, Field(description="Its name on another server.")]]
    remote_host: NotRequired[Annotated[str, Field(description="That server, as it is called here.")]]


class OllamaModels(TypedDict):
    models: list[OllamaModel]


class OllamaRunningModel(TypedDict):
    name: str
    model: str
    size: Annotated[int, Field(description="Bytes of memory.")]
    digest: str
    details: OllamaDetails
    expires_at: Annotated[str, Field(description="When it leaves memory unless somebody asks it.")]
    size_vram: int
    context_length: int


class OllamaRunningModels(TypedDict):
    models: list[OllamaRunningModel]


class OllamaExample(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class OllamaShown(TypedDict):
    license: str
    modelfile: str
    parameters: str
    template: str
    system: NotRequired[str]
    messages: NotRequired[list[OllamaExample]]
    details: OllamaDetails
    model_info: Annotated[dict[str, Any], Field(description="The metadata of its file.")]
    capabilities: list[Capability]
    modified_at: str
    remote_model: NotRequired[Annotated[str, Field(description="Its name on another server.")]]
    remote_host: NotRequired[Annotated[str, Field(description="That server, as it is called here.")]]


class OllamaProgress(TypedDict):
    """The last one's status is `success`."""

    status: str
    digest: NotRequired[Annotated[str, Field(description="Of the step, so that clients draw a bar for each.")]]
    total: NotRequired[Annotated[int, Field(description="Bytes.")]]
    completed: NotRequired[Annotated[int, Field(description="Bytes.")]]
