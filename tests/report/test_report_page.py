"""A page is one file: it fetches nothing, runs nothing, and text from a model's file stays text."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from filbert.report.page import Bar, Cell, Chart, Commands, Notes, Page, Section, Table, Words, html, markdown

EVIL = '<script>alert("1")</script><img src=http://evil.example/x> | `x` [y](http://evil.example) \u202e\x1b[31m\ud800'
PAGE = Page(
    EVIL,
    EVIL,
    [
        Section(
            EVIL,
            [
                Words(EVIL),
                Commands([EVIL]),
                Table([EVIL, "b"], [[Cell(EVIL, EVIL, 1), Cell("2")], [Cell("3"), Cell("4")]], marked=[1]),
                Chart(EVIL, EVIL, [Bar(EVIL, EVIL, 0.5, 0.25, 2.0)]),
                Chart("second", "1", [Bar("a", "b", 0.5, 0.25, 0.75)]),
                Notes([(EVIL, EVIL)]),
            ],
        )
    ],
)


class Parsed(HTMLParser):
    """tags: each with its attributes; text: what a reader sees; style: what is not read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.style = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style" and not self.style:
            self.style = data
        else:
            self.text += data


def test_text_stays_text_wherever_it_stands() -> None:
    page = Parsed(html(PAGE))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "link", "object", "form", "base"})
    places = 13  # title twice, lead, heading, words, command, head, cell twice, chart thrice and its end, notes twice
    assert page.text.count('<script>alert("1")</script>') >= places
    assert not set("\u202e\x1b\ud800") & set(html(PAGE))
    html(PAGE).encode()


def test_a_page_fetches_nothing_and_runs_nothing() -> None:
    page = Parsed(html(PAGE))
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert addresses == ["#note-1"]
    assert ("li", {"id": "note-1"}) in page.tags
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert "url(" not in page.style and "@import" not in page.style


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    page = Parsed(html(PAGE))
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_every_tag_is_closed() -> None:
    text = html(PAGE)
    for tag in ("section", "div", "table", "tbody", "tr", "th", "td", "figure", "svg", "ol", "li", "main", "pre", "a"):
        assert text.count(f"<{tag}>") + text.count(f"<{tag} ") == text.count(f"</{tag}>"), tag


def test_an_interval_is_drawn_where_it_lies_and_never_outside() -> None:
    assert 'width="50.00"' in html(PAGE)
    assert 'd="M25.00 6H100.00M25.00 3V9M100.00 3V9"' in html(PAGE)
    assert 'd="M25.00 6H75.00' in html(PAGE)


def test_markdown_has_the_same_words_and_no_markup_of_its_own() -> None:
    text = markdown(PAGE)
    outside_code = "\n".join(line for line in text.splitlines() if "``" not in line)
    assert "\\<script\\>" in outside_code
    assert "](" not in outside_code.replace("\\](", "")
    assert " <script>" not in outside_code
    assert "| **3** | **4** |" in text
    assert f"- {'``'} <script>" in text


@pytest.mark.browser
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_browser_takes_the_style_and_would_complain_of_another(tmp_path: Path, spoilt: bool) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(html(PAGE).replace("<style>", "<style> " if spoilt else "<style>").encode())
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "<main>" in done.stdout
    assert ("Content Security Policy" in done.stderr) == spoilt
