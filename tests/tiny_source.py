"""Models of random weights as Hugging Face keeps them, small enough to convert in a second: made by `transformers`, which
only the environment of `make test-torch` has.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, FEED, HEADS, KV_HEADS, BLOCKS, RANK, IMAGE = 64, 128, 4, 2, 2, 4, 56
TEXT = Path(__file__).parent / "data/war-and-peace.txt"
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}"
CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\ntags:\n- tiny\n---\n\n# Tiny\n"


def llama(folder: Path, *, seed: int = 0, strength: float = 4.0, shard: str = "5GB") -> Path:
    """strength: how much larger its weights are than at birth: only then is one token likelier than another. shard: the
    most that a file of weights holds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    n_vocab = _tokenizer(folder)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=n_vocab, **_language()))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(strength)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    return folder


def idefics(folder: Path) -> Path:
    """What sees, as SmolVLM does: 56 x 56 pixels become four vectors of the same language model."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    n_vocab = _tokenizer(folder, ("\n", "\n\n", "<fake_token_around_image>", "<global-img>"))
    torch.manual_seed(0)
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": FEED,
        "num_attention_heads": HEADS,
        "num_hidden_layers": BLOCKS,
        "image_size": IMAGE,
        "patch_size": 14,
    }
    language = LlamaConfig(vocab_size=n_vocab, architectures=["VLlama3ForCausalLM"], **_language())
    config = Idefics3Config(vision_config=tower, text_config=language, scale_factor=2, image_token_id=n_vocab - 1)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"longest_edge": IMAGE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def adapter(folder: Path, seed: int = 1) -> Path:
    """A LoRA adapter of `llama`, as peft writes it."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    tensors = {}
    for block in range(BLOCKS):
        for name, rows in (("q_proj", WIDTH), ("v_proj", WIDTH // HEADS * KV_HEADS)):
            stem = f"base_model.model.model.layers.{block}.self_attn.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, WIDTH)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, RANK) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def _language() -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": FEED,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _tokenizer(folder: Path, marks: Sequence[str] = ()) -> int:
    """SentencePiece's, with its template and the model's card; how many tokens it has. marks: texts that are a token
    each."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.read_text("utf-8").splitlines()),
        model_writer=made,
        vocab_size=512,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=list(marks),
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    told = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "README.md").write_text(CARD)
    return 512
