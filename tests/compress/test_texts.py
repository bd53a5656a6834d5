"""The texts that ship: enough of each kind, none twice, and each with its source and licence told."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

import make_tiny
from filbert.compress.texts import check_sha256, check_texts, default_texts
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place

SYSTEM = "You are a helpful AI assistant named SmolLM"  # the template says so in each chat
FOLDER = resources.files("filbert.compress")


@pytest.fixture(scope="module")
def model(starter: Path) -> Model:
    return Model(in_place(starter), LoadOptions())


def test_calibration_has_many_kinds_and_chats_are_the_models_own(model: Model) -> None:
    texts = {text.name: text for text in default_texts(model)}
    assert list(texts) == ["chat", "code", "languages", "markdown", "prose"]
    assert texts["chat"].special
    assert texts["chat"].text.count("<|im_start|>assistant\n") > 50
    assert 250_000 < sum(len(text.text.encode()) for text in texts.values()) < 350_000


def test_each_kind_of_the_check_has_eight_windows(model: Model, starter: Path) -> None:
    texts = {text.name: text for text in check_texts(model)}
    assert list(texts) == ["chat", "code", "prose", "rare scripts"]
    with Scorer(in_place(starter)) as scorer:
        lengths = map(len, scorer.tokenize([text.text for text in texts.values()]))
    assert all(length >= 8 * 512 for length in lengths)


def test_what_is_checked_with_is_not_calibrated_with(model: Model) -> None:
    known = {line for text in default_texts(model) for line in lines(text.text)}
    for text in check_texts(model):
        shared = [line for line in lines(text.text) if line in known]
        assert not shared, (text.name, shared[:3])


def lines(text: str) -> list[str]:
    """Those that are more than a word or two."""
    return [line for line in text.splitlines() if len(line) > 60 and SYSTEM not in line]


def test_a_model_without_a_template_reads_chats_as_lines(tmp_path: Path) -> None:
    plain = Model(in_place(make_tiny.dense(tmp_path / "tiny.gguf", template=None)), LoadOptions())
    chat = default_texts(plain)[0]
    assert not chat.special
    assert chat.text.startswith("How do I start running?\nMake sure")


def test_every_file_tells_where_it_is_from() -> None:
    told = (FOLDER / "calibration/README.md").read_text("utf-8")
    for folder in ("calibration", "check"):
        for file in (FOLDER / folder).iterdir():
            path = file.name if folder == "calibration" else f"../check/{file.name}"
            assert file.name == "README.md" or re.search(rf"^\|.*{re.escape(path)}.*\|$", told, re.MULTILINE), path


def test_the_check_says_which_it_is() -> None:
    """Numbers on another check are not comparable: who changes it changes this line, and says so."""
    assert check_sha256()[:12] == "84bc99a9cdba"
