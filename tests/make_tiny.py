"""Random-weight GGUF files of every kind, each under 2 MB and written in well under a second.

They prove the plumbing (a file of this kind is read, fetched, loaded, asked), never the quality of an answer.
`python tests/make_tiny.py FOLDER` writes them all. Tests take one and change it: `write(path, dense_parts(...))`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, FEED, HEADS, KV_HEADS, BLOCKS, CONTEXT = 64, 128, 4, 2, 2, 2048
EXPERTS, EXPERTS_USED, RANK, IMAGE, PATCH = 4, 2, 4, 28, 14

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Hostile, but only when asked, so that the file loads and the request is what suffers.
LOOPING = (
    "{% if messages[-1]['content'] == 'loop' %}{% set big = range(20000) %}{% for a in big %}{% for b in big %}{% for c in big %}"
    "{% set x = c %}{% endfor %}{% endfor %}{% endfor %}{% endif %}" + CHATML
)
EXPLODING = (
    "{% if messages[-1]['content'] == 'explode' %}{% set ns = namespace(text='0123456789abcdef') %}"
    "{% for i in range(48) %}{% set ns.text = ns.text + ns.text %}{% endfor %}{{ ns.text }}{% endif %}" + CHATML
)


@dataclass
class Parts:
    """A GGUF to be: metadata with typed Python values, tensors as arrays (rows first) to be stored as F32."""

    architecture: str
    metadata: dict[str, Any]
    tensors: dict[str, np.ndarray]
    quantised: gguf.GGMLQuantizationType | None = None  # of every matrix
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))


def write(path: Path, parts: Parts, *, tensors_a_file: int = 0) -> None:
    writer = gguf.GGUFWriter(path, parts.architecture, split_max_tensors=tensors_a_file)
    for key, value in parts.metadata.items():
        _add(writer, key, value)
    for name, tensor in parts.tensors.items():
        if parts.quantised is not None and tensor.ndim > 1:
            stored = gguf.quants.quantize(tensor, parts.quantised)
            writer.add_tensor(name, stored, raw_dtype=parts.quantised)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def dense(path: Path, **changes: Any) -> Path:
    """A chat model of llama's architecture."""
    write(path, dense_parts(**changes))
    return path


def uneven(path: Path) -> Path:
    """One whose columns have all sizes, and whose norms make up for it: it says what `dense` says, and rounds worse."""
    parts = dense_parts()
    for block in range(BLOCKS):
        for norm, readers in (("attn_norm", ("attn_q", "attn_k", "attn_v")), ("ffn_norm", ("ffn_gate", "ffn_up"))):
            factors = parts.random.lognormal(0, 1, WIDTH).astype(np.float32)
            parts.tensors[f"blk.{block}.{norm}.weight"] /= factors
            for reader in readers:
                parts.tensors[f"blk.{block}.{reader}.weight"] *= factors
    write(path, parts)
    return path


