"""What the docs and examples say is true: every block runs, every link leads somewhere, cli.md is the code's."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PAGES = sorted([CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *(CHECKOUT / "docs").rglob("*.md")])
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))
BLOCK = re.compile(r"^(?P<mark><!-- not run: .+ -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = ("text", "toml", "json", "yaml")  # never run: output, files
ELSEWHERE = ("javascript",)  # tests/clients has what runs it


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. marked: it says why it is not run here."""

    page: Path
    line: int
    kind: str
    text: str
    marked: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("kind")) + 1, found["kind"], found["text"], bool(found["mark"]))
        for found in BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture
def desk(tmp_path: Path, stocked: Path) -> Path:
    """A folder to work in, with the README, beside a store with the starter."""
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copy(CHECKOUT / "README.md", folder)
    return folder


def run(command: list[str], folder: Path) -> str:
    """What it printed. Whatever it left running ends with it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=200)
    finally:
        if process.poll() is None or _has_members(process.pid):
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, printed
    return printed


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "shell" and not b.marked], ids=str)
def test_every_command_in_the_docs_runs(block: Block, desk: Path) -> None:
    run(["bash", "-euo", "pipefail", "-c", block.text], desk)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "python" and not b.marked], ids=str)
def test_every_program_in_the_docs_runs(block: Block, desk: Path) -> None:
    assert run([sys.executable, "-W", "error", "-c", block.text], desk)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs(example: Path, desk: Path) -> None:
    assert run([sys.executable, "-W", "error", str(example)], desk)


def test_a_block_is_run_or_says_why_not() -> None:
    assert BLOCKS
    assert [str(block) for block in BLOCKS if block.kind not in ("shell", "python", *SHOWN, *ELSEWHERE)] == []
    assert [str(block) for block in BLOCKS if block.kind in ELSEWHERE and not block.marked] == []


def test_the_readme_fits_on_a_screen_and_names_the_two_commands() -> None:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 65
    assert "make run PROMPT=" in text and "make test" in text and "not there yet" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_the_index_leads_to_every_page() -> None:
    index = (CHECKOUT / "docs/index.md").read_text("utf-8")
    pages = {page.name for page in (CHECKOUT / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


def anchors(page: Path) -> list[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]


@pytest.mark.parametrize(("page", "writer"), [("cli.md", "reference"), ("openapi.json", "description")])
def test_what_is_made_of_the_code_is_current(page: str, writer: str) -> None:
    written = runpy.run_path(str(CHECKOUT / "tools/write_docs.py"))[writer]()
    assert (CHECKOUT / "docs" / page).read_text("utf-8") == written, "run `make docs`"


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_page_names_a_place_of_ours(page: Path) -> None:
    assert not re.search(r"/(work|root|home|tmp|Users)/", page.read_text("utf-8"))
