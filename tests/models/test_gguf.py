from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gguf
import pytest
import raw_gguf as raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import make_tiny
from filbert.core.errors import BadModelFile
from filbert.engine.threads import environment
from filbert.models.gguf import Header, check_split, read_header, read_header_from
from filbert.models.gguf_types import FILE_TYPES, TENSOR_TYPES
from filbert.models.header import Stored


def read(data: bytes) -> Header:
    return read_header_from(raw.Watched(data), len(data), "x.gguf")


def why(data: bytes) -> str:
    """What the reader has against a file of these bytes."""
    with pytest.raises(BadModelFile) as refused:
        read(data)
    return str(refused.value)


def tiny(tmp_path: Path, **changes: object) -> bytes:
    return make_tiny.dense(tmp_path / "tiny.gguf", **changes).read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny.write_all(folder)
    return folder


# What a header says


def test_the_starter_says_what_it_is(starter: Path) -> None:
    header = read_header(starter)
    assert (header.architecture, header.parameters, header.context_length) == ("llama", 134_515_008, 8192)
    assert (header.quantisation, header.licence, header.kind, header.vocab_size) == (
        "Q4_1",
        "apache-2.0",
        "language",
        49152,
    )
    assert header.tensor_types == {"Q4_1": (210, 66_355_200), "Q8_0": (1, 30_081_024), "F32": (61, 140_544)}
    assert header.head_counts == (9,) * 30 and header.kv_head_counts == (3,) * 30
    assert (header.key_length, header.value_length, header.expert_used_count) == (64, 64, 0)
    assert "<|im_start|>" in (header.chat_template or "")
    assert header.split is None and header.pooling is None


@pytest.mark.slow
def test_the_starter_is_read_as_the_gguf_package_reads_it(starter: Path) -> None:
    ours, theirs = read_header(starter), gguf.GGUFReader(starter)
    assert {name for name in theirs.fields if not name.startswith("GGUF.")} == set(ours.metadata)
    assert [(t.name, t.shape, t.type, t.offset, t.size_bytes) for t in ours.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "general.languages"):
        assert list(ours.load(key)) == theirs.fields[key].contents()


def test_a_big_vocabulary_stays_in_the_file_until_it_is_asked_for(starter: Path) -> None:
    read_header(starter)
    tracemalloc.start()
    header = read_header(starter)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(header.metadata["tokenizer.ggml.tokens"], Stored)
    assert peak_bytes < 4 << 20
    assert header.load("tokenizer.ggml.tokens")[:3] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def test_only_the_header_is_read(starter: Path) -> None:
    size, asked = starter.stat().st_size, []

    def read_at(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        with starter.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    header = read_header_from(read_at, size, "starter")
    assert header.tensors == read_header(starter).tensors
    assert max(offset + length for offset, length in asked) <= header.data_offset + (1 << 20)
    assert len(asked) <= 3


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        ("dense.gguf", "language", "F32"),
        ("quantised.gguf", "language", "Q8_0"),
        ("experts.gguf", "language", "F32"),
        ("embedder.gguf", "embedding", "F32"),
        ("reranker.gguf", "reranker", "F32"),
        ("mmproj-vision.gguf", "projector", "F32"),
        ("adapter.gguf", "adapter", "F32"),
        ("looping.gguf", "language", "F32"),
        ("aborting.gguf", "language", "F32"),
        ("refused.gguf", "language", "F32"),
    ],
)
def test_every_kind_of_file_is_told_from_the_others(files: Path, name: str, kind: str, label: str) -> None:
    header = read_header(files / name)
    assert (header.kind, header.quantisation) == (kind, label)
    assert header.size_bytes < 2_000_000


def test_experts_and_pooling_are_read(files: Path) -> None:
    assert read_header(files / "experts.gguf").expert_used_count == 2
    assert read_header(files / "embedder.gguf").pooling == "mean"
    assert read_header(files / "reranker.gguf").pooling == "rank"


