from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from model_servers import Origin, finish, serving, sha256, wait_for

from filbert.core.errors import DiskFull, DownloadFailed, HashMismatch, OfflineRefused
from filbert.core.jobs import Progress
from filbert.models import redirects
from filbert.models.download import Segment, cut, download, part_of, state_of
from filbert.models.download_options import DownloadOptions
from filbert.models.remote import RemoteFile


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "store" / "x.gguf"


def remote_of(origin: Origin, body: bytes, *, known: bool = True) -> RemoteFile:
    return RemoteFile(
        "model", "x.gguf", origin.add("/x.gguf", body), len(body) if known else None, sha256(body) if known else ""
    )


def test_four_ranges_of_one_file_are_fetched_and_nothing_twice(origin, blob, target, options) -> None:
    seen: list[Progress] = []
    got = finish(download(remote_of(origin, blob), target, options), seen.append)
    assert target.read_bytes() == blob
    assert (got.sha256, got.size_bytes) == (sha256(blob), len(blob))
    assert len(origin.ranges_asked) == 5
    assert origin.served == len(blob) + 1
    assert [path.name for path in target.parent.iterdir()] == ["x.gguf"]
    assert {event.step for event in seen} == {"asking for x.gguf", "downloading", "checking"}


def test_a_server_without_ranges_gives_the_file_in_one_stream(origin, blob, target, options) -> None:
    origin.ranges = False
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob


def test_a_server_that_tells_no_length_gives_the_file(origin, blob, target, options) -> None:
    origin.ranges = origin.length = False
    got = finish(download(remote_of(origin, blob, known=False), target, options))
    assert target.read_bytes() == blob
    assert got.sha256 == sha256(blob)


def test_a_dropped_connection_is_taken_up_at_its_last_byte(origin, blob, target, options) -> None:
    origin.cuts = [700_000, 900_000, 1]
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob
    assert origin.served == len(blob) + 1


def test_without_ranges_a_dropped_connection_begins_again(origin, blob, target, options) -> None:
    origin.ranges = False
    origin.cuts = [3_000_000]
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob


def test_a_server_that_always_drops_is_given_up_with_a_sentence(origin, blob, target, options) -> None:
    origin.ranges = False
    origin.cuts = [1000] * 50
    with pytest.raises(DownloadFailed, match="goes on where it stopped"):
        finish(download(remote_of(origin, blob), target, options))
    assert not target.exists()


def test_a_host_that_cannot_be_reached_is_named_and_each_retry_is_told(target, options) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    seen: list[Progress] = []
    with pytest.raises(DownloadFailed, match="127\\.0\\.0\\.1 cannot be reached"):
        finish(download(RemoteFile("model", "x.gguf", f"http://127.0.0.1:{port}/x.gguf"), target, options), seen.append)
    asking, *retries = [event.step for event in seen]
    assert asking == "asking for x.gguf"
    assert len(retries) == options.retries
    assert all(step.startswith("trying again: 127.0.0.1 cannot be reached") for step in retries)


def test_a_name_that_nobody_knows_is_told_at_once(target, options) -> None:
    remote = RemoteFile("model", "x.gguf", "http://nothing.invalid/x.gguf", None, "")
    seen: list[Progress] = []
    with pytest.raises(DownloadFailed, match=r"Could not download x.gguf. The name nothing.invalid is not known here"):
        finish(download(remote, target, options), seen.append)
    assert [event.step for event in seen] == ["asking for x.gguf"]


def test_a_retry_half_way_is_told(origin, blob, target, options) -> None:
    origin.ranges = False
    origin.cuts = [3_000_000]
    seen: list[Progress] = []
    finish(download(remote_of(origin, blob), target, options), seen.append)
    assert any(event.step.startswith("trying again: 127.0.0.1 broke off") for event in seen)


def test_server_errors_are_tried_again(origin, blob, target, options) -> None:
    origin.failures = [503, 500, 429]
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob


def test_a_server_that_stays_broken_is_given_up_and_the_part_resumes(origin, blob, target, options) -> None:
    origin.cuts = [400_000] * 4
    job = download(remote_of(origin, blob), target, options.model_copy(update={"retries": 0}))
    with pytest.raises(DownloadFailed):
        finish(job)
    assert part_of(target).exists()
    before = origin.served
    assert 0 < before < len(blob)
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob
    assert origin.served - before < len(blob) - 300_000  # what the first connection to fail had brought


@pytest.mark.parametrize(
    ("status", "words"), [(404, "Check the spelling"), (403, "HF_TOKEN"), (401, "HF_TOKEN"), (451, "answered 451")]
)
def test_a_refusal_is_a_sentence_at_once(origin, blob, target, options, status: int, words: str) -> None:
    remote = remote_of(origin, blob)
    origin.refusals["/x.gguf"] = status
    with pytest.raises(DownloadFailed, match=words):
        finish(download(remote, target, options))
    assert origin.requests == 1


def test_an_endless_redirect_ends(origin, blob, target, options) -> None:
    remote = remote_of(origin, blob)
    origin.redirects = {"/x.gguf": "/y.gguf", "/y.gguf": "/x.gguf"}
    with pytest.raises(DownloadFailed, match="redirect"):
        finish(download(remote, target, options))
    assert origin.requests < 20


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x.gguf"])
def test_a_redirect_never_leaves_the_web(origin, blob, target, options, location: str) -> None:
    remote = remote_of(origin, blob)
    origin.redirects = {"/x.gguf": location}
    with pytest.raises(DownloadFailed):
        finish(download(remote, target, options))
    assert not target.exists()


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "2130706434"]
)
def test_open_webui_cve_2026_45401_a_redirect_never_leads_from_the_internet_into_a_network_of_ours(
    origin, blob, target, options, monkeypatch, host: str
) -> None:
    monkeypatch.setattr(
        redirects, "is_elsewhere", lambda address: address == "127.0.0.1"
    )  # as if our server were out there
    remote = remote_of(origin, blob)
    for hops in ({"/x.gguf": f"http://{host}/x"}, {"/x.gguf": "/y.gguf", "/y.gguf": f"http://{host}/x"}):
        origin.redirects = hops
        with pytest.raises(DownloadFailed, match=r"not of the public internet") as refused:
            finish(download(remote, target, options))
        assert host not in str(refused.value)
    assert not target.exists()


def test_a_server_of_ones_own_may_redirect_to_another(origin, blob, target, options) -> None:
    remote = remote_of(origin, blob)
    origin.files["/elsewhere"] = blob
    origin.redirects = {"/x.gguf": f"http://localhost:{origin.port}/elsewhere"}
    finish(download(remote, target, options))
    assert target.read_bytes() == blob


def test_a_stalled_connection_is_dropped_and_taken_up(origin, blob, target) -> None:
    origin.stalls = [200_000]
    finish(download(remote_of(origin, blob), target, DownloadOptions(pause_s=0.01, stall_s=0.5, connections=1)))
    assert target.read_bytes() == blob
    assert len(origin.ranges_asked) == 3


def test_a_server_that_only_stalls_is_given_up(origin, blob, target) -> None:
    origin.stalls = [0] * 20
    with pytest.raises(DownloadFailed, match="nothing for too long"):
        finish(
            download(
                remote_of(origin, blob), target, DownloadOptions(pause_s=0.01, stall_s=0.3, connections=1, retries=1)
            )
        )


def test_a_wrong_hash_leaves_nothing_behind(origin, blob, target, options) -> None:
    remote = RemoteFile("model", "x.gguf", origin.add("/x.gguf", blob), None, "0" * 64)
    with pytest.raises(HashMismatch, match="not the file it should be"):
        finish(download(remote, target, options))
    assert list(target.parent.iterdir()) == []


def test_where_only_an_md5_is_known_the_file_is_held_against_it(origin, blob, target, options) -> None:
    remote = RemoteFile("model", "x.gguf", origin.add("/x.gguf", blob), md5="0" * 32)
    with pytest.raises(HashMismatch, match="Its md5 is"):
        finish(download(remote, target, options))
    assert list(target.parent.iterdir()) == []
    right = replace(remote, md5=hashlib.md5(blob).hexdigest())
    assert finish(download(right, target, options)).sha256 == sha256(blob)