def quantised(path: Path, kind: str = "Q8_0", **changes: Any) -> Path:
    parts = dense_parts(**changes)
    parts.quantised = gguf.GGMLQuantizationType[kind]
    parts.metadata["general.file_type"] = int(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    write(path, parts)
    return path


def split(path: Path, **changes: Any) -> list[Path]:
    """The dense model in three files beside `path`, named as the engine wants them."""
    parts = dense_parts(**changes)
    write(path, parts, tensors_a_file=-(-len(parts.tensors) // 3))
    return sorted(path.parent.glob(f"{path.stem}-0000?-of-00003.gguf"))


def experts(path: Path, **changes: Any) -> Path:
    """A mixture of experts as Mixtral's: each block's feed-forward layer becomes four, two of them used a token."""
    parts = dense_parts(**changes)
    parts.metadata |= {"llama.expert_count": EXPERTS, "llama.expert_used_count": EXPERTS_USED}
    for block in range(BLOCKS):
        for name, rows, columns in (("gate", FEED, WIDTH), ("up", FEED, WIDTH), ("down", WIDTH, FEED)):
            del parts.tensors[f"blk.{block}.ffn_{name}.weight"]
            parts.tensors[f"blk.{block}.ffn_{name}_exps.weight"] = _random(parts, EXPERTS, rows, columns)
        parts.tensors[f"blk.{block}.ffn_gate_inp.weight"] = _random(parts, EXPERTS, WIDTH)
    write(path, parts)
    return path


def embedder(path: Path, **changes: Any) -> Path:
    """BERT with mean pooling."""
    write(path, bert_parts(pooling=1, **changes))
    return path


def reranker(path: Path, **changes: Any) -> Path:
    """BERT with a head that scores a pair of texts."""
    parts = bert_parts(pooling=4, **changes)
    parts.tensors |= {
        "cls.weight": _random(parts, WIDTH, WIDTH),
        "cls.bias": _random(parts, WIDTH),
        "cls.output.weight": _random(parts, 1, WIDTH),
        "cls.output.bias": _random(parts, 1),
    }
    write(path, parts)
    return path


def vision(path: Path, projector: Path, **changes: Any) -> tuple[Path, Path]:
    """(language model, projector) as LLaVA's: 28 x 28 pixels become four vectors of the language model."""
    dense(path, **changes)
    parts = Parts("clip", _projector_metadata(), {})
    parts.tensors = {
        "v.patch_embd.weight": _random(parts, WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": _random(parts, (IMAGE // PATCH) ** 2, WIDTH),
        "mm.0.weight": _random(parts, WIDTH, WIDTH),
        "mm.0.bias": _random(parts, WIDTH),
        "mm.2.weight": _random(parts, WIDTH, WIDTH),
        "mm.2.bias": _random(parts, WIDTH),
    }
    for block in range(BLOCKS):
        parts.tensors |= _vision_block(parts, f"v.blk.{block}")
    write(projector, parts)
    return path, projector


def adapter(path: Path, strength: float = 1.0) -> Path:
    """A LoRA adapter for the dense model; with a `strength` of 0 it changes nothing."""
    metadata = {
        "general.type": "adapter",
        "general.name": "tiny adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    parts = Parts("llama", metadata, {})
    for block in range(BLOCKS):
        for name, rows in (("attn_q", WIDTH), ("attn_v", WIDTH // HEADS * KV_HEADS)):
            parts.tensors[f"blk.{block}.{name}.weight.lora_a"] = _random(parts, RANK, WIDTH)
            parts.tensors[f"blk.{block}.{name}.weight.lora_b"] = _random(parts, rows, RANK) * np.float32(strength)
    write(path, parts)
    return path


def aborting(path: Path) -> Path:
    """Formally right, and the engine aborts on it: a token stands twice in the vocabulary, which ggml asserts against."""
    parts = dense_parts()
    parts.metadata["tokenizer.ggml.tokens"][7] = parts.metadata["tokenizer.ggml.tokens"][8]
    write(path, parts)
    return path


def refused(path: Path) -> Path:
    """Formally right, and the engine refuses it: a matrix has the wrong shape."""
    parts = dense_parts()
    parts.tensors["blk.1.attn_q.weight"] = _random(parts, WIDTH, WIDTH // 2)
    write(path, parts)
    return path


def dense_parts(
    *,
    template: str | None = CHATML,
    metadata: dict[str, Any] | None = None,
    seed: int = 1,
    marks: Sequence[str] = (),
) -> Parts:
    """metadata: values to add or change; None leaves a key out. marks: texts that are a token each, as <think> is."""
    tokens, merges = _byte_vocabulary()
    tokens += marks
    parts = Parts("llama", _model_metadata("llama"), {}, random=np.random.default_rng(seed))
    parts.metadata |= {
        "general.name": "Tiny Dense",
        "general.license": "cc0-1.0",
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 3 - len(marks)) + [3] * 3 + [4] * len(marks),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
    }
    if template is not None:
        parts.metadata["tokenizer.chat_template"] = template
    parts.metadata = {key: value for key, value in (parts.metadata | (metadata or {})).items() if value is not None}
    parts.tensors = {
        "token_embd.weight": _random(parts, len(tokens), WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    for block in range(BLOCKS):
        parts.tensors |= _llama_block(parts, f"blk.{block}")
    return parts


def bert_parts(*, pooling: int, metadata: dict[str, Any] | None = None) -> Parts:
    tokens = _word_vocabulary()
    parts = Parts("bert", _model_metadata("bert"), {})
    parts.metadata |= {
        "general.name": "Tiny Encoder",
        "bert.context_length": 512,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(tokens) - 5),
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    parts.metadata |= metadata or {}
    parts.tensors = {
        "token_embd.weight": _random(parts, len(tokens), WIDTH),
        "token_types.weight": _random(parts, 2, WIDTH),
        "position_embd.weight": _random(parts, 512, WIDTH),
        **_norm("token_embd_norm"),
    }
    for block in range(BLOCKS):
        parts.tensors |= _bert_block(parts, f"blk.{block}")
    return parts


def _model_metadata(architecture: str) -> dict[str, Any]:
    return {
        "general.type": "model",
        "general.file_type": 0,
        f"{architecture}.context_length": CONTEXT,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.block_count": BLOCKS,
        f"{architecture}.feed_forward_length": FEED,
        f"{architecture}.attention.head_count": HEADS,
    }


def _projector_metadata() -> dict[str, Any]:
    return {
        "general.type": "mmproj",
        "general.name": "Tiny Projector",
        "general.file_type": 0,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": IMAGE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": FEED,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.block_count": BLOCKS,
        "clip.vision.attention.head_count": HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def _llama_block(parts: Parts, name: str) -> dict[str, np.ndarray]:
    shared = WIDTH // HEADS * KV_HEADS
    matrices = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (shared, WIDTH),
        "attn_v": (shared, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FEED, WIDTH),
        "ffn_up": (FEED, WIDTH),
        "ffn_down": (WIDTH, FEED),
    }
    norms = {f"{name}.{norm}.weight": np.ones(WIDTH, np.float32) for norm in ("attn_norm", "ffn_norm")}
    return norms | {f"{name}.{matrix}.weight": _random(parts, *shape) for matrix, shape in matrices.items()}


def _bert_block(parts: Parts, name: str) -> dict[str, np.ndarray]:
    tensors = {**_norm(f"{name}.attn_output_norm"), **_norm(f"{name}.layer_output_norm")}
    for matrix in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensors |= _linear(parts, f"{name}.{matrix}", WIDTH, WIDTH)
    return tensors | _linear(parts, f"{name}.ffn_up", FEED, WIDTH) | _linear(parts, f"{name}.ffn_down", WIDTH, FEED)


def _vision_block(parts: Parts, name: str) -> dict[str, np.ndarray]:
    tensors = {**_norm(f"{name}.ln1"), **_norm(f"{name}.ln2")}
    for matrix in ("attn_q", "attn_k", "attn_v", "attn_out"):
        tensors |= _linear(parts, f"{name}.{matrix}", WIDTH, WIDTH)
    return tensors | _linear(parts, f"{name}.ffn_up", FEED, WIDTH) | _linear(parts, f"{name}.ffn_down", WIDTH, FEED)


def _norm(name: str) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}


def _linear(parts: Parts, name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": _random(parts, rows, columns), f"{name}.bias": _random(parts, rows)}


def _random(parts: Parts, *shape: int) -> np.ndarray:
    return (parts.random.standard_normal(shape) * 0.2).astype(np.float32)


def _byte_vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges): GPT-2's 256 printable stand-ins for bytes, a few merges, three special tokens at the end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(rest)}
    merges = ["t h", "th e", "i n", "e r", "a n", "o n", "Ġ the", "an d"]
    tokens = [letters[byte] for byte in range(256)] + [merge.replace(" ", "") for merge in merges]
    return [*tokens, "<|endoftext|>", "<|im_start|>", "<|im_end|>"], merges


def _word_vocabulary() -> list[str]:
    """WordPiece as GGUF writes it: ▁ at the beginning of a word."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"
    words = ("the", "of", "and", "cat", "dog", "capital", "france", "paris", "river", "house")
    begins = [f"▁{letter}" for letter in letters] + [f"▁{word}" for word in words]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *begins, *letters]


def write_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    dense(folder / "dense.gguf")
    quantised(folder / "quantised.gguf")
    split(folder / "split.gguf")
    experts(folder / "experts.gguf")
    embedder(folder / "embedder.gguf")
    reranker(folder / "reranker.gguf")
    vision(folder / "vision.gguf", folder / "mmproj-vision.gguf")
    adapter(folder / "adapter.gguf")
    dense(folder / "looping.gguf", template=LOOPING)
    dense(folder / "exploding.gguf", template=EXPLODING)
    aborting(folder / "aborting.gguf")
    refused(folder / "refused.gguf")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