def test_named_templates_leave_the_default_one_as_it_is(tmp_path: Path) -> None:
    data = tiny(tmp_path, metadata={"tokenizer.chat_template.tool_use": "tools"})
    assert read(data).chat_template == make_tiny.CHATML


def test_head_counts_may_differ_by_block(tmp_path: Path) -> None:
    header = read(tiny(tmp_path, metadata={"llama.attention.head_count_kv": [2, 4]}))
    assert header.kv_head_counts == (2, 4)


def test_a_text_of_megabytes_is_left_in_the_file_and_can_be_read(tmp_path: Path) -> None:
    header = read(tiny(tmp_path, template="x" * (3 << 20)))
    assert isinstance(header.metadata["tokenizer.chat_template"], Stored)
    assert header.chat_template == "x" * (3 << 20)


def test_version_2_is_read(tmp_path: Path) -> None:
    data = bytearray(tiny(tmp_path))
    data[4:8] = struct.pack("<I", 2)
    assert read(bytes(data)).version == 2


# Tables


def test_the_tensor_types_are_those_of_the_gguf_package() -> None:
    theirs = {kind.value: (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    ours = {number: tuple(kind) for number, kind in TENSOR_TYPES.items()}
    del theirs[9]  # Q8_1: the package has the size of before 2024; the engine's is tested below
    assert {number: ours[number] for number in theirs} == theirs


def test_the_tensor_types_are_those_of_the_engine() -> None:
    ask = (
        "import ctypes, glob, json, xllamacpp\n"
        "lib = ctypes.CDLL(glob.glob(xllamacpp.__path__[0] + '/*.so')[0])\n"
        "lib.ggml_type_size.restype = ctypes.c_size_t\n"
        "lib.ggml_blck_size.restype = ctypes.c_int64\n"
        "print(json.dumps([(lib.ggml_blck_size(i), lib.ggml_type_size(i)) for i in range(43)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], env={**os.environ, **environment(1)}, capture_output=True, check=True
    )
    theirs = {number: tuple(pair) for number, pair in enumerate(json.loads(done.stdout)) if pair[0]}
    assert {number: (kind.block, kind.size_bytes) for number, kind in TENSOR_TYPES.items()} == theirs


def test_the_file_types_are_those_of_the_gguf_package() -> None:
    theirs = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    del theirs[1024]
    assert {number: FILE_TYPES[number] for number in theirs} == theirs


# What is no GGUF


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "It is empty."),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "looks like a web page"),
        (b'{"error": "Invalid username or password."}', "looks like JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "zip archive or a PyTorch checkpoint"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00model", "Python pickle"),
        (struct.pack("<Q", 64) + b'{"__metadata__":{"format":"pt"}}', "safetensors"),
        (b"tjgg" + bytes(40), "old GGJT format"),
        (bytes(64), "first bytes are unknown"),
    ],
)
def test_what_is_not_a_gguf_is_named_for_what_it_looks_like(start: bytes, words: str) -> None:
    assert words in why(start)
    assert "is not a GGUF file" in why(start)


def test_a_big_endian_file_is_a_sentence() -> None:
    assert "is a big-endian GGUF" in why(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))


def test_an_unknown_version_is_a_sentence() -> None:
    assert "is GGUF version 1." in why(raw.gguf(version=1))
    assert "is GGUF version 9." in why(raw.gguf(version=9))


