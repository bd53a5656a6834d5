"""Headers that are written are read again, by us and by others, with nothing lost."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filbert.models.gguf import Header, read_header
from filbert.models.gguf_write import Short, Signed, Value, header_bytes, padded, placed, size_of
from shapes import FAMILIES

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
KEYS = st.from_regex(r"filbert\.[a-z_]{1,20}", fullmatch=True)
VALUES = st.one_of(
    TEXT,
    st.integers(0, (1 << 32) - 1),
    st.floats(width=32, allow_nan=False),
    st.lists(TEXT, min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Header:
    return read_header(FAMILIES["llama-1b"].write(tmp_path_factory.mktemp("family") / "model.gguf"))


@settings(deadline=None)
@given(said=st.dictionaries(KEYS, VALUES, max_size=6))
def test_what_is_said_is_read_again(
    source: Header, tmp_path_factory: pytest.TempPathFactory, said: dict[str, Value]
) -> None:
    file = tmp_path_factory.mktemp("header") / "out.gguf"
    places = placed((tensor.name, tensor.shape, tensor.type) for tensor in source.tensors)
    file.write_bytes(header_bytes(source, {**said, "general.file_type": 7}, places))
    with file.open("r+b") as out:
        out.truncate(file.stat().st_size + places[-1].offset + padded(places[-1].size_bytes))
    header = read_header(file)
    assert {key: header.load(key) for key in said} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in said.items()
    }
    assert header.quantisation == "Q8_0"
    kept = source.metadata.keys() - {"general.file_type", "general.alignment"}
    assert all(header.load(key) == source.load(key) for key in kept)
    assert [(each.name, each.shape, each.type) for each in header.tensors] == [
        (each.name, each.shape, each.type) for each in source.tensors
    ]


def test_another_reader_finds_the_same(starter: Path, tmp_path: Path) -> None:
    source = read_header(starter)
    places = placed((tensor.name, tensor.shape, tensor.type) for tensor in source.tensors)
    said = {"filbert.kld": 0.25, "filbert.text": "wiki", "split.no": Short(3), "split.tensors.count": Signed(7)}
    header = header_bytes(source, said, places)
    file = tmp_path / "out.gguf"
    with file.open("wb") as out:
        out.write(header)
        out.truncate(len(header) + places[-1].offset + padded(places[-1].size_bytes))
    reader = gguf.GGUFReader(file)
    assert reader.fields["filbert.kld"].contents() == 0.25
    assert reader.fields["filbert.text"].contents() == "wiki"
    assert reader.fields["split.no"].types == [gguf.GGUFValueType.UINT16]
    assert reader.fields["split.tensors.count"].types == [gguf.GGUFValueType.INT32]
    assert (reader.fields["split.no"].contents(), reader.fields["split.tensors.count"].contents()) == (3, 7)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == list(source.load("tokenizer.ggml.tokens"))  # type: ignore[arg-type]
    assert [each.data_offset for each in reader.tensors] == [len(header) + place.offset for place in places]


def test_tensors_are_of_the_size_that_the_format_says() -> None:
    assert size_of((576, 3), "F16") == 576 * 3 * 2
    assert size_of((512, 4, 8), "Q4_K") == 2 * 4 * 8 * 144
