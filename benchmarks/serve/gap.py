"""What a running stream notices of a neighbour who sends 3,600 prompt tokens (target: the 99th percentile of its gaps
is 1.5 s at most), by the size of the pieces in which prompts are read, and the prompt speed that smaller pieces cost.

    python benchmarks/serve/gap.py [--rounds 1] [--batch 64 128 256]

A server each, asked in turn. Close other programs first: gaps grow with whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
from neighbours import CONTEXT, FOR_EVER, MODEL, long_prompt, serving

from filbert.models.batch import BATCH, LEAST_BATCH
from filbert.report.table import table

BEFORE = 20  # tokens of the stream, until the neighbour comes


class Stream:
    """An endless answer, read in a thread of its own: when each of its events came."""

    def __init__(self, address: str) -> None:
        self.arrivals: list[float] = []
        self._runs, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, args=(address,), daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        self._runs.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join()

    def gaps(self, since: float, until: float) -> list[float]:
        """Between the events from the last one before `since` to the first one after `until`."""
        times = list(self.arrivals)
        first = max(i for i, at in enumerate(times) if at <= since)
        last = next((i for i, at in enumerate(times) if at >= until), len(times) - 1)
        return [after - before for before, after in zip(times[first:last], times[first + 1 : last + 1], strict=True)]

    def _read(self, address: str) -> None:
        body = {"model": MODEL, "prompt": "x", "grammar": FOR_EVER, "max_tokens": 3000, "stream": True}
        try:
            with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=600) as answer:
                answer.raise_for_status()
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        self.arrivals.append(time.perf_counter())
                    if len(self.arrivals) >= BEFORE:
                        self._runs.set()
                    if self._left.is_set():
                        break
        finally:
            self._runs.set()  # whoever waits finds no arrivals where it failed


@dataclass(frozen=True, slots=True)
class Found:
    """Prompt tokens a second alone and beside a stream, and that stream's gaps in seconds."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def read_prompt(address: str) -> tuple[int, float, float]:
    """Tokens of a long prompt, when it was sent, and when its first token came."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": long_prompt()}], "max_tokens": 1}
    began = time.perf_counter()
    answer = httpx.post(f"{address}/v1/chat/completions", content=json.dumps(body), timeout=600).raise_for_status()
    return answer.json()["usage"]["prompt_tokens"], began, time.perf_counter()


def measure(address: str, found: Found) -> None:
    tokens, began, ended = read_prompt(address)
    found.alone.append(tokens / (ended - began))
    with Stream(address) as stream:
        tokens, began, ended = read_prompt(address)
        while stream.arrivals[-1] < ended:
            time.sleep(0.01)
    found.beside.append(tokens / (ended - began))
    found.gaps.extend(stream.gaps(began, ended))


def percentile_99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[LEAST_BATCH, BATCH // 2, BATCH])
    chosen = parser.parse_args()
    print("Load at the start:", *(f"{load:.2f}" for load in os.getloadavg()))
    found = {batch: Found() for batch in chosen.batch}
    with ExitStack() as servers:
        addresses = {
            batch: servers.enter_context(serving(*CONTEXT, "--batch", str(batch)))[0] for batch in chosen.batch
        }
        for _ in range(chosen.rounds):
            for batch, address in addresses.items():
                measure(address, found[batch])
    fastest = max(statistics.median(each.alone) for each in found.values())
    rows = [
        (
            f"{batch} (unmeasured machine)" if batch == BATCH else str(batch),
            f"{statistics.median(each.alone):.0f}",
            f"{statistics.median(each.alone) / fastest:.2f}",
            f"{statistics.median(each.beside):.0f}",
            f"{percentile_99(each.gaps):.2f}",
            f"{statistics.median(each.gaps):.2f}",
            str(len(each.gaps)),
        )
        for batch, each in found.items()
    ]
    print("A stream beside a neighbour's prompt; speeds in tokens/s, gaps in seconds (target 1.5)")
    print(table(("batch", "prompt alone", "÷ fastest", "beside", "gap, p99", "median", "gaps"), rows))


if __name__ == "__main__":
    main()
