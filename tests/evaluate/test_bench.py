"""How fast a model is: that what is measured is what is said. No speed is asserted."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import filbert
import make_tiny
from filbert.core.errors import BadInput, ContextOverflow, EngineError
from filbert.core.jobs import Progress, finish
from filbert.engine.children import Children
from filbert.engine.load_options import LoadOptions
from filbert.engine.transport import Event, Exchange
from filbert.evaluate.bench import Plan, bench_job
from filbert.evaluate.bench_result import HEAD, Bench, Sampled, SpeedTest
from filbert.evaluate.spinning import spinning
from filbert.models import results
from filbert.models.store import in_place
from filbert.report.measurement import Provenance
from running import gone, until

NOTHING = Provenance("m", "0" * 64, "filbert 1", "here", 1, "filbert bench m")
SMALL = Plan(prompt=(8,), generate=(3,), depth=(0, 16), rounds=2)


def measured(path: Path, plan: Plan = SMALL, told: list[Progress] | None = None, **options: Any) -> Bench:
    load = LoadOptions(**{"threads": 1, **options})
    return finish(bench_job(in_place(path), load, plan), (told if told is not None else []).append)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny.dense(tmp_path / "tiny.gguf")


class Asked:
    """What the worker is asked, and what it says that it did: tokens of the prompt, of these remembered, computed; and
    written. busy: the endless loops beside it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **instead: Any) -> None:
        self.prompts: list[list[int]] = []
        self.done: list[tuple[int, int, int, int]] = []
        self.busy: list[int] = []
        send = Children.send

        def recording(
            children: Children, role: Any, route: str, body: Mapping[str, Any], more_s: float = 0
        ) -> Exchange:
            self.prompts.append(body["prompt"])
            self.busy.append(len(loops(os.getpid())))
            return Heard(send(children, role, route, {**body, **instead}, more_s), self.done)

        monkeypatch.setattr(Children, "send", recording)


class Heard:
    def __init__(self, exchange: Exchange, done: list[tuple[int, int, int, int]]) -> None:
        self._exchange, self._done = exchange, done
        self.cancel = exchange.cancel

    def __iter__(self) -> Iterator[Event]:
        timings: dict[str, int] = {}
        for event in self._exchange:
            timings = event.get("timings", timings)
            yield event
        cached, computed = timings["cache_n"], timings["prompt_n"]
        self._done.append((cached + computed, cached, computed, timings["predicted_n"]))


def loops(pid: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(pid).children(recursive=True) if "while True" in " ".join(each.cmdline())]


# What is measured


