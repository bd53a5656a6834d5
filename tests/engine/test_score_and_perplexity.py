from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import gguf
import psutil
import pytest

import make_tiny
from filbert.core.errors import BadInput, ContextOverflow, EngineError
from filbert.core.jobs import Job, Progress
from filbert.engine import capi_layout
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.score_and_perplexity import Perplexity, perplexity, perplexity_job, score
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place

TESTS = Path(__file__).parents[1]
GOLDEN = json.loads((TESTS / "golden/perplexity.json").read_text())
TEXT = (TESTS / "data" / GOLDEN["text"]).read_text("utf-8").removesuffix("\n")  # as the tool reads a file


@pytest.fixture(scope="module")
def scorer(starter: Path) -> Iterator[Scorer]:
    with Scorer(in_place(starter)) as scorer:
        yield scorer


def tiny(path: Path, **changes: object) -> Scorer:
    return Scorer(in_place(make_tiny.dense(path, **changes)), threads=1)


def followed(job: Job[Perplexity]) -> tuple[list[Progress], Perplexity]:
    events = []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


# Perplexity


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDEN["figures"], ids=lambda golden: golden["window"])
def test_perplexity_equals_llama_perplexity_to_four_digits(scorer: Scorer, golden: dict[str, object]) -> None:
    """Window by window; the figures and how they were made are in tests/golden/perplexity.json."""
    text = TEXT.encode()[: golden["characters"]].decode()  # type: ignore[misc]
    found = perplexity(scorer, text, golden["window"])  # type: ignore[arg-type]
    assert found.value == pytest.approx(golden["value"], rel=5e-5)
    assert found.standard_error == pytest.approx(golden["standard_error"], rel=5e-4)
    assert running(found) == pytest.approx(golden["running"], rel=5e-5)


def running(found: Perplexity) -> list[float]:
    """The perplexity after each window, as the tool prints it."""
    nll, n, values = 0.0, 0, []
    for window in found.windows:
        nll, n = nll + window.nll, n + window.n
        values.append(math.exp(nll / n))
    return values


def test_a_perplexity_says_its_interval_its_text_its_model_and_how_to_make_it_again(tmp_path: Path) -> None:
    with tiny(tmp_path / "tiny.gguf") as scorer:
        events, found = followed(perplexity_job(scorer, TEXT[:2000], 64))
        assert scorer.context == make_tiny.CONTEXT
    assert [(event.done, event.total) for event in events] == [(i + 1, len(events)) for i in range(len(events))]
    assert found.n == len(events) * 31, "the second half of a window but its last token, which has no successor"
    assert found.interval[0] < found.value < found.interval[1]
    assert found.made_by.model_sha256 == scorer.stored.sha256
    assert "text of 2000 bytes" in found.against
    assert "filbert perplexity" in str(found)
    assert f"xllamacpp {capi_layout.VERSION}" in str(found)


def test_each_window_begins_with_bos_where_the_vocabulary_adds_one(tmp_path: Path) -> None:
    """Window by window the same as scoring the window's tokens with BOS in the place of the first."""
    with tiny(tmp_path / "bos.gguf", metadata={"tokenizer.ggml.add_bos_token": True}) as scorer:
        (bos,) = scorer.about["start"]
        found = perplexity(scorer, TEXT[:600], 64)
        tokens = [bos, *scorer.tokenize([TEXT[:600]])[0]]
        for number, window in enumerate(found.windows):
            here = [bos, *tokens[64 * number + 1 : 64 * number + 64]]
            (scored,) = scorer.score(here[:33], [here[33:]])
            assert scored.loglikelihood == pytest.approx(-window.nll, rel=1e-3)


@pytest.mark.parametrize("text", ["", "too short"])
def test_a_text_of_less_than_two_windows_is_refused(scorer: Scorer, text: str) -> None:
    with pytest.raises(BadInput, match="needs at least 1024"):
        perplexity(scorer, text, 512)


def test_a_window_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    with tiny(tmp_path / "tiny.gguf") as scorer, pytest.raises(ContextOverflow, match="context of 2048"):
        perplexity(scorer, TEXT, 4096)


# A model with damaged numbers


def damaged(path: Path, token: str) -> Scorer:
    """A tiny model, one of whose tokens has NaN for its vector: what follows that token cannot be told."""
    parts = make_tiny.dense_parts()
    parts.tensors["output.weight"] = parts.tensors["token_embd.weight"].copy()
    parts.tensors["token_embd.weight"][parts.metadata["tokenizer.ggml.tokens"].index(token)] = float("nan")
    make_tiny.write(path, parts)
    return Scorer(in_place(path), threads=1)