def test_the_hubs_own_header_gives_the_hash_where_nobody_else_does(origin, blob, target, options) -> None:
    remote = remote_of(origin, blob, known=False)
    origin.redirects = {"/x.gguf": "/cdn"}
    origin.files["/cdn"] = blob
    origin.headers = {"/x.gguf": {"X-Linked-ETag": f'"{"1" * 64}"'}}
    with pytest.raises(HashMismatch):
        finish(download(remote, target, options))
    origin.headers = {"/x.gguf": {"X-Linked-ETag": f'"{sha256(blob)}"'}}
    assert finish(download(remote, target, options)).sha256 == sha256(blob)


@pytest.mark.parametrize("claims", [-1000, 1000])
def test_a_server_that_lies_about_the_length_is_caught(origin, blob, target, options, claims: int) -> None:
    origin.ranges, origin.claims = False, claims
    with pytest.raises(DownloadFailed):
        finish(download(remote_of(origin, blob), target, options))
    assert not target.exists()


def test_a_shorter_body_than_announced_is_no_file(origin, blob, target, options) -> None:
    origin.ranges, origin.claims = False, 1000
    with pytest.raises(DownloadFailed):
        finish(download(remote_of(origin, blob, known=False), target, options))
    assert not target.exists()


def test_a_part_of_another_version_is_thrown_away(origin, blob, target, options) -> None:
    origin.cuts = [400_000] * 4
    with pytest.raises(DownloadFailed):
        finish(download(remote_of(origin, blob, known=False), target, options.model_copy(update={"retries": 0})))
    assert state_of(target).exists()
    other = bytes(reversed(blob))
    finish(download(remote_of(origin, other, known=False), target, options))
    assert target.read_bytes() == other


def test_a_file_that_changes_half_way_is_never_mixed(origin, blob, target, options) -> None:
    remote = remote_of(origin, blob, known=False)
    other = bytes(reversed(blob))
    origin.pause_s = 0.02
    job = download(remote, target, options)
    while origin.served < 1_000_000:
        next(job)
    origin.cuts = [0] * 4  # the running answers end by themselves; what is asked next is of the new file
    origin.files["/x.gguf"] = other
    origin.pause_s = 0
    finish(job)
    assert target.read_bytes() in (blob, other)


def test_a_file_that_changes_all_the_time_is_refused(origin, blob, target, options) -> None:
    count = iter(range(10_000))
    origin.etag = lambda body: f'"{next(count)}"'
    with pytest.raises(DownloadFailed, match="changed on the server"):
        finish(download(remote_of(origin, blob), target, options))


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[]",
        b'{"segments": [[0, 9, 3]]}',
        b'{"size_bytes": 6000000, "validator": "", "segments": [[0, 6000000, 6000000]]}',
    ],
)
def test_a_damaged_note_of_a_part_is_begun_afresh(origin, blob, target, options, state: bytes) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"rubbish")
    state_of(target).write_bytes(state)
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob


def test_a_finished_file_is_not_fetched_again(origin, blob, target, options) -> None:
    finish(download(remote_of(origin, blob), target, options))
    before = origin.requests
    finish(download(remote_of(origin, blob), target, options))
    assert origin.requests == before


def test_a_finished_file_that_rotted_is_fetched_again(origin, blob, target, options) -> None:
    target.parent.mkdir()
    target.write_bytes(blob[:-1] + b"?")
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob


def test_offline_is_refused_before_any_socket(origin, blob, target, options, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused):
        finish(download(remote_of(origin, blob), target, options))
    assert origin.requests == 0


def test_closing_the_job_leaves_a_part_that_goes_on(origin, blob, target, options) -> None:
    origin.pause_s = 0.01
    job = download(remote_of(origin, blob), target, options)
    while origin.served < 1_500_000:
        next(job)
    job.close()
    origin.pause_s = 0
    wait_for(lambda: not any(thread.name == "filbert-download" for thread in threading.enumerate()))
    before = origin.served
    finish(download(remote_of(origin, blob), target, options))
    assert target.read_bytes() == blob
    assert origin.served - before < len(blob) - 1_000_000


