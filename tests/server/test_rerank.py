"""Documents by closeness to a query, over HTTP: of a model here, and of the same on another server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from described import Described, document

import filbert
import make_tiny
from running_server import RunningServer, serving

QUERY = "the cat"
DOCUMENTS = [f"the {word}" for word in ("dog", "house of the river", "cat", "capital of france", "cat and dog")]
DESCRIBED = Described(document())


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny.reranker(tmp_path_factory.mktemp("ranker") / "ranker.gguf")


@pytest.fixture(scope="module")
def ranking(ranker: Path) -> Iterator[RunningServer]:
    with serving(ranker.parent / "home", "-m", str(ranker)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(ranking: RunningServer) -> Iterator[RunningServer]:
    with serving(ranking.home.parent / "gateway", "--upstream", f"friend={ranking.url}") as running:
        yield running


@pytest.fixture(params=["ranker", "friend/ranker"])
def model(request: pytest.FixtureRequest) -> str:
    """Here, or there."""
    name: str = request.param
    return name


@pytest.fixture
def asked(request: pytest.FixtureRequest, model: str) -> RunningServer:
    server: RunningServer = request.getfixturevalue("gateway" if "/" in model else "ranking")
    return server


def rerank(server: RunningServer, model: str, **fields: Any) -> httpx.Response:
    answer = server.http.post("/v1/rerank", json={"model": model, "query": QUERY, "documents": DOCUMENTS, **fields})
    DESCRIBED.check("POST", "/v1/rerank", answer)
    return answer


def test_the_closest_come_first_as_in_python(asked: RunningServer, model: str, ranker: Path) -> None:
    told = rerank(asked, model).json()
    with filbert.load(str(ranker)) as here:
        expected = here.rerank(QUERY, DOCUMENTS)
    assert (told["object"], told["model"]) == ("list", model)
    assert [each["index"] for each in told["results"]] == [each.index for each in expected]
    scores = [each["relevance_score"] for each in told["results"]]
    assert scores == sorted(scores, reverse=True) == pytest.approx([each.score for each in expected], abs=1e-4)
    assert not any("document" in each for each in told["results"])


def test_as_many_are_told_as_were_wanted_and_with_their_texts(asked: RunningServer, model: str) -> None:
    every = rerank(asked, model, top_n=99).json()["results"]
    assert sorted(each["index"] for each in every) == list(range(len(DOCUMENTS)))
    told = rerank(
        asked, model, documents=[{"text": text} for text in DOCUMENTS], top_n=2, return_documents=True
    ).json()["results"]
    assert [each["index"] for each in told] == [each["index"] for each in every[:2]]
    assert [each["document"] for each in told] == [{"text": DOCUMENTS[each["index"]]} for each in told]


@pytest.mark.parametrize("wrong", [{"top_n": 0}, {"documents": []}, {"documents": [1]}, {"query": None}], ids=str)
def test_what_cannot_be_ranked_is_a_400(asked: RunningServer, model: str, wrong: dict[str, Any]) -> None:
    assert rerank(asked, model, **wrong).status_code == 400
