"""The reference's child: the model as its makers' weights and the library `transformers` have it, in 32 bits.

Told once {"folder": …, "prompts": …, "out": …, "threads": …}; writes the logits of every token of each prompt into
`out`, float32, one prompt after the other, and says {"prompt": …} after each, then {"answer": …} with the tokens of
each prompt and how many logits a token has, or {"failed": …}. No code of the model is run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from filbert.engine.lifeline import end_with_parent, heard, open_lifeline

OF_FILES_HERE = {"trust_remote_code": False, "local_files_only": True}


def main() -> None:
    say = open_lifeline()
    config = next(heard())
    end_with_parent()
    torch.set_num_threads(config["threads"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(config["folder"], **OF_FILES_HERE)
        model = AutoModelForCausalLM.from_pretrained(
            config["folder"],
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            **OF_FILES_HERE,
        )
    except Exception as exc:  # noqa: BLE001 whatever it is that the library cannot
        say({"failed": f"{type(exc).__name__}: {exc}"})
        os._exit(0)
    tokens: list[list[int]] = []
    width = 0
    with Path(config["out"]).open("wb") as file, torch.inference_mode():
        for prompt in config["prompts"]:
            tokens.append(tokenizer(prompt).input_ids)
            logits: Any = model(torch.tensor(tokens[-1:])).logits[0].float().numpy()
            logits.tofile(file)
            width = logits.shape[-1]
            say({"prompt": len(tokens)})
    say({"answer": {"tokens": tokens, "width": width}})
    os._exit(0)


if __name__ == "__main__":
    main()
