"""Ollama's Modelfile, read as its own parser reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from filbert.core.errors import BadInput
from filbert.models.modelfile import Modelfile, is_of, read_modelfile

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
WHOLE = '''# a comment
FROM smollm2:135m
\tParameter temperature 0.5

PARAMETER num_ctx 4096
PARAMETER num_predict -1
PARAMETER stop "<|im_end|>"
PARAMETER stop User:
PARAMETER mirostat 2
PARAMETER mirostat 1
  # another
SYSTEM """
You are Mario.
  "Quotes" stay.
"""
MESSAGE user Who are you?
MESSAGE assistant "It's me, Mario!"
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}"""
LICENSE "Apache 2.0"
REQUIRES 0.14.0
'''


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "Modelfile"


def read(path: Path, text: str | bytes) -> Modelfile:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_modelfile(path)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_modelfile_is_read_whole(written: Path, line_end: str) -> None:
    found = read(written, "\ufeff" + WHOLE.replace("\n", line_end))
    assert found.of == "smollm2:135m"
    assert found.values == {
        "temperature": "0.5",
        "context": "4096",
        "stop": ["<|im_end|>", "User:"],
        "system": '\nYou are Mario.\n  "Quotes" stay.\n',
    }
    assert [(each.role, each.content) for each in found.examples] == [
        ("user", "Who are you?"),
        ("assistant", "It's me, Mario!"),
    ]
    assert found.licence == "Apache 2.0"
    assert found.ignored == ("mirostat", "REQUIRES")
    assert is_of(found.template, CHATML)


@pytest.mark.parametrize(
    ("named", "of"),
    [
        ("llama3.2:latest", "llama3.2"),
        ("hf.co/owner/repo:Q4_K_M", "hf:owner/repo:Q4_K_M"),
        ("https://huggingface.co/owner/repo", "hf:owner/repo"),
        ("https://host.example/x.gguf", "https://host.example/x.gguf"),
        ("./x.gguf", "{folder}/x.gguf"),
        ("x.gguf", "{folder}/x.gguf"),
        ("/models/blobs/sha256-12", "/models/blobs/sha256-12"),
    ],
)
def test_from_is_a_name_or_a_path_from_the_files_own_folder(written: Path, named: str, of: str) -> None:
    assert read(written, f"FROM {named}").of == of.format(folder=written.parent)


def test_adapters_are_put_upon_the_model(written: Path) -> None:
    found = read(written, "FROM smollm2\nADAPTER ./lora.gguf\nADAPTER my-adapter\n")
    assert found.of == f"smollm2+{written.parent}/lora.gguf+my-adapter"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SYSTEM hi", "has no FROM"),
        ("", "has no FROM"),
        ("FROM a\nFROM b", "names 2 models"),
        ("FROM a\nRUN rm -rf /", r"Line 2 of Modelfile is no instruction: 'RUN rm -rf /'"),
        ("FROM", "Line 1 of Modelfile is no instruction"),
        ('FROM a\nSYSTEM """never ends\n"', "The quote that begins in line 2 of Modelfile has no end"),
        ("FROM a\nPARAMETER temperature", "gives temperature no value"),
        ("FROM a\nMESSAGE robot hi", "a MESSAGE of 'robot'"),
        (b"FROM \xff\xfe", "is not UTF-8 text"),
        (b"\x7fELF\x00\x00", "is no instruction"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_line(written: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read(written, text)


def test_a_hundred_megabytes_are_refused_before_they_are_read(written: Path) -> None:
    with written.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(BadInput, match="is more than 16 MiB"):
        read_modelfile(written)


def test_a_folder_and_a_missing_file_are_sentences(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_modelfile(path)


def test_a_quote_of_megabytes_is_read_in_linear_time(written: Path) -> None:
    found = read(written, 'FROM a\nSYSTEM """' + 'a "quote"\n' * 500_000 + '"""')
    assert len(str(found.values["system"])) == 5_000_000


@pytest.mark.parametrize(
    ("template", "known"),
    [
        ("<|im_start|>user\n{{ .Prompt }}<|im_end|>", True),
        ("[INST] {{ .Prompt }} [/INST]", False),
        ("<|start_header_id|>user<|end_header_id|>{{ .Prompt }}", False),
        ("{{ .Prompt }}", False),
        ("", False),
        ("{{ " * 100_000, False),
    ],
)
def test_a_go_template_is_known_by_the_turns_it_writes(template: str, known: bool) -> None:
    assert is_of(template, CHATML) is known


def test_more_stops_than_any_model_takes_are_refused_by_their_line(written: Path) -> None:
    with pytest.raises(BadInput, match=r"Line 66 of Modelfile is one stop too many"):
        read(written, "FROM x\n" + "PARAMETER stop a\n" * 100_000)


def test_the_home_of_nobody_is_refused(written: Path) -> None:
    with pytest.raises(BadInput, match="is no path"):
        read(written, "FROM ~nobodyhere/x.gguf")
