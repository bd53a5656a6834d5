"""Whether a header's numbers can be those of a model: what the engine would divide by, index with or abort on."""

from __future__ import annotations

import re

from filbert.core.errors import BadModelFile
from filbert.models.header import Header, Stored, Value

# The engine keeps its numbers a block in arrays of these sizes and aborts beyond them (`llama-hparams.h`).
MAX_BLOCKS = 512
MAX_EXPERTS = 1024
MAX_LENGTH = 1 << 24  # of an embedding, a head, a feed-forward layer
MAX_CONTEXT = (1 << 31) - 1
MAX_HEADS = 1 << 16
BLOCK_NAME = re.compile(r"blk\.(\d{1,9})\.")


def check_meaning(header: Header) -> None:
    """Raises BadModelFile."""
    _check_texts(header)
    if header.split is not None and header.split[0] > 0:
        return  # the first part holds the metadata of all
    if header.kind == "projector":
        _check_projector(header)
    elif header.kind not in ("adapter", "other"):
        _check_model(header)
        _check_vocabulary(header)


def _unusable(header: Header, why: str) -> BadModelFile:
    return BadModelFile(f"{header.source} cannot be loaded.", why=why, do="Get another conversion of the model.")


def _check_texts(header: Header) -> None:
    """Where a text is read, a text must stand."""
    texts = ("general.type", "general.architecture", "general.name", "general.license", "tokenizer.ggml.model")
    for key in header.metadata:
        if (
            (key in texts or key.startswith("tokenizer.chat_template"))
            and header.text(key) is None
            and key != "tokenizer.chat_templates"
        ):
            raise _unusable(header, f"{key} is not a text.")
    part = header.split is not None and header.split[0] > 0
    needed = not part and header.text("general.type") in (None, "model", "adapter", "mmproj")
    if needed and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", header.architecture):
        raise _unusable(header, f"general.architecture is {header.architecture[:80]!r}: it names no architecture.")


def _check_model(header: Header) -> None:
    _whole(header, "context_length", 1, MAX_CONTEXT, needed=True)
    _whole(header, "embedding_length", 1, MAX_LENGTH, needed=True)
    blocks = _whole(header, "block_count", 1, MAX_BLOCKS, needed=True)
    for key in ("attention.key_length", "attention.value_length", "attention.sliding_window", "rope.dimension_count"):
        _whole(header, key, 0, MAX_CONTEXT)
    for tensor in header.tensors:
        found = BLOCK_NAME.match(tensor.name)
        if found and int(found[1]) >= blocks:
            raise _unusable(header, f"It has {blocks} blocks and a tensor {tensor.name!r}.")
    _check_heads(header, blocks)
    _check_experts(header)


def _whole(header: Header, key: str, least: int, most: int, *, needed: bool = False) -> int:
    """The integer under `{architecture}.{key}`, within its limits; `least` where it may be missing and is."""
    name = f"{header.architecture}.{key}"
    value = header.metadata.get(name)
    if value is None and not needed:
        return least
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _unusable(header, f"{name} is {_shown(value)}, not a whole number from {least:,} to {most:,}.")
    return value


def _shown(value: Value | None) -> str:
    return "missing" if value is None else f"{value!r:.80}"


def _check_heads(header: Header, blocks: int) -> None:
    heads = _per_block(header, "attention.head_count", blocks)
    kv_heads = _per_block(header, "attention.head_count_kv", blocks) or heads
    if not any(heads) and not header.recurrent:
        raise _unusable(
            header, f"Its attention.head_count is {_shown(heads[0] if heads else None)}: there is no attention."
        )
    if len(heads) != len(kv_heads):
        raise _unusable(header, f"It gives {len(heads)} blocks query heads and {len(kv_heads)} key heads.")
    for number, (queries, shared) in enumerate(zip(heads, kv_heads, strict=True)):
        if shared and queries % shared:
            raise _unusable(header, f"In block {number}, {queries} query heads cannot share {shared} key heads.")


def _per_block(header: Header, key: str, blocks: int) -> tuple[int, ...]:
    name = f"{header.architecture}.{key}"
    value = header.metadata.get(name)
    counts = value if isinstance(value, tuple) else () if value is None else (value,) * blocks
    if isinstance(value, tuple) and len(value) != blocks:
        raise _unusable(header, f"{name} has {len(value)} numbers for {blocks} blocks.")
    whole = tuple(count for count in counts if isinstance(count, int) and 0 <= count <= MAX_HEADS)
    if len(whole) != len(counts):
        raise _unusable(header, f"{name} is {_shown(value)}, not a number of heads.")
    return whole


def _check_experts(header: Header) -> None:
    experts = _whole(header, "expert_count", 0, MAX_EXPERTS)
    used = header.metadata.get(f"{header.architecture}.expert_used_count", 0)
    for count in used if isinstance(used, tuple) else (used,):
        if not isinstance(count, int) or not 0 <= count <= experts:
            raise _unusable(header, f"It uses {_shown(count)} of {experts} experts.")


def _check_vocabulary(header: Header) -> None:
    tokens = _strings(header, "tokenizer.ggml.tokens")
    _strings(header, "tokenizer.ggml.merges")
    if header.text("tokenizer.ggml.model") in (None, "none", "no_vocab") and tokens is None:
        return
    if not tokens:
        raise _unusable(header, "It has a tokenizer and no tokens.")
    for key, kinds in (("tokenizer.ggml.scores", ("f32", "i32")), ("tokenizer.ggml.token_type", ("i32",))):
        value = header.metadata.get(key)
        if value is not None and _length(value, kinds) < tokens:
            raise _unusable(header, f"{key} does not give each of the {tokens:,} tokens its number.")
    # The engine ignores other special tokens that are out of range; these two end and begin every text.
    for key in ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"):
        value = header.metadata.get(key, 0)
        if not isinstance(value, int) or not 0 <= value < tokens:
            raise _unusable(header, f"{key} is {_shown(value)} in a vocabulary of {tokens:,}.")


def _strings(header: Header, key: str) -> int | None:
    """How many strings the array under `key` has; None where it is missing."""
    value = header.metadata.get(key)
    if value is None:
        return None
    if isinstance(value, Stored) and value.kind == "string":
        return value.count
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return len(value)
    raise _unusable(header, f"{key} is not an array of texts.")


def _length(value: Value, kinds: tuple[str, ...]) -> int:
    """How many numbers an array of one of `kinds` has; -1 where it is something else."""
    if isinstance(value, Stored):
        return value.count if value.kind in kinds else -1
    numbers = isinstance(value, tuple) and not any(isinstance(item, str) for item in value)
    return len(value) if isinstance(value, tuple) and numbers else -1


def _check_projector(header: Header) -> None:
    for side in ("vision", "audio"):
        for key, most in (
            ("image_size", 1 << 16),
            ("patch_size", 1 << 12),
            ("embedding_length", MAX_LENGTH),
            ("attention.head_count", MAX_HEADS),
        ):
            name = f"clip.{side}.{key}"
            value = header.metadata.get(name)
            if value is not None and (not isinstance(value, int) or not 0 < value <= most):
                raise _unusable(header, f"{name} is {_shown(value)}, not a whole number from 1 to {most:,}.")
