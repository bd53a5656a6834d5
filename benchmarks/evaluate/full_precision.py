"""Rebuild a full-precision Hugging Face model folder from a quantised Llama-family GGUF file.

Tests of conversion, quantisation, fidelity and fine-tuning need weights that do *not* lie on a quantisation
grid. Plain dequantisation is not enough: quantising such weights again is (nearly) lossless, which distorts
every 4-bit comparison. So the script dequantises, restores Hugging Face's names and query/key layout, and
moves the weights off the grid:

1. *Function-preserving re-scaling* by seeded log-normal factors (``--sigma``). Logits stay the same up to
   rounding, but each input column gets a factor of its own, so the weights of a block share no grid:
   - RMSNorm gain (divided) <-> columns of the linears that read it (multiplied): q, k, v and gate, up;
   - value rows <-> output-projection columns, per head, shared by a key/value group's query heads;
   - up rows <-> down columns (the gate is left alone: it passes through the SiLU);
   - key rows <-> query rows with reciprocal factors, equal within a rotary pair.
2. *A small perturbation* (``--noise``): Gaussian noise whose Frobenius norm is this fraction of each matrix's,
   far below the 4-bit rounding error of the source (about 8 %): a slightly different, equally good model.
   It also moves the embedding, which has no symmetry to re-scale by.

``--sigma 0 --noise 0`` gives the dequantised model. The result depends on source, options and seed alone.

    python make_full_precision_model.py model.Q4_1.gguf out/ --dtype float32
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType, dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

Array = NDArray[np.float32]
Weights = dict[str, Array]

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{part}": f"self_attn.{part[0]}_proj" for part in ("q", "k", "v", "output")},
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
# Value of ``tokenizer.ggml.pre`` -> how text is split before the byte-pair merges.
PRE_TOKENIZERS = {
    "gpt-2": BYTE_LEVEL,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]),
}


def make_config(meta: dict[str, Any], heads: int, kv_heads: int, *, tied: bool, dtype: str) -> LlamaConfig:
    """The model configuration, from the ``llama.*`` and ``tokenizer.*`` keys."""
    if meta["general.architecture"] != "llama":
        raise SystemExit(f"only the llama architecture is supported, not {meta['general.architecture']}")
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        rope_parameters={"rope_type": "default", "rope_theta": meta.get("llama.rope.freq_base", 10000.0)},
        bos_token_id=meta["tokenizer.ggml.bos_token_id"],
        eos_token_id=meta["tokenizer.ggml.eos_token_id"],
        pad_token_id=meta.get("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=tied,
        dtype=dtype,
    )


def unpermute(weight: Array, heads: int) -> Array:
    """Undo the row order llama.cpp uses for rotary pairs (adjacent rows) in favour of HF's (half-split)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_weights(reader: GGUFReader, heads: int, kv_heads: int) -> Weights:
    """Dequantised tensors under Hugging Face names."""
    weights: Weights = {}
    for tensor in reader.tensors:
        value = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        prefix, _, rest = tensor.name.partition(".")
        if prefix in TOP_NAMES:
            weights[f"{TOP_NAMES[prefix]}.weight"] = value
        elif prefix == "blk":
            layer, name, _ = rest.split(".")
            if name in ("attn_q", "attn_k"):
                value = unpermute(value, heads if name == "attn_q" else kv_heads)
            weights[f"model.layers.{layer}.{LAYER_NAMES[name]}.weight"] = value
        else:
            raise SystemExit(f"unexpected tensor {tensor.name}")
    return weights


def rescale(weights: Weights, heads: int, kv_heads: int, sigma: float, rng: np.random.Generator) -> None:
    """Multiply by log-normal factors and their reciprocals, in place, so that the model's function stays."""

    def factors(*shape: int) -> Array:
        return np.exp(rng.normal(0.0, sigma, shape)).astype(np.float32)

    group, layer = heads // kv_heads, 0
    while (prefix := f"model.layers.{layer}.") + "mlp.up_proj.weight" in weights:
        w = {short: weights[f"{prefix}{name}.weight"] for short, name in LAYER_NAMES.items()}
        hidden_size, width = w["ffn_up"].shape
        head_size = w["attn_k"].shape[0] // kv_heads
        for norm, *readers in (("attn_norm", "attn_q", "attn_k", "attn_v"), ("ffn_norm", "ffn_gate", "ffn_up")):
            column = factors(width)
            w[norm] /= column
            for name in readers:
                w[name] *= column
        value = factors(kv_heads, head_size)
        w["attn_v"] *= value.reshape(-1, 1)
        w["attn_output"] /= np.repeat(value, group, axis=0).reshape(1, -1)
        hidden = factors(hidden_size)
        w["ffn_up"] *= hidden[:, None]
        w["ffn_down"] /= hidden
        pair = np.tile(factors(kv_heads, head_size // 2), (1, 2))
        w["attn_k"] *= pair.reshape(-1, 1)
        w["attn_q"] /= np.repeat(pair, group, axis=0).reshape(-1, 1)
        layer += 1


def perturb(weights: Weights, noise: float, rng: np.random.Generator) -> None:
    """Add Gaussian noise to every matrix, in place; its Frobenius norm is ``noise`` times the matrix's."""
    for value in weights.values():
        if value.ndim == 2:
            delta = rng.standard_normal(value.shape, dtype=np.float32)
            delta *= noise * np.linalg.norm(value) / np.linalg.norm(delta)
            value += delta


def make_tokenizer(meta: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the file's vocabulary, merges, special tokens and chat template."""
    kind, pre = meta["tokenizer.ggml.model"], meta["tokenizer.ggml.pre"]
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        raise SystemExit(f"only byte-level BPE with a known split is supported, not {kind}/{pre}")
    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, meta["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in kinds if k == TokenType.CONTROL])
    named = {
        f"{role}_token": tokens[meta[key]]
        for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (key := f"tokenizer.ggml.{name}_token_id") in meta
    }
    template, length = meta.get("tokenizer.chat_template"), meta["llama.context_length"]
    options = {"chat_template": template, "model_max_length": length, "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options, **named)  # type: ignore[no-untyped-call]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save with the chat template inside tokenizer_config.json and a class name every version can load."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path, help="source file, Llama architecture, byte-level BPE tokenizer")
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--sigma", type=float, default=0.2, help="spread of the log-normal factors (default 0.2)")
    parser.add_argument("--noise", type=float, default=0.005, help="relative norm of the noise (default 0.005)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    args = parser.parse_args()
    reader = GGUFReader(args.gguf)
    meta = {name: field.contents() for name, field in reader.fields.items()}
    heads = meta["llama.attention.head_count"]
    kv_heads = meta.get("llama.attention.head_count_kv", heads)
    weights = read_weights(reader, heads, kv_heads)
    config = make_config(meta, heads, kv_heads, tied="lm_head.weight" not in weights, dtype=args.dtype)
    rng = np.random.default_rng(args.seed)
    rescale(weights, heads, kv_heads, args.sigma, rng)
    perturb(weights, args.noise, rng)

    args.folder.mkdir(parents=True, exist_ok=True)
    stored = {name: np.ascontiguousarray(value.astype(args.dtype)) for name, value in weights.items()}
    save_file(stored, args.folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(args.folder)
    ids = {key: getattr(config, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(**ids).save_pretrained(args.folder)  # type: ignore[no-untyped-call]
    save_tokenizer(make_tokenizer(meta), args.folder)
    print(f"wrote {args.folder}: {len(stored)} tensors, {sum(v.size for v in stored.values()) / 1e6:.1f} M weights")


if __name__ == "__main__":
    main()
