"""Speed and memory of running a model: one command, a table with the ratios of one run.

    python benchmarks/run/run.py [--peer PYTHON] [--rounds 5] [idle prompt busy speculation start memory install]

PYTHON is an interpreter that has `llama-cpp-python` 0.3.36, compiled for this machine: `make benchmark` makes one in
`.peer`. Without it the peer's rows are left out, and said. Ways are asked in turn, round by round, and compared by the
median; prompts are fresh; speculation is off unless it is the subject. Close other programs first: the load at the
start is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from difflib import SequenceMatcher
from importlib.metadata import version
from pathlib import Path

import psutil
from ways import CONTEXT, NAMES, Ours, Way, fresh_prompt, ours, over_http, speaker

import filbert
from filbert.core import machine
from filbert.core.errors import EngineStalled
from filbert.core.settings import configured
from filbert.engine import threads
from filbert.engine.sampling import Sampling
from filbert.evaluate.spinning import spinning
from filbert.face.model import Model
from filbert.models import fit, store
from filbert.report.table import table

CHECKOUT = Path(__file__).parents[2]
FILBERT = Path(sys.executable).with_name("filbert")
TOKENS = 96
WORDS = 700  # of a long prompt: about 1,000 tokens
ROUNDS = "how often each way is asked; there are eleven pages to copy"
SYSTEM = {"openmp": "system"}
UNBOUND = {"OMP_PROC_BIND": "false"}
BOUND = {"OMP_PROC_BIND": "true"}
LONG = {"KMP_BLOCKTIME": "200ms"}  # the runtime's own default
STATIC: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "LLVM": ({**UNBOUND, **LONG}, {}),
    "LLVM, blocktime 500 µs": ({**UNBOUND, "KMP_BLOCKTIME": "500us"}, {}),
    "LLVM, blocktime 1 ms": ({**UNBOUND, "KMP_BLOCKTIME": "1ms"}, {}),
    "LLVM, bound": ({**BOUND, **LONG}, {}),
    "LLVM, bound, blocktime 50 µs": ({**BOUND, "KMP_BLOCKTIME": "50us"}, {}),
    "LLVM, bound, blocktime 1 ms": ({**BOUND, "KMP_BLOCKTIME": "1ms"}, {}),
    "LLVM, dynamic": ({**UNBOUND, **LONG, "OMP_DYNAMIC": "true"}, {}),
    "LLVM, one thread": (UNBOUND, {"threads": 1}),
    "GNU": (UNBOUND, SYSTEM),
    "GNU, spin 1000": ({**UNBOUND, "GOMP_SPINCOUNT": "1000"}, SYSTEM),
    "GNU, spin 30000": ({**UNBOUND, "GOMP_SPINCOUNT": "30000"}, SYSTEM),
    "GNU, bound, spin 1000": ({**BOUND, "GOMP_SPINCOUNT": "1000"}, SYSTEM),
    "GNU, one thread": (UNBOUND, {**SYSTEM, "threads": 1}),
}


def generation(way: Way) -> float:
    return way.ask(fresh_prompt(20), TOKENS).generation_tps


def prompt(way: Way) -> float:
    return way.ask(fresh_prompt(WORDS), 2).prompt_tps


def in_turn(ways: dict[str, Way], measure: Callable[[Way], float], rounds: int) -> dict[str, list[float]]:
    for way in ways.values():
        way.ask(fresh_prompt(5), 8)
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seen[name].append(measure(way))
    return seen


def print_against(title: str, seen: dict[str, list[float]], base: str, unit: str = "tokens/s") -> None:
    middle = {name: statistics.median(values) for name, values in seen.items()}
    rows = [
        (name, f"{middle[name]:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{middle[name] / middle[base]:.3f}")
        for name, values in seen.items()
    ]
    print(f"\n{title}\n" + table(("", unit, "least", "most", f"÷ {base}"), rows), flush=True)


def idle(options: argparse.Namespace) -> None:
    """Generation, and the same through HTTP."""
    with ExitStack() as open_ways:
        enter = open_ways.enter_context
        ways: dict[str, Way] = {"filbert.load": enter(ours()), "filbert serve": enter(over_http())}
        ways["bare wheel"] = enter(speaker("wheel", sys.executable, threads.environment(machine.cores())))
        if options.peer:
            ways["llama-cpp-python"] = enter(speaker("peer", options.peer))
        base = "llama-cpp-python" if options.peer else "bare wheel"
        print_against("Generation, idle", in_turn(ways, generation, options.rounds), base)


def prompts(options: argparse.Namespace) -> None:
    """Prompt processing: the wheel is the measure, since its kernels are what we ship."""
    with ExitStack() as open_ways:
        enter = open_ways.enter_context
        ways: dict[str, Way] = {"filbert.load": enter(ours())}
        ways["bare wheel"] = enter(speaker("wheel", sys.executable, threads.environment(machine.cores())))
        if options.peer:
            ways["llama-cpp-python"] = enter(speaker("peer", options.peer))
        print_against("Prompt, idle", in_turn(ways, prompt, options.rounds), "bare wheel")


def busy(options: argparse.Namespace) -> None:
    """One spinning process a core; each static setting idle and busy in turn, the peer at its defaults beside them."""
    kinds = {"shipped": ({}, {}), **STATIC}
    calm: dict[str, list[float]] = {name: [] for name in kinds}
    loaded: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(max(2, options.rounds // 2)):
        for name, (environment, load) in kinds.items():
            with ours(environment, stall_s=20, **load) as way:
                calm[name] += [generation(way) for _ in range(2)]
                with spinning(machine.cores()):
                    loaded[name] += [_or_zero(way) for _ in range(3)]
        if options.peer:
            with speaker("peer", options.peer) as way:
                calm.setdefault("llama-cpp-python", []).extend(generation(way) for _ in range(2))
                with spinning(machine.cores()):
                    loaded.setdefault("llama-cpp-python", []).append(_short(way))
    shipped = statistics.median(calm["shipped"])
    rows = [
        (
            name,
            f"{statistics.median(calm[name]):.1f}",
            f"{statistics.median(loaded[name]):.1f}",
            f"{min(loaded[name]):.1f}",
            f"{statistics.median(calm[name]) / shipped:.2f}",
            f"{statistics.median(loaded[name]) / shipped:.2f}",
        )
        for name in calm
    ]
    head = ("", "idle tokens/s", "busy tokens/s", "least", "idle ÷ shipped idle", "busy ÷ shipped idle")
    print(f"\nBusy: {machine.cores()} spinning processes\n" + table(head, rows))
    best_busy = max(statistics.median(loaded[name]) for name in STATIC)
    best_idle = max(statistics.median(calm[name]) for name in STATIC)
    print(f"shipped busy ÷ best static busy: {statistics.median(loaded['shipped']) / best_busy:.2f}")
    print(f"shipped idle ÷ best static idle: {shipped / best_idle:.2f}", flush=True)


def _or_zero(way: Ours) -> float:
    """A setting under which nothing comes within the time counts as 0."""
    try:
        return way.ask(fresh_prompt(20), 48).generation_tps
    except EngineStalled:
        return 0.0


def _short(way: Way) -> float:
    return way.ask(fresh_prompt(20), 16).generation_tps


def speculation(options: argparse.Namespace) -> None:
    """Fresh prose by the starter; a page of a novel repeated by a model that can. The starter loses its place within a
    line, so what it makes of the same question is shown as well, with the share that was copied."""
    for title, name, ask in (
        ("Copying 1,500 characters, Qwen2.5-Coder 0.5B", real_model("tools"), copying),
        ("Copying 1,500 characters, SmolLM2 135M", "smollm2:135m", copying),
        ("Fresh prose, SmolLM2 135M", "smollm2:135m", prose),
    ):
        seen: dict[str, list[float]] = {"off": [], "auto": []}
        copied: list[float] = []
        with ExitStack() as open_models:
            models = [
                open_models.enter_context(filbert.load(name, context=CONTEXT, speculation=setting)) for setting in seen
            ]
            for model in models:
                answered(model, "hi", 4, 0.8)
            for number in range(options.rounds):
                for speed, model in zip(seen.values(), models, strict=True):
                    tokens_per_second, share = ask(model, number)
                    speed.append(tokens_per_second)
                    copied.append(share)
        print_against(f"Speculation: {title}", seen, "off")
        if ask is copying:
            print(f"copied: {statistics.median(copied):.0%} of the text (median)", flush=True)


def copying(model: Model, number: int) -> tuple[float, float]:
    """Tokens a second, and the share of the text that was copied."""
    text = page(number)
    said, tokens_per_second = answered(model, f"Repeat this text word for word:\n\n{text}", 400, 0.3)
    return tokens_per_second, SequenceMatcher(None, text, said, autojunk=False).ratio()


def prose(model: Model, number: int) -> tuple[float, float]:
    things = [random.choice(NAMES) for _ in range(3)]
    _, tokens_per_second = answered(model, f"{number}. Write a story about a {', a '.join(things)}.", 200, 0.8)
    return tokens_per_second, 0


def answered(model: Model, question: str, tokens: int, temperature: float) -> tuple[str, float]:
    said, arrivals, count = "", [], 0
    for chunk in model.generate(question, max_tokens=tokens, temperature=temperature):
        said += chunk.text
        arrivals.append(time.perf_counter())
        if chunk.finish:
            count = chunk.finish.usage.completion_tokens
    return said, (count - 1) / (arrivals[-1] - arrivals[0])


def page(number: int) -> str:
    """1,500 characters on one line. No two pages share a sentence, since the engine remembers what it has read."""
    book = " ".join((CHECKOUT / "tests/data/war-and-peace.txt").read_text().split())
    return book[1500 * number :][:1500].partition(" ")[2].rpartition(" ")[0]


def real_model(kind: str) -> str:
    """A real model of the tests; its path."""
    folder = os.environ.get("FILBERT_TEST_MODELS", str(CHECKOUT / ".models"))
    command = [sys.executable, str(CHECKOUT / "tools/fetch_test_models.py"), folder, kind]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def start(options: argparse.Namespace) -> None:
    """Cold start to the first byte of output, files in the page cache; and what the import alone takes."""
    commands = {
        "filbert chat, first token": [str(FILBERT), "chat", "-m", "smollm2:135m", "--quiet", "hi"],
        "filbert --version": [str(FILBERT), "--version"],
    }
    seen: dict[str, list[float]] = {name: [] for name in (*commands, "import filbert")}
    for _ in range(options.rounds + 1):
        for name, command in commands.items():
            seen[name].append(_first_byte_ms(command))
        seen["import filbert"].append(_import_ms())
    print_against("Start", {name: values[1:] for name, values in seen.items()}, "filbert chat, first token", "ms")


def _first_byte_ms(command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read(1)
        took = time.perf_counter() - began
        process.kill()
    return took * 1000


def _import_ms() -> float:
    """Without the start of Python itself."""
    code = "import time; began = time.perf_counter(); import filbert; print(time.perf_counter() - began)"
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(said) * 1000


def install(options: argparse.Namespace) -> None:
    """The base package into an environment of its own, pip's cache warm: the first round fills it, uncounted."""
    rounds = [_installed() for _ in range(2)]
    rows = [(f"{seconds:.1f}", f"{size_mb:.0f}") for seconds, size_mb in rounds[1:]]
    print("\nInstall\n" + table(("s", "MB"), rows), flush=True)


