"""The server on a Ray cluster: two machines answer, and one goes on when the other dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest
from running_cluster import RunningCluster, clustered, holds_model, kill, tree, workers

from filbert.core.errors import BadInput, BadSetting
from filbert.server.keys import Keys, Wanted
from running import until
from running_server import FOR_EVER, STARTER, documents, gone, install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("ray"), reason="needs Ray: pip install 'filbert[cluster]'"),
]
GROWN_S = 150  # Ray looks for half a minute before it believes, and a model takes its time
HI = {"model": STARTER, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
LONG = {**HI, "stream": True, "grammar": FOR_EVER, "max_tokens": 900}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, starter: Path) -> Iterator[RunningCluster]:
    """Of two nodes, one of which has a replica, which answers one at a time."""
    home = tmp_path_factory.mktemp("cluster")
    install(home, starter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(home))
        _, key = Keys().add(Wanted(name="ada"))
    with clustered(home) as running:
        running.serve("/starter", model=STARTER, context=1024, parallel=1, min_replicas=1, max_replicas=2)
        running.http.headers["authorization"] = f"Bearer {key}"
        assert until(lambda: any(workers(node) for node in running.nodes)), running.said()
        assert until(lambda: is_ready(running)), running.said()
        yield running


@pytest.fixture(scope="module")
def cluster(small: RunningCluster) -> RunningCluster:
    """Grown: more was asked for some time than one replica answers. Ray lets ten minutes pass before it shrinks."""
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            with small.http.stream("POST", "/v1/chat/completions", json=LONG, timeout=GROWN_S) as answer:
                for _ in answer.iter_lines():
                    if enough.is_set():
                        break

    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask) for _ in range(2)]
        until(lambda: len(holders(small)) == 2, GROWN_S)
        enough.set()
    assert not [each.exception() for each in asking if each.exception()]
    return small


def holders(cluster: RunningCluster) -> list[psutil.Process]:
    """The nodes with a model."""
    return [node for node in cluster.nodes if workers(node)]


def is_ready(cluster: RunningCluster) -> bool:
    try:
        return cluster.http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def is_answered(cluster: RunningCluster) -> bool:
    return cluster.http.post("/v1/chat/completions", json=HI).status_code == 200


def test_the_model_comes_to_another_machine_once_more_is_asked_than_one_answers(
    small: RunningCluster, request: pytest.FixtureRequest
) -> None:
    assert len(holders(small)) == 1
    assert len(holders(request.getfixturevalue("cluster"))) == 2, small.said()


def test_both_machines_stream_at_once_and_whoever_leaves_makes_room(cluster: RunningCluster) -> None:
    with cluster.http.stream("POST", "/v1/chat/completions", json=LONG) as one:
        begun = documents(one.iter_lines())
        next(begun)
        with cluster.http.stream("POST", "/v1/chat/completions", json=LONG) as other:
            assert next(documents(other.iter_lines()))["model"] == next(begun)["model"] == STARTER
    assert all(is_answered(cluster) for _ in range(4))


def test_keys_errors_and_routes_are_those_of_the_server(cluster: RunningCluster) -> None:
    refused = cluster.http.post("/v1/chat/completions", json=HI, headers={"authorization": ""})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
    unknown = cluster.http.post("/v1/chat/completions", json={**HI, "model": "smollm2:1"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    completion = cluster.http.post("/v1/completions", json={"model": STARTER, "prompt": "One, two,", "max_tokens": 4})
    assert completion.json()["usage"]["completion_tokens"] == 4
    embedding = cluster.http.post("/v1/embeddings", json={"model": STARTER, "input": "x"})
    assert len(embedding.json()["data"][0]["embedding"]) == 576
    assert [model["id"] for model in cluster.http.get("/v1/models").json()["data"]] == [STARTER]
    changed = cluster.http.delete(f"/v1/models/{STARTER}")
    assert (changed.status_code, changed.json()["error"]["code"]) == (403, "forbidden")


def test_a_worker_that_died_is_there_again_before_anybody_asks(cluster: RunningCluster) -> None:
    killed = workers(cluster.nodes[0])
    kill(killed)
    assert killed and gone(killed)
    assert until(lambda: bool(workers(cluster.nodes[0])))


def test_when_a_machine_dies_its_workers_end_and_the_other_answers(cluster: RunningCluster) -> None:
    lost = workers(cluster.nodes[1])
    kill([each for each in tree(cluster.nodes[1]) if not holds_model(each)])
    assert lost and gone(lost)
    assert until(lambda: is_answered(cluster)), cluster.said()
    assert all(is_answered(cluster) for _ in range(4))


def test_ctrl_c_ends_the_workers(cluster: RunningCluster) -> None:
    held = workers(cluster.nodes[0])
    cluster.serving.send_signal(signal.SIGINT)
    assert held and gone(held)


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments")  # within Ray
def test_what_cannot_be_served_is_told_in_a_sentence() -> None:
    from filbert.server.cluster import Replica, app

    with pytest.raises(BadSetting, match=r"no setting cluster\.modle.*model"):
        app({"modle": STARTER})
    with pytest.raises(BadInput, match="A cluster asks for keys, and there is none"):
        Replica({"model": STARTER})
    with pytest.raises(BadInput, match="is not here yet"):
        Replica({"model": STARTER, "no_auth": "true"})


def test_ray_is_imported_by_a_cluster_only() -> None:
    asked = "import sys, filbert.cli.app, filbert.cli.config, filbert.server.app; filbert.cli.config.tables()"
    asked += "; print('ray' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True) == "False\n"
