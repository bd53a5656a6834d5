"""What a real browser lets a page do, and what the server lets it do then. Needs Chromium."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from running_server import STARTER, RunningServer, install, sample, serving

pytestmark = pytest.mark.browser

# Three ways of asking: as a form may (no leave is asked for), in JSON (a browser asks first), and by reading what is here.
PAGE = """<!doctype html><pre id="told"></pre><script>
const server = "%(server)s", body = JSON.stringify(%(body)s);
const tried = async (way) => { try { const answer = await way(); return answer.type === "opaque" ? "opaque" : answer.status }
  catch (error) { return error.name } };
(async () => {
  const url = server + "/v1/chat/completions", headers = {"Content-Type": "application/json"};
  document.getElementById("told").textContent = JSON.stringify({
    form: await tried(() => fetch(url, {method: "POST", mode: "no-cors", body})),
    json: await tried(() => fetch(url, {method: "POST", headers, body})),
    read: await tried(() => fetch(server + "/v1/models")),
  });
})();
</script>"""


def shown(url: str, tmp_path: Path, *flags: str) -> str:
    """The document as it stands once the page has run."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *flags]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=20000", "--dump-dom", url]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=120
    ).stdout


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A site of another port: its address, and the folder it shows."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pages.server_port}", folder
        pages.shutdown()


@pytest.fixture
def told_home(home: Path, starter: Path) -> Path:
    install(home, starter)
    return home


def told(site: tuple[str, Path], server: RunningServer, tmp_path: Path) -> dict[str, object]:
    """What a page of the site got of each way."""
    address, folder = site
    body = {"model": STARTER, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi."}]}
    (folder / "page.html").write_text(PAGE % {"server": server.url, "body": json.dumps(body)})
    document = shown(f"{address}/page.html", tmp_path)
    text = unescape(document.partition('<pre id="told">')[2].partition("</pre>")[0])
    found: dict[str, object] = json.loads(text)
    return found


@pytest.mark.slow
def test_a_page_of_another_site_gets_nothing(site: tuple[str, Path], told_home: Path, tmp_path: Path) -> None:
    with serving(told_home) as server:
        assert told(site, server, tmp_path) == {"form": "opaque", "json": "TypeError", "read": "TypeError"}
        assert sample(server, "filbert_requests_total", status="403") == 3
        assert sample(server, "filbert_completion_tokens_total") == 0
        assert server.chat().choices


@pytest.mark.slow
def test_a_page_of_a_known_site_may_ask_in_json(site: tuple[str, Path], told_home: Path, tmp_path: Path) -> None:
    with serving(told_home, "--allow-origin", site[0]) as server:
        assert told(site, server, tmp_path) == {"form": "opaque", "json": 200, "read": 200}
        assert sample(server, "filbert_requests_total", status="403") == 1


@pytest.mark.slow
def test_a_page_that_rebinds_its_name_reads_nothing(told_home: Path, tmp_path: Path) -> None:
    with serving(told_home) as server:
        rebound = f"--host-resolver-rules=MAP evil.example 127.0.0.1:{server.port}"
        document = shown(f"http://evil.example:{server.port}/v1/models", tmp_path, rebound)
        assert sample(server, "filbert_requests_total", status="403") >= 1
    assert STARTER not in document