@pytest.mark.parametrize("what", ["folder", "missing", "fifo", "device"])
def test_only_a_regular_file_is_opened(tmp_path: Path, what: str) -> None:
    path = {"folder": tmp_path, "device": Path("/dev/zero")}.get(what, tmp_path / what)
    if what == "fifo":
        os.mkfifo(path)
    with pytest.raises(BadModelFile, match="cannot be read" if what == "missing" else "not a regular file"):
        read_header(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(make_tiny.dense(tmp_path / "tiny.gguf"))
    assert read_header(tmp_path / "link.gguf").architecture == "llama"


# What is missing


def test_a_truncated_file_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    needed = max(tensor.offset + tensor.size_bytes for tensor in read(data).tensors)
    assert f"cut short. 1 of {needed:,} bytes are missing: it ends inside the tensor 'blk.1.ffn_down.weight'" in why(
        data[: needed - 1]
    )
    assert f"cut short. {needed - 8000:,} of {needed:,} bytes are missing" in why(data[:8000])


def test_a_header_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    for end in range(read(data).data_offset + 1):
        message = why(data[:end])
        assert "cut short" in message or (end < 4 and "not a GGUF" in message), (end, message)


# What contradicts itself


VOCABULARY = (raw.text("tokenizer.ggml.model", "gpt2"), raw.strings("tokenizer.ggml.tokens", ["a", "b"]))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((*raw.MODEL, raw.u32("a", 1), raw.u32("a", 1)), "'a' is there twice"),
        ((*raw.MODEL, raw.key("", raw.U32, bytes(4))), "length of metadata key 6 of 6 is 0"),
        ((*raw.MODEL, raw.string("k" * 70_000) + bytes(8)), "length of metadata key 6 of 6 is 70,000"),
        ((*raw.MODEL, raw.key("a", 13, bytes(4))), "'a' has the unknown type 13"),
        ((*raw.MODEL, raw.key("a", raw.BOOL, b"\x02")), "'a' is a boolean and neither 0 nor 1"),
        ((*raw.MODEL, raw.array("a", raw.ARRAY, 1, bytes(12))), "array of the unknown or nested type 9"),
        ((*raw.MODEL, raw.array("a", raw.BOOL, 3, b"\x00\x01\x02")), "neither 0 nor 1"),
        ((*raw.MODEL, raw.string(b"\xff\xfe") + bytes(8)), "no UTF-8 in metadata key"),
        ((*raw.MODEL, raw.string(b"a\0b") + bytes(8)), "zero byte in metadata key"),
        ((*raw.MODEL, raw.u32("general.alignment", 0)), "general.alignment is 0"),
        ((*raw.MODEL, raw.u32("general.alignment", 48)), "general.alignment is 48"),
        ((*raw.MODEL, raw.u32("general.alignment", 1 << 31)), "general.alignment is 2147483648"),
        ((*raw.MODEL, raw.u32("general.name", 1)), "general.name is not a text"),
        (raw.MODEL[1:], "general.architecture is '': it names no architecture"),
        ((raw.text("general.architecture", "../../etc"), *raw.MODEL[1:]), "it names no architecture"),
        ((raw.MODEL[0], *raw.MODEL[2:]), "llama.block_count is missing"),
        ((raw.MODEL[0], raw.u32("llama.block_count", 0), *raw.MODEL[2:]), "llama.block_count is 0"),
        ((raw.MODEL[0], raw.u32("llama.block_count", 513), *raw.MODEL[2:]), "llama.block_count is 513"),
        ((*raw.MODEL[:2], raw.u32("llama.context_length", 0), *raw.MODEL[3:]), "llama.context_length is 0"),
        (
            (*raw.MODEL[:3], raw.text("llama.embedding_length", "wide"), raw.MODEL[4]),
            "llama.embedding_length is 'wide'",
        ),
        (
            (*raw.MODEL[:4], raw.u32("llama.attention.head_count", 0)),
            "attention.head_count is 0: there is no attention",
        ),
        (raw.MODEL[:4], "attention.head_count is missing: there is no attention"),
        (
            (*raw.MODEL[:4], raw.u32("llama.ssm.group_count", 1), raw.u32("llama.attention.head_count_kv", 2)),
            "gives 0 blocks query heads",
        ),
        ((*raw.MODEL, raw.u32("llama.attention.head_count_kv", 3)), "4 query heads cannot share 3 key heads"),
        ((*raw.MODEL, raw.array("llama.attention.head_count_kv", raw.U32, 2, bytes(8))), "has 2 numbers for 1 blocks"),
        ((*raw.MODEL, raw.u32("llama.expert_count", 1025)), "llama.expert_count is 1025"),
        ((*raw.MODEL, raw.u32("llama.expert_used_count", 2)), "uses 2 of 0 experts"),
        ((*raw.MODEL, VOCABULARY[0]), "has a tokenizer and no tokens"),
        (
            (*raw.MODEL, *VOCABULARY, raw.array("tokenizer.ggml.scores", raw.FLOAT, 1, bytes(4))),
            "scores does not give each of the 2 tokens",
        ),
        (
            (*raw.MODEL, *VOCABULARY, raw.array("tokenizer.ggml.token_type", 5, 1, bytes(4))),
            "token_type does not give each",
        ),
        (
            (*raw.MODEL, *VOCABULARY, raw.u32("tokenizer.ggml.eos_token_id", 2)),
            "eos_token_id is 2 in a vocabulary of 2",
        ),
        ((*raw.MODEL, *VOCABULARY, raw.u32("tokenizer.ggml.merges", 2)), "merges is not an array of texts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metadata_that_cannot_be_is_refused(keys: tuple[bytes, ...], words: str) -> None:
    assert words in why(raw.gguf(keys))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ((raw.tensor("a"), raw.tensor("a", offset=256)), "'a' is there twice"),
        ((raw.tensor("n" * 64),), "length of the name of tensor 1 of 1 is 64"),
        ((raw.tensor("a", ()),), "has 0 dimensions"),
        ((raw.tensor("a", (1, 1, 1, 1, 1)),), "has 5 dimensions"),
        ((raw.tensor("a", (32, 0)),), "impossible shape [32, 0]"),
        ((raw.tensor("a", (32,), kind=31),), "is of type 31, which this engine does not know"),
        (
            (raw.tensor("a", (33,), kind=raw.Q4_0),),
            "rows of 33 weights, no multiple of the 32 that Q4_0 packs together",
        ),
        ((raw.tensor("a", offset=32),), "said to begin at 32, not at 0"),
        ((raw.tensor("a"), raw.tensor("b", offset=0)), "'b' is said to begin at 0, not at 256"),
        ((raw.tensor("a"), raw.tensor("b", offset=257)), "'b' is said to begin at 257, not at 256"),
        ((raw.tensor("blk.1.attn_q.weight"),), "has 1 blocks and a tensor 'blk.1.attn_q.weight'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_cannot_be_are_refused(tensors: tuple[bytes, ...], words: str) -> None:
    assert words in why(raw.gguf(tensors=tensors, data=bytes(1024)))


def test_a_recurrent_model_needs_no_attention() -> None:
    keys = [entry.replace(b"llama", b"mamba") for entry in raw.MODEL[:4]]
    assert read(
        raw.gguf((*keys, raw.u32("mamba.attention.head_count", 0), raw.u32("mamba.ssm.state_size", 16)))
    ).recurrent


def test_a_file_that_changes_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    with pytest.raises(BadModelFile, match="changed while it was read"):
        read_header_from(lambda offset, length: data[offset : offset + length // 2], len(data), "x.gguf")


# Parts


def test_the_parts_of_a_split_model_belong_together(files: Path) -> None:
    headers = check_split([files / f"split-0000{number}-of-00003.gguf" for number in (1, 2, 3)])
    assert [header.split for header in headers] == [(0, 3), (1, 3), (2, 3)]
    assert sum(header.parameters for header in headers) == read_header(files / "dense.gguf").parameters


def test_a_whole_model_is_its_only_part(files: Path) -> None:
    assert len(check_split([files / "dense.gguf"])) == 1


def test_parts_in_the_wrong_order_number_or_name_are_refused(files: Path, tmp_path: Path) -> None:
    first, second, third = (files / f"split-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    for parts in (
        (second, first, third),
        (first, second),
        (first, first, third),
        (first, second, files / "dense.gguf"),
    ):
        with pytest.raises(BadModelFile, match="is not part"):
            check_split(parts)
    renamed = tmp_path / "other.gguf"
    renamed.write_bytes(second.read_bytes())
    with pytest.raises(BadModelFile, match="has not the name of part 2"):
        check_split([first, renamed, third])


def test_parts_of_two_models_are_refused(files: Path, tmp_path: Path) -> None:
    mixed = [files / f"split-0000{number}-of-00003.gguf" for number in (1, 2)]
    extra = make_tiny.dense_parts()
    extra.tensors["another.weight"] = extra.tensors["output_norm.weight"]
    make_tiny.write(tmp_path / "split.gguf", extra, tensors_a_file=7)
    with pytest.raises(BadModelFile, match="parts of different models"):
        check_split([*mixed, tmp_path / "split-00003-of-00003.gguf"])


# Mutated files: a header, or BadModelFile, and not a byte outside the file


NASTY = (
    0,
    1,
    31,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


@st.composite
def mutation(draw: st.DrawFn, data: bytes, header_bytes: int) -> bytes:
    mutated = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, header_bytes))
        action = draw(st.sampled_from(("flip", "number", "cut", "insert", "delete", "repeat")))
        if action == "flip" and at < len(mutated):
            mutated[at] ^= draw(st.integers(1, 255))
        elif action == "number":
            width = draw(st.sampled_from((4, 8)))
            mutated[at : at + width] = draw(st.sampled_from(NASTY)).to_bytes(8, "little")[:width]
        elif action == "cut":
            del mutated[at:]
        elif action == "insert":
            mutated[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif action == "delete":
            del mutated[at : at + draw(st.integers(1, 40))]
        elif action == "repeat":
            mutated[at:at] = mutated[max(0, at - 40) : at]
    return bytes(mutated)


def survives(data: bytes) -> None:
    watched = raw.Watched(data)
    try:
        header = read_header_from(watched, len(data), "x.gguf")
    except BadModelFile as refused:
        assert len(str(refused)) < 600
    else:
        assert all(tensor.offset + tensor.size_bytes <= len(data) for tensor in header.tensors)
        for key in header.metadata:
            header.load(key)
    assert sum(length for _, length in watched.extents) <= 4 * len(data) + (8 << 20)


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, int]]:
    folder = tmp_path_factory.mktemp("mutated")
    make_tiny.write_all(folder)
    names = (
        "dense",
        "experts",
        "embedder",
        "reranker",
        "mmproj-vision",
        "adapter",
        "split-00002-of-00003",
        "quantised",
    )
    return {
        name: ((folder / f"{name}.gguf").read_bytes(), read_header(folder / f"{name}.gguf").data_offset)
        for name in names
    }


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(draw=st.data())
def test_a_mutated_header_is_read_or_refused(tiny_bytes: dict[str, tuple[bytes, int]], draw: st.DataObject) -> None:
    data, header_bytes = tiny_bytes[draw.draw(st.sampled_from(sorted(tiny_bytes)))]
    survives(draw.draw(mutation(data, header_bytes)))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(draw=st.data())
def test_a_mutated_starter_is_read_or_refused(starter_head: bytes, draw: st.DataObject) -> None:
    near_front = draw.draw(st.booleans())
    survives(draw.draw(mutation(starter_head, 4000 if near_front else len(starter_head))))


@pytest.fixture(scope="module")
def starter_head(starter: Path) -> bytes:
    """The header and a little more: its tensors are missing, so every mutation has to end in a refusal or before."""
    with starter.open("rb") as file:
        return file.read(read_header(starter).data_offset + 4096)


@pytest.mark.parametrize("number", [0, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_number_anywhere_in_the_header_may_lie(tiny_bytes: dict[str, tuple[bytes, int]], number: int) -> None:
    data, header_bytes = tiny_bytes["adapter"]
    for at in range(4, header_bytes - 8):
        survives(data[:at] + number.to_bytes(8, "little") + data[at + 8 :])


@given(data=st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(BadModelFile):
        read(data)
    survives(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + data)
