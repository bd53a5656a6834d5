"""How a model is loaded: declared once, read by flags, FILBERT_LOAD_… variables, `[load]` in the file, and the docs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import ClassVar, Literal

from pydantic import Field

from filbert.core.settings import Options
from filbert.engine.threads import Runtime
from filbert.models.batch import BATCH, BATCH_WITH_IMAGES
from filbert.models.context_lengths import MOST_CONTEXT

MOST_TEMPLATE = 1 << 18  # characters; the longest that is known has 20,000
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

OF_NUMBERS = frozenset({"context", "threads", "adapters"})  # what a log-likelihood may depend on
OF_WHAT_IS_SAID = frozenset({"template", "speculation", "prompt_cache_mib", "image_tokens"})  # nothing to random tokens


class LoadOptions(Options):
    """How a model is loaded. Values left out are chosen from the model's file and this machine."""

    table: ClassVar[str] = "load"

    context: int | None = Field(
        None,
        ge=64,
        description="Tokens of context. Left out: the smallest of the trained length, what fits in memory and, but for "
        f"scores, {MOST_CONTEXT}.",
        json_schema_extra={"also": "--ctx"},
    )
    kv: KvType = Field("f16", description="Number type of the key/value cache; q8_0 halves its memory.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of the engine. Left out: one a physical core."
    )
    openmp: Runtime = Field(
        "bundled", description="OpenMP's runtime on Linux: LLVM's, which comes along, or the system's own."
    )
    parallel: int = Field(4, ge=1, le=256, description="Answers generated at once; they share the context.")
    batch: int | None = Field(
        None,
        ge=32,
        le=16384,
        description="Prompt tokens computed in one go; other answers and clients that leave wait for them. Left out: "
        f"{BATCH}, fewer where `filbert fit` found the machine slow, and {BATCH_WITH_IMAGES} for models that see.",
    )
    speculation: Literal["off", "auto"] = Field(
        "off",
        description="auto guesses text from what was said before: faster copying, same distribution, other bytes; "
        "requests with a seed, temperature 0 or logprobs go without.",
    )
    prompt_cache_mib: int | None = Field(
        None, ge=0, description="Memory for remembered prompts, in MiB. Left out: the smaller of 512 and 5 % of memory."
    )
    device: str = Field(
        "auto",
        min_length=1,
        max_length=64,
        description="auto takes the graphics cards that the engine finds, cpu none, a name such as CUDA0 one.",
    )
    gpu_layers: int = Field(
        -1, ge=-1, description="Layers on the graphics card, where the engine has one; -1 means all."
    )
    adapters: tuple[str, ...] = Field(
        (), description="LoRA adapters (GGUF), installed names or files, applied at load."
    )
    template: str | None = Field(
        None,
        max_length=MOST_TEMPLATE,
        description="A chat template (Jinja) in place of the model's own.",
        json_schema_extra={"from_file": True},
    )
    image_tokens: int = Field(
        1024,
        ge=256,
        le=16384,
        description="Tokens of an image at most, where a model takes any size; more see finer and take longer.",
    )
    stall_s: float = Field(
        120, gt=0, description="Seconds without a sign of life after which a request ends and its worker is replaced."
    )

    def flags(self, names: Collection[str]) -> Iterator[str]:
        """Of these fields, those that are not the defaults, as a command line has them."""
        for name, value in self.model_dump(exclude_defaults=True, include=set(names)).items():
            for each in value if isinstance(value, tuple) else (value,):
                yield from (f"--{name.replace('_', '-')}", str(each))
