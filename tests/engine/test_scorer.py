"""The scorer's child: what it decodes, and what happens when it, or its caller, comes to an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import make_tiny
from filbert import Model
from filbert.core.errors import BadInput, BadModelFile, Cancelled, ContextOverflow, EngineCrashed, EngineStalled
from filbert.core.jobs import Job
from filbert.engine.child import Child
from filbert.engine.score_and_perplexity import perplexity_job
from filbert.engine.scorer import Scored, Scorer, Window
from filbert.models.store import in_place
from running import gone, until

TEXT = (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")
PROMPT = "The old house by the river had been empty for years, until one winter"
ENDINGS = [" morning", " a family moved in.", " night a light was seen in the upper window", " morning"]


@pytest.fixture(scope="module")
def scorer(starter: Path) -> Iterator[Scorer]:
    with Scorer(in_place(starter)) as scorer:
        yield scorer


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Scorer]:
    with Scorer(in_place(make_tiny.dense(tmp_path / "tiny.gguf")), threads=1) as scorer:
        yield scorer


def loglikelihoods(scored: list[Scored]) -> list[float]:
    values = [one.loglikelihood for one in scored]
    assert None not in values
    return values  # type: ignore[return-value]


def finished(job: Job[list[Window]]) -> list[Window]:
    while True:
        try:
            next(job)
        except StopIteration as end:
            windows: list[Window] = end.value
            return windows


# What is decoded


def test_a_shared_prompt_is_decoded_once_and_the_last_token_of_an_ending_never(scorer: Scorer) -> None:
    prefix, *endings = scorer.tokenize([PROMPT, *ENDINGS])
    before = scorer.n_decoded
    scorer.score(prefix, endings)
    assert scorer.n_decoded - before == len(prefix) + sum(len(ending) - 1 for ending in endings)


def test_endings_scored_together_get_what_each_gets_alone(scorer: Scorer) -> None:
    prefix, *endings = scorer.tokenize([PROMPT, *ENDINGS])
    together = scorer.score(prefix, endings)
    alone = [scorer.score(prefix, [ending])[0] for ending in endings]
    assert loglikelihoods(together) == pytest.approx(loglikelihoods(alone), abs=0.05)
    assert [one.tokens for one in together] == [len(ending) for ending in endings]
    assert together[0] == together[3]


def test_more_endings_than_sequences_and_than_cells_are_scored_in_turns(tmp_path: Path) -> None:
    stored = in_place(make_tiny.dense(tmp_path / "tiny.gguf"))
    with Scorer(stored, threads=1, context=128) as small, Scorer(stored, threads=1) as large:
        prefix, *endings = large.tokenize([PROMPT[:60], *(f" ending {number} of many" for number in range(100))])
        before = small.n_decoded
        found = small.score(prefix, endings)
        assert small.n_decoded - before == len(prefix) + sum(len(ending) - 1 for ending in endings)
        assert loglikelihoods(found) == pytest.approx(loglikelihoods(large.score(prefix, endings)), abs=0.05)


def test_the_likelihood_of_two_tokens_is_that_of_one_after_the_other(tiny: Scorer) -> None:
    prefix, ending = tiny.tokenize([PROMPT, ENDINGS[1]])
    (whole,) = tiny.score(prefix, [ending])
    steps = [tiny.score(prefix + ending[:i], [[token]])[0] for i, token in enumerate(ending)]
    assert whole.loglikelihood == pytest.approx(sum(loglikelihoods(steps)), abs=0.05)
    assert whole.greedy == all(step.greedy for step in steps)


def test_an_ending_the_model_would_write_itself_is_greedy(scorer: Scorer) -> None:
    prefix, paris, london = scorer.tokenize(["The capital of France is", " Paris", " London"])
    assert [one.greedy for one in scorer.score(prefix, [paris, london])] == [True, False]


def test_half_a_surrogate_pair_is_replaced_and_nothing_breaks(scorer: Scorer) -> None:
    assert scorer.tokenize(["a\ud800b"]) == scorer.tokenize(["a?b"])


# What is refused


def test_a_prompt_longer_than_the_context_is_refused_and_the_child_goes_on(starter: Path) -> None:
    with Scorer(in_place(starter), context=64) as scorer:
        (tokens,) = scorer.tokenize([TEXT[:2000]])
        with pytest.raises(ContextOverflow, match="context of 64"):
            scorer.score(tokens[:60], [tokens[60:66]])
        pid = scorer.pid
        assert len(scorer.score(tokens[:60], [tokens[60:65]])) == 1  # the last is not decoded
        assert scorer.pid == pid


@pytest.mark.parametrize("token", [-1, 49_152, 2**31])
def test_a_token_outside_the_vocabulary_is_refused(scorer: Scorer, token: int) -> None:
    with pytest.raises(BadInput, match="no token of this model"):
        scorer.score([1, token], [[2]])


@pytest.mark.parametrize(("prefix", "endings"), [([], [[1]]), ([1], [[1], []])])
def test_an_empty_prompt_or_ending_is_refused(scorer: Scorer, prefix: list[int], endings: list[list[int]]) -> None:
    with pytest.raises(BadInput, match="nothing to score"):
        scorer.score(prefix, endings)


def test_no_endings_have_no_scores(scorer: Scorer) -> None:
    assert scorer.score([1], []) == []


@pytest.mark.parametrize("make", [make_tiny.embedder, make_tiny.reranker], ids=["embedder", "reranker"])
def test_a_model_that_predicts_no_tokens_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with (
        Scorer(in_place(make(tmp_path / "tiny.gguf")), threads=1) as scorer,
        pytest.raises(BadInput, match="predicts no next token"),
    ):
        scorer.score([5], [[6]])


def test_split_quantised_and_expert_models_are_scored_plumbing_only(tmp_path: Path) -> None:
    paths = make_tiny.split(tmp_path / "split.gguf")[:1]
    paths += [make_tiny.experts(tmp_path / "experts.gguf"), make_tiny.quantised(tmp_path / "quantised.gguf")]
    for path in paths:
        with Scorer(in_place(path), threads=1) as scorer:
            assert max(loglikelihoods(scorer.score([5, 6], [[6, 7], [8]]))) < 0


def test_a_file_the_engine_refuses_is_told_with_the_engines_reason(tmp_path: Path) -> None:
    with Scorer(in_place(make_tiny.refused(tmp_path / "refused.gguf"))) as scorer:
        with pytest.raises(BadModelFile, match=r"could not load refused\.gguf.*blk\.1\.attn_q\.weight"):
            scorer.tokenize(["hello"])
        assert scorer.pid is None


def test_a_file_that_makes_the_engine_abort_kills_only_the_child(tmp_path: Path) -> None:
    with Scorer(in_place(make_tiny.aborting(tmp_path / "aborting.gguf"))) as scorer:
        for _ in range(2):
            with pytest.raises(BadModelFile, match=r"could not load aborting\.gguf"):
                scorer.tokenize(["hello"])


# Ends


def test_a_child_killed_while_it_scores_is_an_error_and_the_next_call_gets_a_fresh_one(starter: Path) -> None:
    with Scorer(in_place(starter)) as scorer:
        job = scorer.perplexity(TEXT, 128)
        next(job)
        killed = scorer.pid
        assert killed
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(EngineCrashed, match=r"SIGKILL.*fresh one"):
            finished(job)
        assert len(scorer.tokenize(["hello"])) == 1
        assert scorer.pid not in (None, killed)


def test_a_child_killed_between_two_calls_is_replaced_unseen(tiny: Scorer) -> None:
    tiny.tokenize(["hello"])
    killed = tiny.pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(killed)] if psutil.pid_exists(killed) else [], 10)
    assert len(tiny.tokenize(["hello"])) == 1


def test_a_child_that_hangs_ends_at_its_deadline_and_the_next_call_gets_a_fresh_one(tmp_path: Path) -> None:
    with Scorer(in_place(make_tiny.dense(tmp_path / "tiny.gguf")), threads=1, stall_s=2) as scorer:
        prefix, *endings = scorer.tokenize([PROMPT, *ENDINGS])
        hung = scorer.pid
        assert hung
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(EngineStalled, match=r"within 2 s.*fresh one"):
            scorer.score(prefix, endings)
        assert gone(hung)
        assert len(scorer.score(prefix, endings)) == len(ENDINGS)


def test_a_child_that_hangs_while_it_loads_ends_at_its_deadline(tmp_path: Path) -> None:
    stored = in_place(make_tiny.dense(tmp_path / "tiny.gguf"))
    with Scorer(stored, threads=1, stall_s=2) as scorer:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(scorer.tokenize, ["hello"])
            assert until(lambda: scorer.pid is not None)
            assert scorer.pid
            os.kill(scorer.pid, signal.SIGSTOP)
            with pytest.raises(EngineStalled):
                asked.result(60)
        assert len(scorer.tokenize(["hello"])) == 1


def test_long_work_gives_a_sign_of_life_for_each_part_that_is_decoded(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "tiny.gguf")
    config = {"path": str(path), "threads": 1, "openmp": "bundled", "context": 2048, "adapters": ()}
    child = Child("scorer_main.py", {**config, "memory_limit": 4 << 30})
    assert child.hear(60)["answer"]["context"] == 2048
    child.tell({"do": "score", "items": [[[5] * 1200, [[6] * 301, [7] * 301]]]}, 60)
    said = [child.hear(60) for _ in range(5)]
    child.stop()
    assert [sorted(one) for one in said] == [["decoded"]] * 4 + [["answer"]]
    assert sum(one["decoded"] for one in said[:-1]) == said[-1]["answer"]["decoded"] == 1200 + 2 * 300


def test_a_scorer_is_held_to_its_memory(tmp_path: Path) -> None:
    stored = in_place(make_tiny.dense(tmp_path / "tiny.gguf"))
    with Scorer(stored, threads=1, memory_limit=1 << 30) as scorer:
        scorer.tokenize(["hello"])
        assert scorer.pid
        assert psutil.Process(scorer.pid).rlimit(psutil.RLIMIT_DATA) == (1 << 30, 1 << 30)


@pytest.mark.slow
def test_cancel_from_another_thread_ends_the_work_and_the_next_call_runs(starter: Path) -> None:
    with Scorer(in_place(starter)) as scorer:
        job = scorer.perplexity(TEXT * 20, 128)
        next(job)
        canceller = threading.Thread(target=scorer.cancel)
        canceller.start()
        with pytest.raises(Cancelled):
            finished(job)
        canceller.join()
        scorer.cancel()  # nobody asks: nothing happens
        assert len(scorer.tokenize(["hello"])) == 1


@pytest.mark.slow
def test_a_models_measure_is_cancelled_by_its_scorer(starter: Path) -> None:
    with Model(in_place(starter)) as model:
        job = perplexity_job(model.scorer, TEXT * 20, 128)
        next(job)
        model.scorer.cancel()
        with pytest.raises(Cancelled):
            finished(job)
        assert model.score("The capital of France is", [" Paris"])[0].tokens == 1


@pytest.mark.slow
def test_a_perplexity_left_early_ends_its_child_and_the_next_call_runs(starter: Path) -> None:
    with Scorer(in_place(starter)) as scorer:
        job = scorer.perplexity(TEXT * 20, 128)
        next(job)
        left = scorer.pid
        job.close()
        assert scorer.pid is None
        assert len(scorer.tokenize(["hello"])) == 1
        assert scorer.pid != left


def test_callers_in_several_threads_wait_their_turn(tiny: Scorer) -> None:
    prefix, *endings = tiny.tokenize([PROMPT, *ENDINGS])
    wanted = tiny.score(prefix, endings)
    found: list[list[Scored]] = []
    callers = [threading.Thread(target=lambda: found.append(tiny.score(prefix, endings))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [wanted] * 8


def test_closing_leaves_no_process_and_a_forgotten_scorer_neither(tmp_path: Path) -> None:
    stored = in_place(make_tiny.dense(tmp_path / "tiny.gguf"))
    closed, forgotten = Scorer(stored, threads=1), Scorer(stored, threads=1)
    closed.tokenize(["hello"])
    forgotten.tokenize(["hello"])
    pids = [closed.pid, forgotten.pid]
    closed.close()
    del forgotten
    assert [pid for pid in pids if pid and psutil.pid_exists(pid)] == []


def test_a_thread_that_waits_for_its_turn_is_told_that_the_model_was_closed_and_starts_nothing(starter: Path) -> None:
    with Scorer(in_place(starter)) as scorer, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(lambda: finished(scorer.perplexity(TEXT * 20, 128))) for _ in range(2)]
        assert until(lambda: scorer.pid is not None)
        child = scorer.pid
        assert child
        scorer.close()
        for answer in asked:
            with pytest.raises(BadInput, match="is closed"):
                answer.result(60)
        assert gone(child)
        assert scorer.pid is None


ASKING = """
import sys
from pathlib import Path
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place
scorer = Scorer(in_place(Path(sys.argv[1])))
scorer.tokenize(["hello"])
print(scorer.pid, flush=True)
for event in scorer.perplexity(Path(sys.argv[2]).read_text("utf-8") * 20, 128):
    print(event.done, flush=True)
"""


@pytest.mark.slow
def test_a_caller_killed_with_9_leaves_no_scorer_behind(starter: Path) -> None:
    text = Path(__file__).parents[1] / "data/war-and-peace.txt"
    command = [sys.executable, "-c", ASKING, str(starter), str(text)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        child = psutil.Process(int(caller.stdout.readline()))
        assert caller.stdout.readline().strip() == "1", "in the middle of its work"
        caller.kill()
    _, alive = psutil.wait_procs([child], 30)
    assert alive == []
