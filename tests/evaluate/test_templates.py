from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from filbert.core.errors import BadInput
from filbert.evaluate import templates
from filbert.evaluate.templates import Rendered, render

WHERE = Path("squirrels.yaml")
ENDLESS = "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}"


def rendered(template: str, **document: object) -> Rendered:
    (value,) = render({"text": (template, "text")}, [document], where=WHERE)
    return value


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "templates_main.py" in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{a}}\n", "nut\n"),
        ("{{a|regex_replace('n', 'h')}}", "hut"),
        ("{{a.upper()}}", "NUT"),
        ("{{a}}: {{b}}", "text: 'b' is undefined."),
        ("{{a // 2}}", "text: unsupported operand type(s) for //: 'str' and 'int'."),
    ],
)
def test_a_template_is_filled_as_lm_eval_fills_it(template: str, text: str) -> None:
    assert rendered(template, a="nut") == (text if text.startswith("text: ") else {"text": text})


def test_every_document_is_rendered_in_its_order() -> None:
    numbers = [{"n": number} for number in range(1050)]
    assert render({"text": ("{{n}}", "text")}, numbers, where=WHERE) == [{"text": f"{n}"} for n in range(1050)]


def test_an_endless_loop_ends_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SILENCE_S", 5.0)
    with pytest.raises(BadInput, match=r"squirrels.yaml cannot be used. A template did not come to an end within 5 s"):
        rendered(ENDLESS)
    assert children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a bound of its memory")
@pytest.mark.parametrize(
    "template",
    [
        "{{'a' * 10 ** 11}}",
        "{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x * 2 %}{% endfor %}{{ns.x}}",
    ],
)
def test_a_template_that_fills_the_memory_is_told(template: str) -> None:
    with pytest.raises(BadInput, match="A template took over 1 GB of memory"):
        rendered(template)


def test_a_template_that_floods_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_BYTES", 100_000)
    assert rendered("{{'a' * 90000}}") == {"text": "a" * 90000}
    with pytest.raises(BadInput, match="more text than any model reads"):
        rendered("{{'a' * 110000}}")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{a", "cannot be read: unexpected end"),
        ("{{a|nonesuch}}", "cannot be read: No filter named 'nonesuch'"),
        ("{{''.__class__.__mro__}}", "does what none may: access to attribute '__class__'"),
        ("{{a.append(1)}}", "does what none may"),
        ("{{''.format.__globals__}}", "does what none may"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(template: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        rendered(template, a=[])


def test_a_child_that_is_killed_is_told() -> None:
    def kill() -> None:
        while not (found := children()):
            time.sleep(0.01)
        found[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BadInput, match="died of them"):
        rendered(ENDLESS)
    killer.join()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_child_ends_with_its_caller(ending: signal.Signals) -> None:
    script = f"from pathlib import Path\nfrom filbert.evaluate.templates import render\nrender({{'a': ({ENDLESS!r}, 'text')}}, [{{}}], where=Path('x'))"
    caller = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, start_new_session=True)
    child = None
    deadline = time.monotonic() + 60
    while not child and time.monotonic() < deadline:
        child = next(iter(psutil.Process(caller.pid).children()), None)
        time.sleep(0.05)
    assert child
    caller.send_signal(ending)  # to the caller alone
    _, said = caller.communicate(timeout=60)
    assert caller.returncode == -ending
    assert (b"KeyboardInterrupt" in said) == (ending == signal.SIGINT)
    child.wait(timeout=60)
