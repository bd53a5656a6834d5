"""Perplexity of answers: what is read, what is scored, what is left out and said so."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import make_tiny
from filbert.core.errors import BadInput, EngineError
from filbert.core.jobs import Progress, finish
from filbert.core.messages import Message
from filbert.core.pairs import Pair, read_pairs
from filbert.engine.chat_prompt import chat_prompt
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.evaluate.pairs import AnswerPerplexity, ScoredPair, _cut, pairs_job
from filbert.evaluate.pairs_compared import Comparison
from filbert.models.store import in_place

FILE = Path(__file__).parent.parent / "data/pairs.jsonl"
PAIRS = read_pairs(FILE.read_text("utf-8"), FILE.name)
COMMAND = "filbert perplexity tiny --pairs FILE"


@pytest.fixture(scope="module")
def starter_model(starter: Path) -> Iterator[Model]:
    with Model(in_place(starter), LoadOptions(context=512)) as model:
        yield model


def tiny(path: Path, context: int = 512, **changes: object) -> Model:
    return Model(in_place(make_tiny.dense(path, **changes)), LoadOptions(context=context, threads=1))


def damaged(path: Path, token: str) -> Model:
    """One whose numbers are NaN after this token."""
    parts = make_tiny.dense_parts()
    parts.tensors["output.weight"] = parts.tensors["token_embd.weight"].copy()
    parts.tensors["token_embd.weight"][parts.metadata["tokenizer.ggml.tokens"].index(token)] = float("nan")
    make_tiny.write(path, parts)
    return Model(in_place(path), LoadOptions(context=512, threads=1))


def pair(prompt: str, response: str, line: int = 1) -> Pair:
    return Pair(line, (Message("user", prompt),), response)


def scored(model: Model, *pairs: Pair, chat: bool = False) -> AnswerPerplexity:
    return finish(pairs_job(model, pairs, "chat" if chat else "raw", COMMAND))


# Reading


def test_every_shape_of_a_pair_is_read() -> None:
    assert [each.line for each in PAIRS] == list(range(1, 9))
    assert (PAIRS[0].text, PAIRS[0].response) == ("What is the capital of France?", "The capital of France is Paris.")
    assert (PAIRS[1].text, PAIRS[1].response) == ("Answer with one word.\n\nIs snow white or black?", "White.")
    assert PAIRS[2].text == "Name three colours of a traffic light."
    assert PAIRS[3].messages == (Message("system", "You speak plainly."), Message("user", "How many days has a week?"))
    assert (PAIRS[4].text.split("\n\n")[1], PAIRS[4].response) == ("The shop is open.", "Is the shop open?")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"prompt": "a"}', "has no response"),
        ('{"response": "a"}', "has no prompt"),
        ('{"prompt": "a", "response": 3}', "has a response that is no text"),
        ('{"instruction": "a", "input": "b"}', "has no output"),
        ('{"instruction": "a", "instances": 3}', "has instances that are no list"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no list of two or more"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "is no assistant's"),
        ('{"messages": [{"role": "king", "content": "a"}, {"role": "assistant", "content": "b"}]}', "role 'king'"),
    ],
)
def test_a_bad_line_is_told_by_its_number(line: str, said: str) -> None:
    good = '{"prompt": "a", "response": "b"}'
    with pytest.raises(BadInput, match=f"line 3 .*{said}"):
        read_pairs(f"{good}\n\n{line}\n{good}\n", "pairs.jsonl")


def test_a_file_that_was_cut_off_is_refused() -> None:
    with pytest.raises(BadInput, match=r"pairs.jsonl cannot be read: line 2 ends in the middle\."):
        read_pairs('{"prompt": "a", "response": "b"}\n{"prompt": "a", "resp', "pairs.jsonl")


def test_many_bad_lines_are_told_in_one_sentence_and_no_lines_at_all_too() -> None:
    with pytest.raises(BadInput, match="line 5 is not JSON, and 4 more"):
        read_pairs("x\n" * 9, "pairs.jsonl")
    with pytest.raises(BadInput, match="holds no pairs"):
        read_pairs("\n\n", "pairs.jsonl")


# Scoring


def test_an_answers_perplexity_is_that_of_its_own_tokens_after_the_prompt(starter_model: Model) -> None:
    scorer = starter_model.scorer
    prompt, answer = "What is the capital of France?\n\n", "The capital of France is Paris."
    whole, own = scorer.tokenize([prompt + answer, answer])
    (expected,) = scorer.score(whole[: -len(own)], [own])
    (found,) = scored(starter_model, PAIRS[0]).pairs
    assert (found.tokens, found.size_bytes) == (len(own), len(answer))
    assert found.perplexity == pytest.approx(math.exp(-expected.loglikelihood / len(own)), rel=0.01)


def test_the_prompt_is_shown_a_true_answer_costs_less_than_without(starter_model: Model) -> None:
    (asked,) = scored(starter_model, pair("Repeat: the purple elephant sings", "the purple elephant sings")).pairs
    (unasked,) = scored(starter_model, pair("Hello", "the purple elephant sings")).pairs
    assert asked.perplexity < unasked.perplexity / 5


def test_a_chat_template_is_the_models_own_up_to_where_its_answer_begins(starter_model: Model) -> None:
    text = chat_prompt(starter_model, PAIRS[3].messages)
    assert text.endswith("How many days has a week?<|im_end|>\n<|im_start|>assistant\n")
    assert "You speak plainly." in text
    scorer = starter_model.scorer
    before, answer = scorer.tokenize([text, PAIRS[3].response])
    (expected,) = scorer.score(before, [answer])
    (found,) = scored(starter_model, PAIRS[3], chat=True).pairs
    assert found.nll == pytest.approx(-expected.loglikelihood, rel=0.02)


def test_a_template_that_writes_the_first_token_gets_no_second(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.add_bos_token": True}
    with tiny(tmp_path / "bos.gguf", metadata=metadata) as model:
        (bos,) = model.scorer.about["start"]
        ((plain, _),) = _cut(model.scorer, [pair("", "ab")], ["xy"])
        assert plain[0] == bos and bos not in plain[1:]
        text = next(t for t in ("<|im_start|>", "<s>", "<|endoftext|>") if model.scorer.tokenize([t]) == [[bos]])
        ((written, _),) = _cut(model.scorer, [pair("", "ab")], [text + "xy"])
        assert written == plain


def test_a_token_that_joins_prompt_and_answer_is_the_answers(starter_model: Model) -> None:
    scorer = starter_model.scorer
    ((before, answer),) = _cut(scorer, [pair("", "king of France")], ["The capital is Paris and he is loo"])
    assert before + answer == scorer.tokenize(["The capital is Paris and he is looking of France"])[0]
    assert scorer.tokenize(["The capital is Paris and he is"])[0] == before


def test_what_explodes_counts_as_a_hundred_and_the_share_is_shown(starter_model: Model) -> None:
    found = scored(starter_model, *PAIRS)
    by_line = {each.line: each for each in found.pairs}
    assert by_line[7].perplexity > 100 and found.n_clipped == sum(each.perplexity > 100 for each in found.scored) < 4
    expected = [min(each.perplexity, 100) for each in found.scored]
    assert found.value == pytest.approx(sum(expected) / 7)
    assert found.median == sorted(expected)[3]
    assert found.interval[0] < found.value < found.interval[1]
    assert f"{found.n_clipped} ({found.n_clipped / 7:.1%}) are above 100 and count as 100" in str(found)
    assert f"again: {COMMAND}" in str(found)


def test_what_gives_no_number_is_counted_told_by_its_line_and_never_scored(tmp_path: Path) -> None:
    with damaged(tmp_path / "damaged.gguf", "#") as model:
        pairs = [
            pair("one", "two", 1),
            pair("one", " \n", 2),
            pair("#one", "two", 3),
            pair("one " * 600, "two", 4),
            pair("one", "", 5),
        ]
        found = scored(model, *pairs)
    assert [each.why for each in found.pairs] == ["", "empty", "NaN", "too long", "empty"]
    assert (found.n, found.n_invalid) == (1, 4)
    assert found.value == min(found.pairs[0].perplexity, 100)
    assert "left out, empty: 2 (line 2, 5)" in str(found)
    assert "left out, longer than the context: 1 (line 4)" in str(found)
    assert "left out, not a number (NaN): 1 (line 3)" in str(found)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["items"][2]["perplexity"] is None


def test_a_file_without_a_number_is_an_error(tmp_path: Path) -> None:
    with tiny(tmp_path / "tiny.gguf") as model, pytest.raises(EngineError, match="No answer gave a number"):
        scored(model, pair("one", ""))


def test_progress_counts_answers(tmp_path: Path) -> None:
    with tiny(tmp_path / "tiny.gguf") as model:
        told: list[Progress] = []
        finish(pairs_job(model, [pair("one", f"two {i}", i) for i in range(70)], "raw", COMMAND), told.append)
    assert [(each.done, each.total) for each in told] == [(done, 70) for done in range(1, 71)]


def test_answers_keep_the_order_of_their_lines_and_many_are_scored_as_one_alone(tmp_path: Path) -> None:
    pairs = [pair(f"one {i}", "" if i % 5 == 0 else f"two {i}", i) for i in range(70)]
    with tiny(tmp_path / "tiny.gguf") as model:
        together = scored(model, *pairs).pairs
        alone = [scored(model, pairs[i]).pairs[0] for i in (1, 13, 69)]
    assert [each.line for each in together] == list(range(70))
    assert [together[each.line].nll for each in alone] == pytest.approx([each.nll for each in alone], rel=1e-3)


def test_a_model_without_a_template_is_told_from_one_that_has(tmp_path: Path) -> None:
    with tiny(tmp_path / "bare.gguf", metadata={"tokenizer.chat_template": ""}) as model:
        with pytest.raises(BadInput, match="has no chat template"):
            scored(model, pair("one", "two"), chat=True)
        assert scored(model, pair("one", "two")).n == 1


# Comparing


def made(perplexities: list[float], like: AnswerPerplexity) -> AnswerPerplexity:
    """As if a model had found these, of answers of ten tokens; NaN: none."""
    pairs = tuple(
        ScoredPair(i, 10, 40, why="NaN") if math.isnan(p) else ScoredPair(i, 10, 40, 10 * math.log(p))
        for i, p in enumerate(perplexities, 1)
    )
    return replace(like, pairs=pairs)


@pytest.fixture(scope="module")
def like(starter_model: Model) -> AnswerPerplexity:
    return scored(starter_model, PAIRS[0])


def test_a_model_whose_every_answer_costs_less_is_stochastically_lower(like: AnswerPerplexity) -> None:
    found = Comparison(made([4, 6, 8, 500], like), made([2, 3, 4, 400], like))
    assert found.lower.endswith("(second)")
    assert found.difference[0] == pytest.approx(-2.25)  # 500 and 400 are both 100
    assert found.ratio[0] == pytest.approx(109 / 118)
    assert "stochastically lower: SmolLM2" in str(found)


def test_curves_that_cross_are_stochastically_lower_neither_way(like: AnswerPerplexity) -> None:
    found = Comparison(made([1, 9], like), made([2, 3], like))
    assert found.lower == ""
    assert "neither. The curves cross: below one perplexity are 50.0% more" in str(found)
    assert "The distributions are the same" in str(Comparison(made([1, 2], like), made([2, 1], like)))


def test_only_answers_that_both_models_scored_are_compared(like: AnswerPerplexity) -> None:
    found = Comparison(made([math.nan, 2, 3], like), made([1, 2, math.nan], like))
    assert (found.n, found.difference[0]) == (1, 0)
    with pytest.raises(EngineError, match="no answer in common"):
        str(Comparison(made([math.nan, 2], like), made([1, math.nan], like)))


def test_models_that_cut_answers_otherwise_are_compared_by_bytes_as_well(
    like: AnswerPerplexity, tmp_path: Path
) -> None:
    with tiny(tmp_path / "tiny.gguf") as model:
        other = scored(model, PAIRS[0])
    found = Comparison(like, other)
    assert not found.same_tokens and "not of one unit: compare bits a byte" in str(found)
    (one,), (two,) = like.pairs, other.pairs
    assert found.bits_per_byte == pytest.approx((one.nll / 31 / math.log(2), two.nll / 31 / math.log(2)))
    assert "bits a byte" not in str(Comparison(like, like))
