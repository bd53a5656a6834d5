"""A model at its maker's defaults, in a process of its own: the peer (llama-cpp-python) or the bare engine wheel.

    python speaker.py peer|wheel MODEL CONTEXT THREADS

Reads {"prompt": …, "tokens": …} a line and answers, a line each, {"arrivals": …, "prompt_tokens": …}; arrivals are
seconds since asked, one a token.
Imports nothing of Filbert: the peer lives in an environment of its own.
"""

import json
import os
import sys
import time

OURS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def peer(model: str, context: int, threads: int):
    from llama_cpp import Llama

    llama = Llama(model, n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False)

    def answer(prompt: str, tokens: int, began: float) -> tuple[list[float], int]:
        llama.reset()
        arrivals = [
            time.perf_counter() - began
            for _ in llama.create_completion(prompt, max_tokens=tokens, temperature=0.8, stream=True, logit_bias=NO_END)
        ]
        return arrivals, len(llama.tokenize(prompt.encode()))

    NO_END = {llama.token_eos(): -100.0, 0: -100.0}
    return answer


def wheel(model: str, context: int, threads: int):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    server = xllamacpp.Server(params)

    def answer(prompt: str, tokens: int, began: float) -> tuple[list[float], int]:
        arrivals: list[float] = []
        counts: list[int] = []

        def heard(event: dict) -> bool:
            counts.append(event.get("timings", {}).get("prompt_n", 0))
            if event.get("choices") and event["choices"][0].get("text"):
                arrivals.append(time.perf_counter() - began)
            return False

        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0.8, "stream": True, "ignore_eos": True}
        server.handle_completions(body, heard)
        return arrivals, max(counts)

    return answer


def main() -> None:
    kind, model, context, threads = sys.argv[1:5]
    answer = {"peer": peer, "wheel": wheel}[kind](model, int(context), int(threads))
    print("ready", file=OURS, flush=True)
    for line in sys.stdin:
        wish = json.loads(line)
        arrivals, prompt_tokens = answer(wish["prompt"], wish["tokens"], time.perf_counter())
        print(json.dumps({"arrivals": arrivals, "prompt_tokens": prompt_tokens}), file=OURS, flush=True)


main()
