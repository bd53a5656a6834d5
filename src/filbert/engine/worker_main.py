"""The worker: llama-server inside this process, on a Unix socket in a folder only its owner can enter.

Told once, as the first line of its standard input, what to load; answers {"address": …}, {"error": …}, or
{"devices": …} with the names of those there are when it was told another.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filbert.engine.cards import cards
from filbert.engine.lifeline import bound_memory, heard, open_lifeline
from filbert.engine.speculation import N_MATCH, N_MAX, N_MIN


def parameters(config: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}  # or answers would name the path
    params.chat_template = config["chat_template"]
    if config["projector"]:
        params.mmproj.path = config["projector"]
        params.image_max_tokens = config["image_tokens"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in config["adapters"]]
    if config["socket"]:
        params.hostnames = [config["socket"]]
    params.api_keys = [config["secret"]]
    for name in ("n_ctx", "n_batch", "n_ubatch", "n_parallel", "n_gpu_layers", "cache_ram_mib", "embedding"):
        setattr(params, name, config[name])
    kv = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{config['kv'].upper()}")
    params.cache_type_k = params.cache_type_v = kv
    if config["pooling"]:
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{config['pooling'].upper()}")
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.cache_prompt = not config["apart"]
    if config["speculation"]:
        use_guesses(params.speculative, from_others=not config["apart"])
    use_device(params, config["device"])
    params.kv_unified = True
    params.fit_params = False  # it would change the context behind the person's back
    params.warmup = False  # the first answer warms up as well
    params.offline = True
    params.ui = False
    params.endpoint_slots = params.endpoint_metrics = True
    params.sse_ping_interval = -1  # a ping would hide a decoder that hangs
    params.n_threads_http = config["n_parallel"] + 4
    params.verbosity = 1
    return params


def use_guesses(speculative: Any, from_others: bool) -> None:
    """from_others: from all that was ever said here, else from each conversation itself."""
    import xllamacpp

    kinds = xllamacpp.common_speculative_type
    if from_others:
        speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_MOD]
        guess = speculative.ngram_mod
        guess.n_match, guess.n_min, guess.n_max = N_MATCH, N_MIN, N_MAX
    else:
        speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        guess = speculative.ngram_simple
        guess.size_n, guess.size_m = N_MIN, N_MAX


def use_device(params: Any, name: str) -> None:
    """Raises LookupError with the names of the devices there are."""
    import xllamacpp

    if name == "auto":
        return
    if name == "cpu":
        params.n_gpu_layers, params.mmproj_use_gpu = 0, False
        params.no_kv_offload = params.no_op_offload = True
        return
    names = [card["name"] for card in cards()]
    if name not in names:
        raise LookupError(", ".join(["auto", "cpu", *names]))
    params.split_mode, params.main_gpu = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE, names.index(name)


@contextmanager
def ended_with_parent() -> Iterator[None]:
    """While a model loads, a chat template that never ends would hold Python's lock, and no thread of ours could see
    the parent go. The kernel then ends this process when the parent's end of standard input closes."""
    if sys.platform != "linux":
        yield
        return
    import fcntl

    flags = fcntl.fcntl(0, fcntl.F_GETFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which nothing here catches
    try:
        yield
    finally:
        fcntl.fcntl(0, fcntl.F_SETFL, flags)


def flush_log() -> None:
    """Why a model was refused is written by a thread of the engine's log, which may come later than the refusal."""
    import ctypes

    try:
        engine = ctypes.CDLL(sys.modules["xllamacpp.xllamacpp"].__file__)
        log, flush = engine._Z15common_log_mainv, engine._Z16common_log_flushP10common_log
    except (KeyError, OSError, AttributeError):  # not loaded, or a system that names functions otherwise
        time.sleep(0.2)
    else:
        log.restype, flush.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        flush(log())


def main() -> None:
    say = open_lifeline()
    said = heard()
    config = next(said)
    bound_memory(config["memory_limit"])
    try:
        import xllamacpp

        with ended_with_parent():
            server = xllamacpp.Server(parameters(config))
    except LookupError as exc:
        say({"devices": str(exc)})
    except (ImportError, RuntimeError) as exc:
        flush_log()
        say({"error": str(exc)})
    else:
        say({"address": server.listening_address})
        for _ in said:
            pass
    shutil.rmtree(config["folder"], ignore_errors=True)
    os._exit(0)  # the engine's own threads are not waited for


main()