@pytest.mark.slow
def test_as_many_tokens_are_read_and_written_as_is_said_after_as_many_as_is_said(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    told: list[Progress] = []
    got = measured(starter, Plan(prompt=(24,), generate=(5,), depth=(0, 40), rounds=2), told)
    a_round = [
        (24, 0, 24, 1),  # pp24
        (1, 0, 1, 6),  # tg5: the clock begins with the first
        (40, 0, 40, 1),  # d40 is read, uncounted
        (64, 40, 24, 1),  # pp24 @ d40
        (40, 39, 1, 6),  # tg5 @ d40: the engine computes the last again
    ]
    assert asked.done == [(24, 0, 24, 2), *a_round, *a_round]
    before = [prompt[:40] for prompt in asked.prompts if len(prompt) >= 40]
    assert len(before) == 6
    assert all(each == before[0] for each in before)
    fresh = [
        tuple(prompt[-24:])
        for prompt, (_, _, computed, _) in zip(asked.prompts, asked.done, strict=True)
        if computed == 24
    ]
    assert len(fresh) == len(set(fresh)) == 5
    assert [str(row.test) for row in got.rows] == ["pp24", "tg5", "pp24 @ d40", "tg5 @ d40"]
    assert [(each.done, each.total) for each in told] == [(i, 8) for i in range(9)]


def test_each_test_is_measured_beside_nothing_and_beside_the_busy_in_each_round(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    got = measured(starter, Plan(prompt=(8,), generate=(), depth=(0,), rounds=2, busy=3))
    assert asked.busy == [0, 0, 3, 0, 3]
    assert [(row.busy, row.speed.n) for row in got.rows] == [(0, 2), (3, 2)]
    assert not loops(os.getpid())


def test_a_model_that_would_end_writes_on(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    measured(tiny, Plan(prompt=(), generate=(300,), depth=(0,), rounds=1))
    assert asked.done[-1] == (1, 0, 1, 301)


def test_what_the_engine_did_not_do_is_not_told_as_done(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, cache_prompt=False)
    with pytest.raises(EngineError, match=r"pp8 @ d16 cannot be measured .* computed 24 tokens of 8") as refused:
        measured(tiny)
    assert refused.value.do
    Asked(monkeypatch, max_tokens=2)
    with pytest.raises(EngineError, match=r"tg3 cannot be measured .* computed 1 tokens of 3"):
        measured(tiny)


def test_every_figure_is_told_with_what_it_is_of(starter: Path) -> None:
    got = measured(starter, SMALL, context=512)
    for row in got.rows:
        assert row.speed.n == len(row.seconds) == 2
        assert row.speed.samples == pytest.approx([row.test.tokens / each for each in row.seconds])
        assert (row.first_token_s is not None) == (row.test.kind == "pp")
        if row.first_token_s:
            assert all(wait >= each for wait, each in zip(row.first_token_s.samples, row.seconds, strict=True))
        assert str(row.test) in row.speed.against
    assert got.context == 512
    assert got.planned.prompt_cache == 0
    assert got.planned.own / 4 < got.memory.value < 2 * got.planned.total
    assert got.made_by.model_sha256 == in_place(starter).sha256
    assert got.made_by.threads == 1
    rows = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert [(row["n_prompt"], row["n_gen"], row["n_depth"], row["n_busy"]) for row in rows] == [
        (8, 0, 0, 0),
        (0, 3, 0, 0),
        (8, 0, 16, 0),
        (0, 3, 16, 0),
    ]
    for row, of in zip(rows, got.rows, strict=True):
        assert (row["avg_ts"], row["stddev_ts"], row["samples_ts"]) == (
            of.speed.value,
            of.speed.spread,
            [*of.speed.samples],
        )
        assert row["samples_ns"] == pytest.approx([each * 1e9 for each in of.seconds], abs=1)
        assert row["memory_bytes"]["value"] == got.memory.value
        assert row["model_sha256"] == got.made_by.model_sha256
    assert all(len(cells) == len(HEAD) for cells in got.cells())


def test_what_was_busy_before_is_told_where_it_matters(tiny: Path) -> None:
    from dataclasses import replace

    got = measured(tiny, Plan(prompt=(4,), generate=(), depth=(0,), rounds=1))
    calm, loaded = ("\n".join(replace(got, busy_cores=cores).notes(4)) for cores in (0.1, 2.5))
    assert "Other programs" not in calm
    assert "Other programs kept 2.5 of 4 cores busy" in loaded
    assert "memory of" in calm


def test_python_has_it_too(tiny: Path) -> None:
    got = filbert.bench(tiny, prompt=(4,), generate=(), depth=(0,), rounds=1, context=256)
    (row,) = asyncio.run(filbert.abench(tiny, prompt=(4,), generate=(), depth=(0,), rounds=1, context=256)).rows
    assert got.made_by.command == f"filbert bench {tiny} --prompt 4 --generate 0 --depth 0 --rounds 1 --context 256"
    assert (row.test, row.speed.n) == (SpeedTest("pp", 4), 1)


def test_a_result_is_kept_with_the_model_and_another_threads_beside_it(tiny: Path) -> None:
    plan = Plan(prompt=(4,), generate=(2,), depth=(0,), rounds=1)
    for threads in (1, 1, 2):
        results.keep(measured(tiny, plan, threads=threads, context=256, parallel=2).to_result())
    found = sorted(results.of(in_place(tiny).sha256), key=lambda each: each.settings)
    assert [each.settings for each in found] == [f"{n} threads, context 256, --parallel 2" for n in (1, 2)]
    assert [each.name for each in found[0].measurements] == ["pp4", "tg2", "first token of pp4", "memory"]
    assert "pp4" in str(found[0]) and "tokens/s" in str(found[0]) and "nan" not in str(found[0])


# Spread


def test_the_spread_is_that_of_the_samples() -> None:
    got = Sampled.of([10.0, 12.0, 14.0], "x", NOTHING)
    assert (got.value, got.spread, got.n) == (12, 2, 3)
    assert got.interval == pytest.approx((12 - 4.3027 * 2 / math.sqrt(3), 12 + 4.3027 * 2 / math.sqrt(3)), rel=1e-4)
    assert got.told() == "12.00 ± 2.00"
    assert got.to_json() == {"value": 12, "interval": got.interval, "stddev": 2, "samples": (10, 12, 14)}


def test_one_sample_tells_no_spread() -> None:
    got = Sampled.of([10.0], "x", NOTHING)
    assert got.told(".1f") == "10.0"
    assert json.loads(json.dumps(got.to_json(), allow_nan=False))["stddev"] is None


# What is asked


def test_the_depth_that_nobody_asked_for_is_left_out_where_it_does_not_fit() -> None:
    assert [str(test) for test in Plan().tests(8192)] == ["pp512", "tg128", "pp512 @ d2048", "tg128 @ d2048"]
    assert [str(test) for test in Plan().tests(2048 + 512)] == ["pp512", "tg128", "tg128 @ d2048"]
    assert [str(test) for test in Plan().tests(100)] == ["pp512", "tg128"]
    assert len(Plan(depth=(0, 2048)).tests(100)) == 4
    assert [str(test) for test in Plan(prompt=(0,), generate=(8, 8, 4), depth=(7,)).tests(100)] == [
        "tg8 @ d7",
        "tg4 @ d7",
    ]


def test_what_a_test_takes_of_the_context_is_what_it_needs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    plan = Plan(prompt=(10,), generate=(255 - 32,), depth=(0, 32), rounds=1)
    measured(tiny, plan, context=256)
    assert max(read + written for read, _, _, written in asked.done) == 256
    assert max(test.needs for test in plan.tests(256)) == 256


@pytest.mark.parametrize(
    "plan",
    [
        {"rounds": 0},
        {"busy": -1},
        {"prompt": (-1,)},
        {"depth": (0, -3)},
        {"prompt": (0,), "generate": ()},
        {"depth": ()},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        Plan(**plan)
    assert refused.value.do


def test_more_than_the_context_is_refused_before_anything_is_loaded(
    starter: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Children, "send", lambda *args, **more: pytest.fail("it was loaded"))
    with pytest.raises(ContextOverflow, match=r"pp8 @ d9000 needs 9009 .* has 8192.*trained for no more"):
        measured(starter, Plan(prompt=(8,), depth=(9000,)), context=8192)
    with pytest.raises(ContextOverflow, match=r"tg8 @ d300 needs 309 .* has 256.*a larger --context"):
        measured(starter, Plan(prompt=(), generate=(8,), depth=(300,)), context=256)


def test_a_model_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot do this"):
        measured(make_tiny.embedder(tmp_path / "embedder.gguf"))


def test_the_command_says_all_that_was_asked() -> None:
    load = LoadOptions(threads=1, kv="q8_0", adapters=("a", "b c"), speculation="auto", template="x")
    flags = list(Plan(prompt=(1, 2), generate=(), depth=(0, 5), rounds=3, busy=2).flags(load))
    assert " ".join(flags) == (
        "--prompt 1,2 --generate 0 --depth 0,5 --rounds 3 --busy 2 --kv q8_0 --threads 1 --adapters a --adapters b c"
    )
    assert list(Plan().flags(LoadOptions())) == ["--prompt", "512", "--generate", "128", "--rounds", "5"]


# Other people's work


def test_the_busy_work_without_end_and_are_gone_afterwards() -> None:
    with spinning(2):
        found = loops(os.getpid())
        assert len(found) == 2
        for each in found:
            assert until(lambda each=each: each.cpu_times().user > 0.3)
    assert all(gone(each.pid) for each in found)


def test_the_busy_end_with_who_started_them() -> None:
    script = "import time\nfrom filbert.evaluate.spinning import spinning\nwith spinning(2): print(flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout
    parent.stdout.readline()
    found = loops(parent.pid)
    assert len(found) == 2
    parent.kill()
    parent.wait()
    assert until(lambda: all(gone(each.pid) for each in found))
    parent.stdout.close()