def _installed() -> tuple[float, float]:
    """Seconds it took, megabytes on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / ".venv"
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin/pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", CHECKOUT / "constraints.txt", CHECKOUT], check=True)
        took = time.perf_counter() - began
        size = sum(path.lstat().st_size for path in environment.rglob("*"))
    return took, size / 1e6


def memory(options: argparse.Namespace) -> None:
    """The peak of the caller and its worker, the context filled once, against what `fit` says and the file's size."""
    with ours() as way:
        model = way.model
        list(model.complete(fresh_prompt(WORDS * 4)[:9000], configured(Sampling, {"max_tokens": 32})))
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        peak = sum(_peak_bytes(process.pid) for process in processes)
        demand = fit.Demand(parallel=model.options.parallel, prompt_cache_bytes=model.prompt_cache_mib << 20)
        parts = fit.estimate([model.header], CONTEXT, demand)
    size = store.resolve("smollm2:135m").size_bytes
    allowed = size + parts.kv_cache + parts.compute + parts.prompt_cache + 150e6
    rows = [
        ("peak of all processes", f"{peak / 1e6:.0f}"),
        ("file", f"{size / 1e6:.0f}"),
        ("key/value cache", f"{parts.kv_cache / 1e6:.0f}"),
        ("compute buffers", f"{parts.compute / 1e6:.0f}"),
        ("prompt cache, at most", f"{parts.prompt_cache / 1e6:.0f}"),
        ("allowed: file + these + 150", f"{allowed / 1e6:.0f}"),
        ("allowed without the prompt cache", f"{(allowed - parts.prompt_cache) / 1e6:.0f}"),
    ]
    print("\nMemory\n" + table(("", "MB"), rows), flush=True)


def _peak_bytes(pid: int) -> int:
    """Peak resident size; Linux only."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - a process, not a file of ours
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


SECTIONS = {
    "idle": idle,
    "prompt": prompts,
    "busy": busy,
    "speculation": speculation,
    "start": start,
    "memory": memory,
    "install": install,
}


def describe() -> Iterable[str]:
    yield f"{machine.processor()}, {machine.cores()} cores; {machine.busy_cores(1.0):.1f} cores busy before the start"
    yield f"filbert {version('filbert')}, xllamacpp {version('xllamacpp')}, {machine.cores()} threads"
    yield f"smollm2:135m, sha256 {store.resolve('smollm2:135m').sha256[:12]}; again: python {' '.join(sys.argv)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), metavar="section", help=", ".join(SECTIONS))
    parser.add_argument(
        "--peer", default=os.environ.get("FILBERT_PEER_PYTHON", ""), help="a Python with llama-cpp-python"
    )
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 12), metavar="1–11", help=ROUNDS)
    options = parser.parse_args()
    store.resolve_or_pull("smollm2:135m")
    print("\n".join(describe()))
    if not options.peer:
        print("No --peer: the rows of llama-cpp-python are left out.")
    for name in options.sections:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