def test_a_file_larger_than_the_disk_is_refused_before_the_first_byte(origin, blob, target, options) -> None:
    remote = RemoteFile("model", "x.gguf", origin.add("/x.gguf", blob))
    origin.headers["/x.gguf"] = {"Content-Range": f"bytes 0-0/{1 << 60}"}
    origin.etag = lambda body: '"huge"'
    with pytest.raises(DiskFull, match="free"):
        finish(download(remote, target, options))
    assert origin.served <= 1


@pytest.mark.root
def test_a_disk_that_fills_up_is_a_sentence_and_the_part_goes_on_later(origin, blob, small_disk, options) -> None:
    origin.ranges = origin.length = False  # so that the size is not known beforehand
    with pytest.raises(DiskFull, match="Free some room"):
        finish(download(remote_of(origin, blob, known=False), small_disk / "x.gguf", options))
    assert not (small_disk / "x.gguf").exists()


@pytest.mark.root
def test_a_disk_that_is_too_small_is_seen_before_the_download(origin, blob, small_disk, options) -> None:
    with pytest.raises(DiskFull):
        finish(download(remote_of(origin, blob), small_disk / "x.gguf", options))
    assert origin.served <= 1


def test_a_file_system_with_a_size_limit_is_a_sentence(origin, blob, target) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from filbert.core.errors import DiskFull\n"
        "from filbert.models.download import download\n"
        "from filbert.models.remote import RemoteFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try:\n"
        "    list(download(RemoteFile('model', 'x.gguf', sys.argv[1]), Path(sys.argv[2])))\n"
        "except DiskFull as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, origin.add("/x.gguf", blob), str(target)], capture_output=True, text=True
    )
    assert "takes no file of this size" in done.stdout, done.stderr
    assert not target.exists()


CERTIFICATE = Path(__file__).with_name("localhost.pem")


def test_a_company_certificate_of_the_environment_is_trusted(blob, target, options, monkeypatch) -> None:
    secure = Origin(files={"/x.gguf": blob})
    with serving(secure, CERTIFICATE):
        remote = RemoteFile("model", "x.gguf", f"https://localhost:{secure.port}/x.gguf")
        with pytest.raises(DownloadFailed, match=r"(?i)certificate"):
            finish(download(remote, target, options))
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        finish(download(remote, target, options))
    assert target.read_bytes() == blob


def test_a_redirect_never_goes_from_https_to_http(origin, blob, target, options, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    secure = Origin(redirects={"/x.gguf": origin.add("/x.gguf", blob)})
    with serving(secure, CERTIFICATE), pytest.raises(DownloadFailed, match="not encrypted"):
        finish(download(RemoteFile("model", "x.gguf", f"https://localhost:{secure.port}/x.gguf"), target, options))
    assert origin.requests == 0


def test_proxies_of_the_environment_are_used(origin, blob, target, options, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", origin.url)
    monkeypatch.setenv("no_proxy", "")
    origin.files["/far.gguf"] = blob
    finish(download(RemoteFile("model", "far.gguf", "http://nowhere.invalid/far.gguf"), target, options))
    assert target.read_bytes() == blob


def test_a_token_is_sent_to_its_own_host_only(origin, blob, target, options) -> None:
    other = Origin()
    with serving(other):
        other.files["/cdn"] = blob
        origin.redirects = {"/x.gguf": f"http://localhost:{other.port}/cdn"}
        remote = RemoteFile("model", "x.gguf", f"{origin.url}/x.gguf", headers={"Authorization": "Bearer secret"})
        finish(download(remote, target, options))
    assert {token for _, token in origin.authorizations} == {"Bearer secret"}
    assert {token for _, token in other.authorizations} == {None}
    assert b"secret" not in b"".join(path.read_bytes() for path in target.parent.iterdir() if path != target)


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) * 3 + 7, 98_362_432])
@pytest.mark.parametrize("pieces", [1, 4, 16])
def test_segments_cover_the_file_once(size: int, pieces: int) -> None:
    segments = cut(size, pieces)
    assert segments[0].start == 0
    assert segments[-1].end == size
    assert all(before.end == after.start for before, after in pairwise(segments))
    assert all(isinstance(segment, Segment) and segment.at == segment.start for segment in segments)
