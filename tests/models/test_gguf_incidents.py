"""What GGUF readers were broken by, one test an incident; each file is built here after its public description."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
import raw_gguf as raw

import make_tiny
from filbert.core.errors import BadModelFile
from filbert.models.gguf import read_header, read_header_from


def refusal(data: bytes) -> str:
    """Why the reader refuses these bytes, having read nothing outside them and kept next to nothing."""
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile) as refused:
            read_header_from(raw.Watched(data), len(data), "hostile.gguf")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    return str(refused.value)


def one_tensor(shape: tuple[int, ...], kind: int = raw.F32, offset: int = 0) -> bytes:
    return raw.gguf(tensors=(raw.tensor("output.weight", shape, kind, offset),), data=bytes(256))


@pytest.mark.parametrize("rows", [3, 1 << 20, 1 << 40])
def test_bleeding_llama_cve_2026_7482_a_tensor_larger_than_the_file(rows: int) -> None:
    assert "cut short" in refusal(one_tensor((32, rows)))
    assert "'output.weight'" in refusal(one_tensor((32, rows)))


@pytest.mark.parametrize("offset", [32, 256, 1 << 32, (1 << 64) - 32])
def test_bleeding_llama_cve_2026_7482_a_tensor_that_begins_outside_the_file(offset: int) -> None:
    assert f"said to begin at {offset:,}, not at 0" in refusal(one_tensor((32, 2), offset=offset))


@pytest.mark.parametrize("shape", [(1 << 32, 1 << 32), (1 << 62, 4), (1 << 63, 1), (1 << 16,) * 4, ((1 << 64) - 32, 2)])
def test_cve_2025_53630_the_product_of_dimensions_overflows(shape: tuple[int, ...]) -> None:
    assert "impossible shape" in refusal(one_tensor(shape))


def test_cve_2026_27940_the_padded_sum_of_sizes_overflows() -> None:
    """The first fix checked each size and let their sum wrap: 4 x 2^62 bytes are 0 in 64 bits."""
    big = (1 << 60, 1)
    tensors = tuple(raw.tensor(f"blk.0.{number}", big, offset=number << 62) for number in range(4))
    assert "cut short" in refusal(raw.gguf(tensors=tensors, data=bytes(256)))
    wrapped = (*tensors, raw.tensor("blk.0.last", (32, 1), offset=0))
    assert "said to begin at 0, not at 18,446,744,073,709,551,616" in refusal(
        raw.gguf(tensors=wrapped, data=bytes(256))
    )


@pytest.mark.parametrize("count", [1 << 31, (1 << 61) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_cve_2024_21825_an_array_of_strings_longer_than_the_file(count: int) -> None:
    keys = (*raw.MODEL, raw.array("tokenizer.ggml.tokens", raw.STRING, count, raw.string("a")))
    assert "values in 'tokenizer.ggml.tokens'" in refusal(raw.gguf(keys))


@pytest.mark.parametrize("count", [1 << 31, (1 << 62) + 1, (1 << 64) - 1])
def test_cve_2024_21836_an_array_of_numbers_whose_size_overflows(count: int) -> None:
    keys = (*raw.MODEL, raw.array("tokenizer.ggml.scores", raw.FLOAT, count, bytes(4)))
    assert "values in 'tokenizer.ggml.scores'" in refusal(raw.gguf(keys))


@pytest.mark.parametrize("count", [1 << 20, (1 << 58) + 1, (1 << 63) - 1, (1 << 64) - 1])
def test_cve_2024_23496_more_tensors_than_the_file_can_hold(count: int) -> None:
    assert "tensors" in refusal(raw.gguf(tensor_count=count))
    assert "its 65,536 tensors" in refusal(raw.gguf(tensor_count=1 << 16))


@pytest.mark.parametrize("count", [1 << 20, (1 << 58) + 1, (1 << 63) - 1, (1 << 64) - 1])
def test_cve_2024_23605_more_keys_than_the_file_can_hold(count: int) -> None:
    assert "metadata keys" in refusal(raw.gguf(key_count=count))
    assert "its 65,536 metadata keys" in refusal(raw.gguf(key_count=1 << 16))


@pytest.mark.parametrize("length", [1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 9])
def test_cve_2024_21802_a_string_longer_than_the_file(length: int) -> None:
    value = raw.key("general.name", raw.STRING, raw.string("a", length))
    assert "'general.name' points" in refusal(raw.gguf((*raw.MODEL, value)))
    assert "length of metadata key" in refusal(raw.gguf((*raw.MODEL, raw.string("a", length))))
    name = raw.string("a", length) + bytes(40)
    assert "length of the name of tensor" in refusal(raw.gguf(tensors=(name,), data=bytes(64)))


def test_cve_2024_21802_more_dimensions_than_a_tensor_has_room_for() -> None:
    tensor = raw.string("output.weight") + struct.pack("<I", 1 << 30) + bytes(200)
    assert "has 1,073,741,824 dimensions" in refusal(raw.gguf(tensors=(tensor,), data=bytes(64)))


@pytest.mark.parametrize("key", ["scores", "token_type"])
def test_cve_2025_49847_a_vocabulary_whose_arrays_differ_in_length(key: str, tmp_path: Path) -> None:
    """The tokenizer indexes both by token: the shorter one is read beyond its end."""
    value = [0.0] * 4 if key == "scores" else [1] * 4
    path = make_tiny.dense(tmp_path / "x.gguf", metadata={f"tokenizer.ggml.{key}": value})
    with pytest.raises(BadModelFile, match=f"{key} does not give each of the 267 tokens its number"):
        read_header(path)


@pytest.mark.parametrize("token", [267, 1 << 31, (1 << 32) - 1])
def test_cve_2025_52566_a_token_outside_the_vocabulary(token: int, tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "x.gguf", metadata={"tokenizer.ggml.eos_token_id": token})
    with pytest.raises(BadModelFile, match=f"eos_token_id is {token} in a vocabulary of 267"):
        read_header(path)


def test_cve_2025_49847_a_token_longer_than_the_file() -> None:
    tokens = raw.array("tokenizer.ggml.tokens", raw.STRING, 1, raw.string("a", (1 << 31) + 7))
    assert "string in 'tokenizer.ggml.tokens' points" in refusal(raw.gguf((*raw.MODEL, tokens)))


def test_ollama_cve_2024_39721_a_device_is_never_read() -> None:
    with pytest.raises(BadModelFile, match="not a regular file"):
        read_header(Path("/dev/random"))


def test_ollama_cve_2024_39720_four_bytes_do_not_crash(tmp_path: Path) -> None:
    """The file that crashed it was its magic and nothing more."""
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(BadModelFile, match="cut short"):
        read_header(path)
