"""The way in: exit statuses, sentences instead of tracebacks, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import FILBERT, Run

COMMANDS = [
    "chat",
    "pull",
    "list",
    "show",
    "rm",
    "embed",
    "rerank",
    "score",
    "perplexity",
    "report",
    "serve",
    "doctor",
    "config",
]


def test_the_version_needs_nothing_but_the_version() -> None:
    asked = f"import sys; sys.argv = [{FILBERT!r}, '--version']; from filbert.cli.main import main; main()"
    asked += "; print(sorted(sys.modules.keys() & {'typer', 'pydantic', 'filbert.core.settings'}))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    version, heavy = done.stdout.splitlines()
    assert re.fullmatch(r"filbert \d+\.\d+\.\d+", version)
    assert heavy == "[]"


def test_help_lists_every_command_with_a_whole_sentence(filbert: Run) -> None:
    done = filbert("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\.$", done.stdout, re.MULTILINE), command
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(filbert: Run, command: str) -> None:
    done = filbert(command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: filbert" in done.stdout
    assert "((" not in done.stdout and "(f16)" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["frobnicate"], 2, "error: There is no command `filbert frobnicate`. `filbert -h` lists them."),
        (["lst"], 2, "There is no command `filbert lst`. Did you mean list?"),
        (["config", "sett"], 2, "There is no command `filbert config sett`. Did you mean set?"),
        (["chats", "set"], 2, "There is no command `filbert chats set`. `filbert chats -h` lists them."),
        (["list", "--frobnicate"], 2, "error: `filbert list` has no flag --frobnicate. `filbert list -h` lists its f"),
        (
            ["set", "my", "--temperature", "0.3"],
            2,
            "error: `filbert set` has no flag --temperature. Write temperature=0.",
        ),
        (["set", "my", "--temp=0.3"], 2, "Write temperature=0.3."),
        (["set", "my", "--system", "Be brief."], 2, "Write system='Be brief.'."),
        (
            ["chat", "--resume"],
            2,
            "error: --resume needs a value. `filbert chats` lists the chats with their IDs.",
        ),
        (["set", "my", "--frmo", "x"], 2, "error: `filbert set` has no flag --frmo. Did you mean --from?"),
        (["--ofline"], 2, "error: `filbert` has no flag --ofline. `filbert -h` lists its flags."),
        (["config", "set", "model"], 2, "error: `filbert config set` needs VALUE. `filbert config set -h` shows"),
        (["run"], 2, "error: `filbert run` needs NAME. `filbert list` shows the models that are here"),
        (["chat", "--temperature", "hot"], 2, "error: --temperature cannot be 'hot'. It takes 0 to 5."),
        (["chats", "--limit", "0"], 2, "error: --limit cannot be '0'. It takes 1 or more."),
        (["chats", "--limit", "x"], 2, "error: --limit cannot be 'x'. It takes a whole number."),
        (
            ["chats", "export", "x", "--format", "pdf"],
            2,
            "error: --format cannot be 'pdf'. It takes 'markdown', 'json'.",
        ),
        (["list", "x"], 2, "`filbert list -h` shows what it takes."),
        (["pull"], 2, "`filbert list --available`"),
        (["chat", "--temperature", "9", "hi"], 2, "error: temperature cannot be 9.0. It takes 0 to 5."),
        (["chat", "--temperature", "warm", "hi"], 2, "--temperature"),
        (["chat", "--json-schema", "nowhere.json", "hi"], 2, "error: --json-schema nowhere.json cannot be read."),
        (["chat", "--json-schema", "README.md", "hi"], 2, "error: --json-schema README.md is not JSON."),
        (["chat", "-m", "nowhere.gguf", "hi"], 2, "error: There is no model file"),
        (["show", "nothing"], 2, "error: There is no model nothing."),
        (["rm", "nothing"], 2, "error: nothing is not installed."),
        (["chat", "--grammar", "/dev/null", "hi"], 2, "error: --grammar /dev/null is empty."),
        (["chat", "--grammar", "/dev/zero", "hi"], 2, "error: --grammar /dev/zero is more than 16 MiB"),
        (["perplexity", "--text", "/dev/zero"], 2, "error: /dev/zero is more than 16 MiB"),
        (["perplexity", "--text", "nowhere.txt"], 2, "error: nowhere.txt cannot be read"),
        (["perplexity"], 2, "error: One file is needed to measure on."),
        (["perplexity", "a", "b", "--text", "README.md"], 2, "error: 2 models are too many."),
        (["perplexity", "--text", "README.md", "--csv"], 2, "go with --pairs"),
        (["perplexity", "--pairs", "README.md", "--csv", "--json"], 2, "Leave one of --csv and --json out."),
        (["perplexity", "--pairs", "README.md"], 2, "line 1 is not JSON"),
        (["perplexity", "--pairs", "README.md", "--plot", "a.gif"], 2, "a.gif says no format of a picture."),
        (["fidelity", "a", "--base", "b", "--text", "nowhere.txt"], 2, "error: nowhere.txt cannot be read"),
        (["fidelity", "a", "--text", "README.md"], 2, "needs BASE"),
        (["bench", "nowhere.gguf"], 2, "error: There is no model file"),
        (["bench", "--rounds", "0"], 2, "error: --rounds cannot be '0'. It takes 1 or more."),
        (["bench", "--busy", "-1"], 2, "error: --busy cannot be '-1'. It takes 0 or more."),
        (["bench", "--depth", "0,deep"], 2, "error: --depth cannot be '0,deep'. Write --depth 512,1024."),
        (["bench", "--depth", "-5"], 2, "error: Tokens cannot be -5."),
        (["bench", "-p", "0", "-n", "0"], 2, "error: There is nothing to measure."),
        (["embed"], 2, "error: There is nothing to embed."),
        (["rerank", "query"], 2, "error: There is nothing to rank."),
        (["pull", "--offline", "hf:owner/repo:Q4_K_M"], 3, "error: hf:owner/repo:Q4_K_M is not on this machine."),
        (["chat", "-m", __file__, "hi"], 6, "is not a GGUF file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_a_sentence_and_a_status(filbert: Run, arguments: list[str], status: int, said: str) -> None:
    done = filbert(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_and_ends_the_same(filbert: Run) -> None:
    flag, variable = filbert("show", "nothing", "--debug"), filbert("show", "nothing", FILBERT_DEBUG="1")
    quiet = filbert("show", "nothing", FILBERT_DEBUG="0")
    assert flag.returncode == variable.returncode == quiet.returncode == 2
    assert "Traceback" in flag.stderr and "Traceback" in variable.stderr
    assert "Traceback" not in quiet.stderr


def test_an_engine_that_cannot_load_is_a_sentence(filbert: Run, shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp").mkdir()
    (tmp_path / "xllamacpp/__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    broken = {"FILBERT_HOME": str(shelf), "PYTHONPATH": str(tmp_path)}
    done = filbert("chat", "hi", **broken)
    assert done.returncode == 7
    assert "libgomp.so.1" in done.stderr and "filbert doctor" in done.stderr
    assert filbert("score", "a", "b", **broken).returncode == 7


def test_a_reader_that_goes_away_is_no_fault(filbert: Run) -> None:
    listing = subprocess.Popen([FILBERT, "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout and listing.stderr
    listing.stdout.close()
    assert listing.wait(60) == 141
    assert listing.stderr.read() == b""
    listing.stderr.close()


def test_an_output_that_knows_no_unicode_is_no_fault(filbert: Run) -> None:
    done = filbert("config", PYTHONIOENCODING="ascii", FILBERT_MODEL="nüsse.gguf")
    assert done.returncode == 0
    assert "n?sse.gguf" in done.stdout


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (
            "filbert config >/dev/full",
            5,
            "error: What was found out cannot be written. No space left on device. Free some room.\n",
        ),
        ("filbert list >&-", 0, "No models yet. `filbert pull smollm2:135m` fetches the starter (98 MB).\n"),
        ("filbert chat <&-", 2, 'error: There is nothing to answer. Try `filbert chat "Why is the sky blue?"`.\n'),
        (
            "filbert chat </dev/zero",
            2,
            "error: Standard input is more than 16 MiB. Give it in parts.\n",
        ),
        ("filbert show nothing 2>&-", 2, ""),
    ],
)
def test_odd_streams_are_no_fault(filbert: Run, command: str, status: int, said: str) -> None:
    path = f"{Path(FILBERT).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert (done.returncode, done.stderr) == (status, said)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written below it; for root, whom modes do not stop, by a mount."""
    folder.mkdir(exist_ok=True)
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
        yield
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_read_only_home_reads_and_refuses_to_write_in_a_sentence(filbert: Run, home: Path, starter: Path) -> None:
    with read_only(home):
        assert filbert("list").returncode == 0
        assert filbert("config").returncode == 0
        assert filbert("chat", "-m", str(starter), "--max-tokens", "3", "hi").returncode == 0
        for command in (["config", "set", "offline", "yes"], ["pull", "smollm2:135m"]):
            done = filbert(*command)
            assert done.returncode == 5
            assert f"Cannot write to {home}" in done.stderr


def test_a_home_that_is_a_file_is_a_sentence(filbert: Run) -> None:
    done = filbert("list", FILBERT_HOME=__file__)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(filbert: Run, shell: str) -> None:
    done = filbert(
        "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )  # the shell by its name
    assert done.returncode == 0
    assert "_FILBERT_COMPLETE" in done.stdout
