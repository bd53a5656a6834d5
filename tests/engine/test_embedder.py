"""A real embedder, all-MiniLM-L6-v2, against what torch says; tests/golden/embeddings.json tells how that was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import filbert
from filbert.core.errors import BadInput, ContextOverflow
from filbert.face.model import Model

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/embeddings.json").read_text("utf-8"))["texts"]
TEXTS = [golden["text"] for golden in GOLDEN]
VECTORS = [golden["vector"] for golden in GOLDEN]


@pytest.fixture(scope="module")
def model(embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with pytest.MonkeyPatch.context() as patch:  # the store of the first test would be gone after it
        patch.setenv("FILBERT_HOME", str(tmp_path_factory.mktemp("home")))
        model = filbert.load(str(embedder))
    with model:
        yield model


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["name"])
def test_a_vector_and_its_tokens_are_those_of_torch(model: Model, golden: dict[str, object]) -> None:
    found = model.embed([golden["text"]])  # type: ignore[list-item]
    assert cosine(found.vectors[0], golden["vector"]) > 0.9999  # type: ignore[arg-type]
    assert found.usage.prompt_tokens == golden["tokens"]


def test_vectors_have_a_length_of_one(model: Model) -> None:
    for vector in model.embed(TEXTS).vectors:
        assert len(vector) == 384
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_many_texts_come_back_in_their_order(model: Model) -> None:
    """Long and short in turn, more than are computed at once."""
    order = [int(at) for at in np.random.default_rng(1).permutation(len(TEXTS) * 2) % len(TEXTS)]
    assert len(order) > 2 * model.options.parallel
    found = model.embed([TEXTS[at] for at in order])
    assert [max(range(len(TEXTS)), key=lambda at: cosine(vector, VECTORS[at])) for vector in found.vectors] == order
    assert found.usage.prompt_tokens == sum(GOLDEN[at]["tokens"] for at in order)


def test_a_batch_gives_what_one_by_one_gives(model: Model) -> None:
    """Up to rounding: other kernels multiply a batch."""
    alone = [model.embed([text]).vectors[0] for text in TEXTS]
    np.testing.assert_allclose(model.embed(TEXTS).vectors, alone, atol=5e-4)


def test_the_whole_context_can_be_used_and_one_token_more_is_an_overflow(model: Model) -> None:
    fits = " ".join(["a"] * 510)  # and the tokens that begin and end a text
    assert model.embed([fits]).usage.prompt_tokens == 512
    with pytest.raises(ContextOverflow, match="513 tokens and the model takes 512"):
        model.embed(["short", f"{fits} a"])
    assert cosine(model.embed(TEXTS[:1]).vectors[0], VECTORS[0]) > 0.9999, "the model serves on"


def test_the_sentence_that_answers_a_question_is_nearest_to_it(model: Model) -> None:
    answers = {
        "How do I get back into my account?": "If you forgot your password, reset it with the link in the e-mail.",
        "Which animals live in the sea?": "Whales and dolphins are mammals of the ocean.",
        "What should I cook tonight?": "A quick pasta with tomatoes and basil makes a good dinner.",
        "Why is the sky blue?": "Air scatters short wavelengths of sunlight more than long ones.",
    }
    questions, sentences = (model.embed(list(texts)).vectors for texts in (answers.keys(), answers.values()))
    nearest = [max(range(len(answers)), key=lambda at: cosine(question, sentences[at])) for question in questions]
    assert nearest == list(range(len(answers)))


def test_an_embedder_refuses_to_answer_text_in_a_sentence(model: Model) -> None:
    with pytest.raises(BadInput, match="makes embeddings and cannot do this"):
        model.generate("hello")


@pytest.mark.parametrize("piped", [False, True], ids=["as arguments", "through a pipe"])
def test_filbert_embed_prints_one_array_a_line(embedder: Path, piped: bool) -> None:
    texts = [text for text in TEXTS if "\n" not in text]
    command = [sys.executable, "-m", "filbert", "embed", "--model", str(embedder), *([] if piped else texts)]
    done = subprocess.run(
        command, input="\n".join(texts) if piped else "", capture_output=True, encoding="utf-8", env=utf8()
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    golden = [vector for text, vector in zip(TEXTS, VECTORS, strict=True) if text in texts]
    assert len(printed) == len(texts) == 4
    assert all(cosine(*pair) > 0.9999 for pair in zip(printed, golden, strict=True))


def test_filbert_embed_says_in_a_sentence_that_a_text_is_too_long(embedder: Path) -> None:
    command = [sys.executable, "-m", "filbert", "embed", "--model", str(embedder), "a " * 600]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=utf8())
    assert done.returncode == ContextOverflow.exit_status
    assert done.stdout == ""
    assert "602 tokens and the model takes 512" in done.stderr
    assert "Traceback" not in done.stderr


def utf8() -> dict[str, str]:
    return {**os.environ, "PYTHONUTF8": "1"}
