"""all-MiniLM-L6-v2 from safetensors to GGUF with numpy alone: llama.cpp's own converter needs torch.

Tensors, vocabulary and settings are those that llama.cpp's `convert_hf_to_gguf.py --outtype f16` writes, in the same
order; of its general.* descriptions (data sets, tags, languages) only name and licence are kept.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Read = Callable[[str], bytes]  # a file of the model by its name in the model's folder
Array = np.ndarray[Any, np.dtype[np.float32]]
SPECIAL_IDS = {"bos": "cls", "eos": "sep", "unknown": "unk", "seperator": "sep", "padding": "pad", "mask": "mask"}


def convert(read: Read, target: Path) -> None:
    """Write `target`. The same input makes the same bytes."""
    config = json.loads(read("config.json"))
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_type("model")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    add_shape(writer, config)
    add_vocabulary(writer, read("vocab.txt").decode().splitlines(), json.loads(read("special_tokens_map.json")))
    add_tensors(writer, safetensors(read("model.safetensors")), config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_token_type_count(config["type_vocab_size"])


def add_vocabulary(writer: gguf.GGUFWriter, words: list[str], special: dict[str, str]) -> None:
    """WordPiece as llama.cpp has it: ▁ before a word that begins, no ## before one that goes on."""
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")  # the converter's name for it; the engine reads it for BPE only
    writer.add_token_list([word if word in special.values() else phantom_space(word) for word in words])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if word in special.values() else kinds.NORMAL for word in words])
    for key, role in SPECIAL_IDS.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", words.index(special[f"{role}_token"]))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", True)


def phantom_space(word: str) -> str:
    return word[2:] if word.startswith("##") else "\u2581" + word


def add_tensors(writer: gguf.GGUFWriter, tensors: Iterator[tuple[str, Array]], blocks: int) -> None:
    """Matrices in F16; biases, norms, positions and token types in F32."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, blocks)
    for name, tensor in tensors:
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if ours is None:  # the pooler, which a mean of the last layer does without
            continue
        in_full = tensor.ndim < 2 or ours in ("position_embd.weight", "token_types.weight")
        writer.add_tensor(ours, tensor if in_full else tensor.astype(np.float16))


def safetensors(data: bytes) -> Iterator[tuple[str, Array]]:
    """The F32 tensors of a safetensors file: a header's length (8 bytes), the header as JSON, the bytes."""
    (length,) = struct.unpack_from("<Q", data)
    body = memoryview(data)[8 + length :]
    for name, about in json.loads(data[8 : 8 + length]).items():
        if about.get("dtype") == "F32":
            begin, end = about["data_offsets"]
            yield name, np.frombuffer(body[begin:end], np.float32).reshape(about["shape"])
