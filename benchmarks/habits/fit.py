"""`filbert fit` against what really happens: memory, speed, and a look at a 20 GB model on a server.

    python benchmarks/habits/fit.py [memory speed remote]

Memory: the estimate and the peak of a worker whose context is filled, prompt cache off. Speed: this machine is measured
first, then the models are timed at once; the best and the median of five answers, since other programs only make it
slower. Close other programs first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filbert
from filbert.core.settings import configured
from filbert.engine.calibration import calibrated
from filbert.engine.load_options import LoadOptions
from filbert.engine.sampling import Sampling
from filbert.engine.threads import environment
from filbert.face.model import Model
from filbert.models.fit import Demand, estimate
from filbert.models.gguf import read_header
from filbert.models.remote_header import look
from filbert.models.speed import Calibration, predict
from filbert.report.table import table

CHECKOUT = Path(__file__).parents[2]
TESTS = CHECKOUT / "tests" / "models"
SENTENCE = "the cat sleeps by the window while it rains and "
ROUNDS, TOKENS = 5, 32
LONG = 1500


def real_model(which: str) -> Path:
    command = [sys.executable, str(CHECKOUT / "tools" / "fetch_test_models.py"), str(CHECKOUT / ".models"), which]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def memory() -> None:
    rows = []
    for which, contexts in (("starter", (1024, 3072)), ("tools", (1024, 3072)), ("embedder", (256, 512))):
        path, embeds = real_model(which), which == "embedder"
        for context in contexts:
            for kv in ("f16", "q8_0"):
                demand = Demand(kv, batch=context if embeds else 512, pools=embeds)
                peak = peak_bytes(path, context, demand)
                reckoned = estimate([read_header(path)], context, demand).total
                rows.append((which, str(context), kv, *megabytes(reckoned, peak), f"{reckoned / peak:.3f}"))
    print("\nMemory\n" + table(("", "context", "cache", "estimate, MB", "peak, MB", "ratio"), rows), flush=True)


def megabytes(*sizes: int) -> Iterator[str]:
    return (f"{size / 1e6:.0f}" for size in sizes)


def peak_bytes(path: Path, context: int, demand: Demand) -> int:
    text = SENTENCE * ((context - 16) // 11)
    route, body = ("embeddings", {"input": text}) if demand.pools else ("complete", {"prompt": text, "n_predict": 4})
    asked = {"model": str(path), "route": route, "context": context, "batch": demand.batch, "kv_type": demand.kv}
    command = [sys.executable, str(TESTS / "ask_engine.py"), json.dumps({**asked, "parallel": 1, "body": body})]
    done = subprocess.run(command, env={**os.environ, **environment(threads=2)}, capture_output=True, check=True)
    said = json.loads(done.stdout)
    filled = said["answer"]["usage"]["prompt_tokens"] / context
    assert filled > 0.7, f"only {filled:.0%} of the context was filled"
    return int(said["peak_bytes"])


def speed() -> None:
    began, rows = time.perf_counter(), []
    machine = measured()
    print(
        f"\nThis machine was measured in {time.perf_counter() - began:.1f} s, {machine.busy_cores} cores busy before."
    )
    for which in ("starter", "tools"):
        header = read_header(real_model(which))
        with filbert.load(real_model(which), context=2048, parallel=1) as model:
            for context in (0, LONG):
                seen, before = written(model, context)
                expected = predict([header], machine, before).generation or 0
                rows.append(row(which, f"{before} tokens before", expected, seen))
            rows.append(row(which, "prompt", predict([header], machine, 700).prompt, read(model)))
    header = read_header(real_model("embedder"))
    with filbert.load(real_model("embedder")) as model:
        rows.append(row("embedder", "texts of 200 tokens", predict([header], machine, 200).prompt, embedded(model)))
    head = ("", "", "predicted, tokens/s", "best", "median", "predicted ÷ best", "predicted ÷ median")
    print("\nSpeed\n" + table(head, rows), flush=True)


def measured() -> Calibration:
    job = calibrated(configured(LoadOptions), again=True)
    while True:
        try:
            next(job)
        except StopIteration as end:
            found: Calibration = end.value
            return found


def row(which: str, what: str, expected: float, seen: list[float]) -> tuple[str, ...]:
    best, middle = max(seen), statistics.median(seen)
    figures = (f"{expected:.1f}", f"{best:.1f}", f"{middle:.1f}")
    return which, what, *figures, f"{expected / best:.2f}", f"{expected / middle:.2f}"


def written(model: Model, context: int) -> tuple[list[float], int]:
    """Tokens a second of each answer, and tokens before its middle; the prompt is remembered after the first."""
    prompt = SENTENCE * (context // 10) + "Once upon a time"
    replies = [model.complete(prompt, Sampling(max_tokens=TOKENS)).reply() for _ in range(ROUNDS + 1)]
    whole = [reply for reply in replies[1:] if reply.usage.completion_tokens == TOKENS]
    return [reply.finish.timings.generation_tps for reply in whole], replies[0].usage.prompt_tokens + TOKENS // 2


def read(model: Model) -> list[float]:
    replies = [model.complete(f"{number} " + SENTENCE * 64, Sampling(max_tokens=1)).reply() for number in range(3)]
    return [reply.finish.timings.prompt_tps for reply in replies]


def embedded(model: Model) -> list[float]:
    texts, seen = [SENTENCE * 20] * 8, []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        tokens = model.embed(texts).usage.prompt_tokens
        seen.append(tokens / (time.perf_counter() - began))
    return seen[1:]


def remote() -> None:
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    import big_gguf
    from model_servers import serving

    with tempfile.TemporaryDirectory() as folder:
        server = big_gguf.BigServer(big_gguf.write(Path(folder) / "big.gguf"))
        with serving(server):
            began = time.perf_counter()
            looked = look(server.url)
            took = time.perf_counter() - began
    size, served = looked.headers[0].size_bytes, server.served
    print(f"\nRemote: {size / 1e9:.1f} GB looked at in {took:.2f} s, {served / 1e6:.1f} MB read", flush=True)


def main() -> None:
    sections = {"remote": remote, "memory": memory, "speed": speed}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="|".join(sections), help="all of them where none is named")
    named = parser.parse_args().sections
    if unknown := set(named) - set(sections):
        parser.error(f"unknown section: {', '.join(sorted(unknown))}")
    for name in named or sections:
        sections[name]()


if __name__ == "__main__":
    main()
