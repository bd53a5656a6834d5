"""Load a GGUF in the real engine and ask it one thing; a process of its own, for native code may abort.

`python ask_engine.py '{"model": …, "route": "chat", "body": {…}, …}'` prints one line: {"answer": …, "peak_bytes": …}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import xllamacpp


def parameters(asked: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    params.mmproj.path = asked.get("projector", "")
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in asked.get("adapters", [])]
    params.n_ctx = asked.get("context", 512)
    params.n_batch = params.n_ubatch = asked.get("batch", 512)
    params.n_parallel = asked.get("parallel", 1)
    params.cache_ram_mib = 0
    kv = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{asked.get('kv_type', 'f16').upper()}")
    params.cache_type_k = params.cache_type_v = kv
    params.embedding = asked["route"] in ("embeddings", "rerank")
    if params.embedding:
        pooling = {"embeddings": "MEAN", "rerank": "RANK"}[asked["route"]]
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.kv_unified = True
    params.fit_params = params.warmup = params.ui = False
    params.offline = True
    params.verbosity = asked.get("verbosity", 1)
    return params


def peak_bytes() -> int:
    """Of this process since it began (Linux); its files that are mapped into memory count as far as they were read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def main() -> None:
    asked = json.loads(sys.argv[1])
    before = peak_bytes()
    server = xllamacpp.Server(parameters(asked))
    routes = {
        "chat": server.handle_chat_completions,
        "complete": server.handle_completions,
        "embeddings": server.handle_embeddings,
        "rerank": server.handle_rerank,
    }
    answer = routes[asked["route"]](asked["body"])
    print(json.dumps({"answer": answer, "peak_bytes": peak_bytes(), "before_bytes": before}), flush=True)
    os._exit(0)


main()
