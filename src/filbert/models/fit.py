"""How much memory a model takes, and how much context therefore fits.

The formulas are the engine's own where it has one (`llama-kv-cache*.cpp`, `llama-hparams.cpp`) and fitted to what it
reserves where it has none: with flash attention the compute buffer of two models of different shape was batch x
(20 x embedding + 12 x feed-forward + 2 x context) bytes to 0.2 %, and the process itself 32 MiB and 0.2 KiB a string of
the vocabulary. `tests/models/test_fit.py` compares the sum with the peak of a real worker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from filbert.core.errors import BadInput
from filbert.core.machine import Memory
from filbert.models.context_lengths import CONTEXT_STEP, LEAST_CONTEXT, MOST_CONTEXT
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.header import ENCODERS, Header, Stored

MOST_PROMPT_CACHE = 512 << 20
PROMPT_CACHE_SHARE = 0.05

# Copied into another order when loaded, on processors with AVX2 or NEON, and then held twice (`ggml-cpu/repack.cpp`).
REPACKED = frozenset(("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"))
PROCESS_BYTES = 32 << 20
VOCABULARY_STRING_BYTES = 208
BYTES_A_VALUE = {kind.name.lower(): kind.size_bytes / kind.block for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Fit:
    """Bytes a loaded model takes. weights: its files, mapped, so that all children share them; the rest is each child's
    own. repacked: weights copied into another order; process: the child itself, its libraries and vocabulary."""

    weights: int
    repacked: int
    kv_cache: int
    compute: int
    prompt_cache: int
    process: int

    @property
    def own(self) -> int:
        return self.repacked + self.kv_cache + self.compute + self.prompt_cache + self.process

    @property
    def total(self) -> int:
        return self.weights + self.own


@dataclass(frozen=True, slots=True)
class Demand:
    """How a model is to be loaded, as far as memory goes. kv: number type of the key/value cache; batch: prompt tokens
    computed in one go; parallel: answers at once, which share the context; pools: whether vectors are made, for which
    the engine keeps logits of every token; logits_bytes: room for more logits than a row an answer."""

    kv: str = "f16"
    parallel: int = 1
    batch: int = 512
    prompt_cache_bytes: int = 0
    logits_bytes: int = 0
    pools: bool = False


def estimate(headers: Sequence[Header], context: int, demand: Demand = Demand()) -> Fit:
    """headers: the model, or its parts in order, then its projector if it has one. context: tokens.

    The mapped files count whole, as if all of them were in memory: a generated token reads most of them."""
    model = headers[0]
    context = -(-context // CONTEXT_STEP) * CONTEXT_STEP
    return Fit(
        weights=sum(header.size_bytes for header in headers),
        repacked=sum(_repacked(header) for header in headers),
        kv_cache=_kv_cache(model, context, demand) + _states(model, demand.parallel),
        compute=_compute(model, context, demand) + sum(_projection(header) for header in headers),
        prompt_cache=demand.prompt_cache_bytes,
        process=PROCESS_BYTES + VOCABULARY_STRING_BYTES * _vocabulary_strings(model),
    )


def default_context(
    headers: Sequence[Header], memory: Memory, demand: Demand = Demand(), most: int = MOST_CONTEXT
) -> int:
    """Tokens: the smallest of the trained length, what fits beside the weights, and `most`.
    Raises BadInput where not even 512 fit."""
    trained = headers[0].context_length or most
    most = max(min(trained, most) // CONTEXT_STEP * CONTEXT_STEP, min(trained, LEAST_CONTEXT))
    least = min(most, LEAST_CONTEXT)
    choices = range(least, most + 1, CONTEXT_STEP)
    fitting = bisect_right(choices, memory.available, key=lambda context: estimate(headers, context, demand).total)
    if not fitting:
        do = "Close other programs, or take a smaller model or a smaller quantisation of this one."
        raise _too_big(headers[0], estimate(headers, least, demand), least, memory, do)
    return choices[fitting - 1]


def check(headers: Sequence[Header], context: int, memory: Memory, demand: Demand = Demand()) -> None:
    """Raises BadInput where `context` tokens, which somebody asked for, need more memory than there is in all."""
    fit = estimate(headers, context, demand)
    if fit.total > memory.total:
        raise _too_big(headers[0], fit, context, memory, "Ask for a smaller --context, or take a smaller model.")


def check_together(models: Sequence[Sequence[Header]], context: int, memory: Memory, demand: Demand) -> Fit:
    """What a process takes that holds them all, each with `context` tokens. Raises BadInput where that is not free."""
    fits = [estimate(headers, context, demand) for headers in models]
    together = Fit(*(sum(getattr(fit, name) for fit in fits) for name in Fit.__slots__))
    if together.total > memory.available:
        raise BadInput(
            f"{' and '.join(headers[0].source for headers in models)} need {together.total / 1e9:.1f} GB of memory "
            f"together, and {memory.available / 1e9:.1f} GB are free.",
            do="Close other programs, or compare smaller models.",
        )
    return together


def prompt_cache_default(memory: Memory) -> int:
    """Bytes for remembered prompts."""
    return min(MOST_PROMPT_CACHE, int(memory.total * PROMPT_CACHE_SHARE))


def _too_big(model: Header, fit: Fit, context: int, memory: Memory, do: str) -> BadInput:
    needed, free = fit.total / 1e9, memory.available / 1e9
    return BadInput(
        f"{model.source} needs {needed:.1f} GB of memory with {context} tokens of context, and {free:.1f} GB are free.",
        do=do,
    )


def _repacked(header: Header) -> int:
    if header.kind == "projector":
        return 0
    return sum(size for kind, (_, size) in header.tensor_types.items() if kind in REPACKED)


def _kv_cache(model: Header, context: int, demand: Demand) -> int:
    if model.architecture in ENCODERS:
        return 0  # they read a text once, as a whole
    window = min(context, _sliding_window(model) * demand.parallel + demand.batch)
    window = -(-window // CONTEXT_STEP) * CONTEXT_STEP
    values = sum(length * (window if slides else context) for length, slides in _kv_lengths(model))
    return int(values * BYTES_A_VALUE[demand.kv])


def _kv_lengths(model: Header) -> Iterator[tuple[int, bool]]:
    """(values kept of a token, whether older ones are dropped), one a block.

    A block slides only where the file says so itself; patterns the engine knows by heart count as full.
    """
    full = model.key_length + model.value_length
    if model.number("attention.key_length_mla"):
        full = model.key_length  # DeepSeek's latent attention: the values are a part of the keys
    short = (model.number("attention.key_length_swa") or 0) + (model.number("attention.value_length_swa") or 0)
    pattern = model.metadata.get(f"{model.architecture}.attention.sliding_window_pattern")
    for block, heads in enumerate(model.kv_head_counts):
        slides = isinstance(pattern, tuple) and block < len(pattern) and bool(pattern[block])
        yield heads * (short if slides and short else full), slides


def attention_spans(model: Header, context: int) -> int:
    """Values of queries times the tokens they look back at, over all blocks, with `context` tokens before them."""
    window, heads = _sliding_window(model) or context, model.head_counts
    spans = 0
    for block, (kept, slides) in enumerate(_kv_lengths(model)):
        queries = heads[block] if kept and block < len(heads) else 0
        spans += queries * model.key_length * (min(window, context) if slides else context)
    return spans


def values_kept(model: Header, context: int) -> int:
    """Keys and values that a token reads, over all blocks, with `context` tokens before it."""
    window = _sliding_window(model) or context
    return sum(kept * (min(window, context) if slides else context) for kept, slides in _kv_lengths(model))


def _sliding_window(model: Header) -> int:
    return model.number("attention.sliding_window") or 0


def _states(model: Header, parallel: int) -> int:
    """What recurrent blocks (Mamba, RWKV, …) keep of a sequence, as if every block were one: f32."""
    embedding, heads = model.embedding_length or 0, max(model.head_counts, default=0)
    state, inner = model.number("ssm.state_size") or 0, model.number("ssm.inner_size") or 0
    groups, kernel = model.number("ssm.group_count") or 0, model.number("ssm.conv_kernel") or 0
    mamba = max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner
    rwkv = (model.number("wkv.head_size") or 0) * embedding
    short = (model.number("shortconv.l_cache") or 0) * embedding
    delta = (model.number("kda.head_dim") or 0) ** 2 * heads
    shift = 2 * embedding if rwkv else 0
    return 4 * (mamba + rwkv + short + delta + shift) * (model.block_count or 0) * parallel


def _compute(model: Header, context: int, demand: Demand) -> int:
    embedding = model.embedding_length or 0
    used = model.expert_used_count * (model.number("expert_feed_forward_length") or _feed_forward(model))
    hidden = 4 * (5 * embedding + 3 * max(_feed_forward(model), used))
    mask = 2 * context
    return min(demand.batch, context) * (hidden + mask) + _logits(model, context, demand) + demand.logits_bytes


def _logits(model: Header, context: int, demand: Demand) -> int:
    """A row an answer, or where vectors are made a row a token: once where they are kept, and but for encoders, which
    compute none, once where they are computed."""
    row, tokens = 4 * (model.vocab_size or 0), min(demand.batch, context)
    if model.architecture in ENCODERS:
        return row * tokens
    return 2 * row * tokens if demand.pools else row * demand.parallel


def _feed_forward(model: Header) -> int:
    return max(model.per_layer("feed_forward_length") or (0,))


def _projection(header: Header) -> int:
    """Of an image of the projector's own size: a score for each pair of patches and head, and the layers' values."""
    if header.kind != "projector":
        return 0
    numbers = {key: header.number(f"vision.{key}") or 0 for key in ("image_size", "patch_size", "embedding_length")}
    patches = (numbers["image_size"] // numbers["patch_size"]) ** 2 if numbers["patch_size"] else 0
    heads, feed = header.number("vision.attention.head_count") or 0, header.number("vision.feed_forward_length") or 0
    return 4 * patches * (patches * heads + 6 * numbers["embedding_length"] + 3 * feed)


def _vocabulary_strings(model: Header) -> int:
    values = (model.metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "merges"))
    return sum(len(value) for value in values if isinstance(value, tuple | Stored))
