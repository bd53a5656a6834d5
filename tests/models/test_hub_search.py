from __future__ import annotations

import gzip
import json

import pytest
from model_servers import HubServer, dripping, finish

from filbert.core.errors import DownloadFailed, OfflineRefused
from filbert.models import store, web
from filbert.models.download_options import DownloadOptions
from filbert.models.quantisation import named_in
from filbert.models.sources.hub_search import Repository, search_hub


@pytest.fixture
def shelf_of(hub: HubServer) -> HubServer:
    files = (
        "README.md",
        "Tiny-Q8_0.gguf",
        "Tiny-UD-Q4_K_M.gguf",
        "bf16/Tiny-BF16-00001-of-00002.gguf",
        "mmproj-f16.gguf",
    )
    hub.repos = {"acme/Tiny-GGUF": dict.fromkeys(files, b""), "acme/Large-GGUF": {"Large.gguf": b""}, "b/Other": {}}
    hub.licences["acme/Tiny-GGUF"] = "apache-2.0"
    hub.downloads = {"acme/Tiny-GGUF": 12, "acme/Large-GGUF": 3000}
    hub.gated.add("acme/Large-GGUF")
    return hub


def test_the_repositories_downloaded_most_come_first_with_what_the_hub_says(shelf_of) -> None:
    assert search_hub("acme gguf", 20) == (
        Repository("hf:acme/Large-GGUF", 3000, "", True, ()),
        Repository("hf:acme/Tiny-GGUF", 12, "apache-2.0", False, ("q4_k_m", "q8_0", "bf16")),
    )
    assert search_hub("nothing of the kind", 20) == ()
    asked = shelf_of.searches[0]
    assert (asked["filter"], asked["sort"], asked["limit"]) == (["gguf"], ["downloads"], ["20"])


def test_offline_asks_nobody(shelf_of, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused, match="without --hub"):
        search_hub("acme", 20)
    assert shelf_of.requests == 0


def test_names_that_would_drive_a_terminal_are_left_out(hub) -> None:
    names = ["evil/\x1b]0;x\x07", "evil/a\nb", "evil/\u202etxt", "../../etc", "no-slash", "x/" + "y" * 5000, "good/one"]
    told = {"downloads": 5, "tags": ["license:\x1b[31mred", 'license:"'], "siblings": [{"rfilename": "\x1b-Q4_0.gguf"}]}
    hub.listing = json.dumps([{"id": name, **told} for name in names]).encode()
    assert search_hub("evil", 20) == (Repository("hf:good/one", 5, "", False, ("q4_0",)),)


def test_more_than_was_asked_for_is_left_out(hub) -> None:
    hub.listing = json.dumps([{"id": f"a/b{number}"} for number in range(50_000)]).encode()
    assert len(search_hub("b", 20)) == 20


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"{}",
        b"[1]",
        b'[{"id": 3}]',
        b'[{"id": "a/b", "tags": {}}]',
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
    ],
)
def test_an_answer_that_is_no_list_of_models_is_a_sentence(hub, answer: bytes) -> None:
    hub.listing = answer
    with pytest.raises(DownloadFailed, match=r"makes no sense.*HF_ENDPOINT"):
        search_hub("b", 20)


def test_an_answer_without_an_end_is_left(hub) -> None:
    hub.listing = b"[" + b" " * (40 << 20)
    with pytest.raises(DownloadFailed, match="more than 32 MiB"):
        search_hub("b", 20)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_hub_that_refuses_is_a_sentence(hub, status: int) -> None:
    hub.refusals["/api/models"] = status
    with pytest.raises(DownloadFailed, match=f"answered {status}"):
        search_hub("b", 20)


def test_a_hub_that_says_nothing_is_given_up(hub) -> None:
    hub.stalls = [0]
    with pytest.raises(DownloadFailed, match=r"The hub at .* cannot be reached: \S"):
        search_hub("b", 20, DownloadOptions(stall_s=0.3))


def test_a_hub_that_cannot_be_reached_is_given_up_at_once(monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match=r"The hub at 127\.0\.0\.1 \(HF_ENDPOINT\) cannot be reached"):
        search_hub("tiny", 20)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("m-Q4_K_M.gguf", "q4_k_m"),
        ("m.Q4_K_S.gguf", "q4_k_s"),
        ("m-UD-IQ2_XXS.gguf", "iq2_xxs"),
        ("m-mxfp4.gguf", "mxfp4"),
        ("Q8_0/m-Q8_0-00001-of-00002.gguf", "q8_0"),
        ("q4_0model.gguf", None),
    ],
)
def test_the_quantisation_is_read_from_a_files_name(file: str, kind: str | None) -> None:
    assert named_in(file) == kind


DRIPS = [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n["]


@pytest.mark.parametrize("begins", DRIPS, ids=["head", "body"])
def test_a_hub_that_drips_is_given_up(monkeypatch, begins: bytes) -> None:
    monkeypatch.setattr(web, "LONGEST_ANSWER_S", 0.5)
    with dripping(begins) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        for ask in (lambda: search_hub("acme", 20), lambda: finish(store.pull("hf:acme/Tiny-GGUF:Q4_0"))):
            with pytest.raises(DownloadFailed, match="too slow to tell what it has"):
                ask()


@pytest.mark.parametrize("packed", ["gzip", "gzip, gzip"])
def test_an_answer_that_unpacks_without_end_is_refused(hub, packed: str) -> None:
    hub.repos["acme/Big"] = {}
    hub.answers["acme/Big"] = gzip.compress(b" " * (64 << 20))
    hub.packed = packed
    with pytest.raises(DownloadFailed, match=r"makes no sense.*(more than 32 MiB|not asked for)"):
        finish(store.pull("hf:acme/Big"))