def test_incident_nan_in_perplexity_is_counted_and_shown_and_never_scored(tmp_path: Path) -> None:
    text = TEXT.replace("#", "")[:3000]
    at = text.index("\n\n", 1500)
    with tiny(tmp_path / "whole.gguf") as whole, damaged(tmp_path / "damaged.gguf", "#") as scorer:
        assert perplexity(scorer, text, 64).n_invalid == 0
        found = perplexity(scorer, text[:at] + "#" + text[at:], 64)
        assert whole.about["n_vocab"] == scorer.about["n_vocab"]
    assert found.n_invalid > 0
    assert found.n + found.n_invalid == 31 * len(found.windows)
    assert math.isfinite(found.value)
    assert f"{found.n_invalid} of {found.n + found.n_invalid} items invalid and left out" in str(found)


def test_incident_nan_endings_have_no_score_and_do_not_spoil_their_neighbours(tmp_path: Path) -> None:
    with damaged(tmp_path / "damaged.gguf", "#") as scorer:
        sound, spoiled = score(scorer, "one", [" two three", "#ab"])
        (after,) = score(scorer, "#one", [" two"])
    assert sound.loglikelihood is not None
    assert (spoiled.loglikelihood, spoiled.greedy) == (None, False)
    assert after.loglikelihood is None


@pytest.mark.slow
def test_incident_a_model_of_nothing_but_nan_has_no_perplexity(starter: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.gguf"
    path.write_bytes(starter.read_bytes())
    norm = next(tensor for tensor in gguf.GGUFReader(starter).tensors if tensor.name == "output_norm.weight")
    with path.open("r+b") as file:
        file.seek(norm.data_offset)
        file.write(b"\xff" * int(norm.n_bytes))
    with Scorer(in_place(path)) as scorer, pytest.raises(EngineError, match="are NaN"):
        perplexity(scorer, TEXT[:600], 32)


# Endings


@pytest.mark.slow
def test_a_scorer_takes_the_memory_it_is_estimated_to(starter: Path) -> None:
    with Model(in_place(starter), LoadOptions(context=4096)) as model:
        (tokens,) = model.scorer.tokenize([TEXT])
        model.scorer.score(tokens[:3000], [tokens[i : i + 16] for i in range(0, 512, 16)])
        assert model.scorer.pid
        held = psutil.Process(model.scorer.pid).memory_info().rss
        assert model._plan.takes("scorer").total == pytest.approx(held, rel=0.15)


def test_the_likelier_ending_scores_higher(scorer: Scorer) -> None:
    paris, banana = score(scorer, "The capital of France is", [" Paris", " a banana"])
    assert paris.loglikelihood is not None and banana.loglikelihood is not None
    assert paris.loglikelihood > banana.loglikelihood + 5
    assert paris.tokens < banana.tokens


def test_blanks_at_the_end_of_a_prompt_go_to_the_ending(scorer: Scorer) -> None:
    assert score(scorer, "The capital of France is ", ["Paris"]) == score(
        scorer, "The capital of France is", [" Paris"]
    )


def test_tokens_that_join_across_the_boundary_are_cut_as_the_harness_cuts_them(scorer: Scorer) -> None:
    """`_encode_pair` of lm-evaluation-harness: whole = encode(prompt + ending); ending = whole[len(encode(prompt)):]."""
    prompt, ending = "The unbeliev", "able truth"
    alone, whole = scorer.tokenize([prompt, prompt + ending])
    assert whole[: len(alone)] != alone, "otherwise this pair shows nothing"
    assert score(scorer, prompt, [ending]) == scorer.score(alone, [whole[len(alone) :]])


def test_an_empty_prompt_stands_for_the_first_token_of_every_text(scorer: Scorer) -> None:
    (scored,) = score(scorer, "", ["Paris"])
    assert [scored] == scorer.score([scorer.about["first"]], scorer.tokenize(["Paris"]))


def test_a_prompt_starts_with_bos_where_the_vocabulary_adds_one(tmp_path: Path) -> None:
    with tiny(tmp_path / "bos.gguf", metadata={"tokenizer.ggml.add_bos_token": True}) as scorer:
        prompt, ending = scorer.tokenize(["one", " two"])
        assert score(scorer, "one", [" two"]) == scorer.score([*scorer.about["start"], *prompt], [ending])


def test_special_tokens_of_a_chat_prompt_are_one_token_each(scorer: Scorer) -> None:
    (tokens,) = scorer.tokenize(["<|im_start|>user"])
    assert len(tokens) == 2


def test_an_ending_without_tokens_is_refused(scorer: Scorer) -> None:
    with pytest.raises(BadInput, match="nothing to score"):
        score(scorer, "The capital of France is", [""])


@pytest.mark.parametrize("window", [-5, 0, 1, 15])
def test_a_window_too_short_to_score_is_refused(starter: Path, window: int) -> None:
    with Scorer(in_place(starter)) as scorer, pytest.raises(BadInput, match="too short"):
        perplexity(scorer, "text " * 100, window)
