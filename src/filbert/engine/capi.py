"""The engine's C interface. Imported in a scorer's process only: native code never runs in the caller's.

`open_engine` comes first. It refuses a wheel other than the one `capi_layout.py` was made for, and compares every field
of the parameter structs with its known default before anything else is called: a wrong layout aborts in a decode.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cffi
import numpy as np
from numpy.typing import NDArray

from filbert.core.errors import BadInput, BadModelFile, EngineError, EngineMismatch, EngineMissing
from filbert.core.machine import engine_build
from filbert.engine import capi_layout
from filbert.engine.scoring import BRANCHES, N_BATCH, OUTPUT_BYTES, SEQUENCES
from filbert.models.gguf_types import TENSOR_TYPES

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

NUMBERS = {kind.name.lower(): number for number, kind in TENSOR_TYPES.items()}
GROUP = 32  # tokens; the engine's kernels take 4 to 16 at a time
CHOOSE = "Choose a model that answers text with `filbert list`."
INSTALL = f"Install xllamacpp=={capi_layout.VERSION}."


@dataclass(frozen=True, slots=True)
class Engine:
    """cffi's two halves, types and functions; and what the engine calls back, which must live as long."""

    ffi: Any
    lib: Any
    callbacks: list[Any] = field(default_factory=list)


def open_engine() -> Engine:
    """Open the engine's shared object. Raises EngineMissing, or EngineMismatch for any build but the known one."""
    _check_version()
    ffi = cffi.FFI()
    ffi.cdef(capi_layout.DECLARATIONS)
    try:
        lib: Any = ffi.dlopen(str(_shared_object()))
    except OSError as exc:
        raise EngineMissing(
            "The engine cannot be opened.", why=f"{exc}.", do="`filbert doctor` says what is missing."
        ) from exc
    engine = Engine(ffi, lib)
    _check_functions(engine)
    for struct, known in capi_layout.DEFAULTS.items():
        _check_defaults(engine, struct, known)
    _check_batch(engine)
    _keep_to_complaints(engine)
    lib.llama_backend_init()
    return engine


def _check_version() -> None:
    installed = engine_build()
    if not installed:
        raise EngineMissing("The engine is not installed.", do=INSTALL)
    if installed != capi_layout.VERSION:
        raise EngineMismatch(
            f"The installed engine is {installed}.",
            why=f"This Filbert knows the layout of {capi_layout.VERSION}.",
            do=INSTALL,
        )


def _shared_object() -> Path:
    """Where the wheel keeps it; found without importing the package."""
    spec = importlib.util.find_spec("xllamacpp")
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    found = [
        path for folder in folders for ending in ("*.so", "*.pyd", "*.dylib") for path in sorted(folder.glob(ending))
    ]
    if not found:
        raise EngineMissing("The engine's package holds no shared object.", do=INSTALL)
    return found[0]


def _check_functions(engine: Engine) -> None:
    hidden = [name for name in dir(engine.lib) if not hasattr(engine.lib, name)]
    if hidden:
        raise EngineMissing(
            "This platform's engine hides its C interface, which scoring needs.",
            why=f"{hidden[0]} is not exported.",
            do="Chat, completion and embeddings work; score on another platform.",
        )


def _check_defaults(engine: Engine, struct: str, known: Mapping[str, float | None]) -> None:
    """Raises EngineMismatch unless every field of `struct` holds its known default."""
    ffi = engine.ffi
    # The call is made with room behind the struct, so that a longer one than expected overwrites nothing.
    function = ffi.addressof(engine.lib, struct.replace("_params", "_default_params"))
    ffi.cdef(f"struct roomy_{struct} {{ struct {struct} known; char room[2048]; }};")
    roomy = ffi.cast(f"struct roomy_{struct} (*)(void)", function)()
    for name, value in known.items():
        if not _holds(engine, roomy.known, name, value):
            raise _mismatch(f"{struct}.{name}")


def _holds(engine: Engine, struct: Any, name: str, value: float | None) -> bool:
    try:
        seen = getattr(struct, name)
    except ValueError:  # a bool that is neither 0 nor 1
        return False
    return bool(seen == (engine.ffi.NULL if value is None else value))


def _check_batch(engine: Engine) -> None:
    batch = engine.lib.llama_batch_init(8, 0, 1)
    arrays = (batch.token, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits)
    if batch.n_tokens != 0 or batch.embd != engine.ffi.NULL or engine.ffi.NULL in arrays:
        raise _mismatch("llama_batch")
    engine.lib.llama_batch_free(batch)


def _keep_to_complaints(engine: Engine) -> None:
    """Let only warnings and errors reach standard error, where the caller looks for the reason of a failure."""
    ffi, lib = engine.ffi, engine.lib
    loud = (lib.GGML_LOG_LEVEL_WARN, lib.GGML_LOG_LEVEL_ERROR)

    def write(level: int, text: Any, _: Any) -> None:
        if level in loud:
            sys.stderr.buffer.write(ffi.string(text))
            sys.stderr.buffer.flush()

    callback = ffi.callback("ggml_log_callback", write)
    engine.callbacks.append(callback)
    lib.llama_log_set(callback, ffi.NULL)


def _mismatch(what: str) -> EngineMismatch:
    return EngineMismatch(
        "The installed engine lays out its structs otherwise than this Filbert expects.",
        why=f"{what} does not hold its known default.",
        do=INSTALL,
    )


class Weights:
    """A model file, mapped into memory, with the LoRA adapters that every context of it applies at full strength."""

    def __init__(
        self,
        engine: Engine,
        path: str,
        adapters: Sequence[str] = (),
        *,
        as_stored: bool = False,
        writable: bool = False,
    ) -> None:
        """as_stored: matrices stay as the file has them, under their names, where others are packed anew for speed;
        writable: they are read into memory of their own. Raises BadModelFile when the engine refuses a file."""
        lib = engine.lib
        self.engine = engine
        params = lib.llama_model_default_params()
        params.use_extra_bufts = not as_stored
        if writable:
            params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if self.model == engine.ffi.NULL:
            raise BadModelFile(
                f"The engine could not load {Path(path).name}.", do="Pull it again, or try another file."
            )
        self.adapters = [self._adapter(adapter) for adapter in adapters]
        self._vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self._vocab))
        self.n_trained = int(lib.llama_model_n_ctx_train(self.model))
        self.has_states = bool(lib.llama_model_is_recurrent(self.model) or lib.llama_model_is_hybrid(self.model))
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.bos = int(lib.llama_vocab_bos(self._vocab))
        self.eos = int(lib.llama_vocab_eos(self._vocab))

    def _adapter(self, path: str) -> Any:
        adapter = self.engine.lib.llama_adapter_lora_init(self.model, os.fsencode(path))
        if adapter == self.engine.ffi.NULL:
            raise BadModelFile(
                f"The engine could not load the adapter {Path(path).name}.", do="Give one that was made for this model."
            )
        return adapter

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of the text, none added at either end. `special`: read `<|im_start|>` and its like as one token."""
        data = text.encode(errors="replace")  # half a surrogate pair is no text
        room = len(data) + 16  # a token has one byte at least
        tokens = self.engine.ffi.new("llama_token[]", room)
        n = self.engine.lib.llama_tokenize(self._vocab, data, len(data), tokens, room, False, special)
        if n < 0:
            raise EngineError("The engine could not tokenise the text.", why=f"It answered {n}.", do="Shorten it.")
        return list(tokens[0:n])

    def piece(self, token: int) -> bytes:
        """What it stands for, special tokens by their names; it may be a part of a character."""
        room = 64
        while True:
            text = self.engine.ffi.new("char[]", room)
            n = int(self.engine.lib.llama_token_to_piece(self._vocab, token, text, room, 0, True))
            if n >= 0:
                return bytes(self.engine.ffi.buffer(text, n))
            room = -n


@dataclass(frozen=True, slots=True)
class Rows:
    """What to decode, a row a token: arrays of one length, but for `sequences`, which holds those that the first row is
    a part of, then those of the second. counts: how many each row is a part of. `wanted` rows give logits."""

    tokens: Ints
    positions: Ints
    counts: Ints
    sequences: Ints
    wanted: NDArray[np.bool_]


class Context:
    """A key/value cache of `n_ctx` cells, shared by sequences, so that what they have in common is kept once."""

    def __init__(
        self,
        weights: Weights,
        n_ctx: int,
        threads: int,
        on_decoded: Callable[[int], object] = lambda n_tokens: None,
        kv: str = "f16",
        watch: Any = None,
    ) -> None:
        """`on_decoded` is called after each part of a decode; kv: number type of the cache; watch: what the engine
        calls for each node of a graph (ggml_backend_sched_eval_callback). Raises BadInput for a model that predicts no
        tokens, EngineError when there is no memory for it."""
        ffi, lib = weights.engine.ffi, weights.engine.lib
        self.n_ctx = n_ctx
        self.n_decoded = 0  # tokens since the start
        self._on_decoded = on_decoded
        self._ffi, self._lib, self._n_vocab = ffi, lib, weights.n_vocab
        self._n_outputs = n_outputs(weights.n_vocab)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, N_BATCH, N_BATCH
        params.n_seq_max = BRANCHES + 1 if weights.has_states else SEQUENCES
        params.n_outputs_max, params.kv_unified = self._n_outputs, True
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = NUMBERS[kv]
        if watch:
            params.cb_eval = watch
        pointer = lib.llama_init_from_model(weights.model, params)
        if pointer == ffi.NULL:
            raise EngineError(
                f"The engine could not make a context of {n_ctx} tokens.", do="Free memory or shorten the text."
            )
        self._context = ffi.gc(pointer, lib.llama_free)
        if weights.adapters:
            strengths = ffi.new("float[]", [1.0] * len(weights.adapters))
            adapters = ffi.new("struct llama_adapter_lora *[]", weights.adapters)
            if lib.llama_set_adapters_lora(pointer, adapters, len(weights.adapters), strengths):
                raise EngineError("The engine could not apply the adapters.", do="Give those made for this model.")
        if not lib.llama_get_causal_attn(pointer):  # its logits would be zeros, which look like numbers
            raise BadInput("This model predicts no next token.", why="It is an embedder or a reranker.", do=CHOOSE)
        self._memory = lib.llama_get_memory(pointer)

    def clear(self) -> None:
        self._lib.llama_memory_clear(self._memory, False)

    def branch(self, sequence: int) -> None:
        """Let `sequence` go on from what sequence 0 holds; nothing is decoded or copied."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._lib.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)

    def prune(self, sequence: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def decode(self, rows: Rows) -> Iterator[tuple[slice, Floats]]:
        """Decode in parts; yield which of the wanted rows a part gave, counted from 0, and their logits, of shape
        (rows, n_vocab). The logits are the engine's own memory: they are gone with the next part."""
        done = 0
        for part in parts(rows.wanted, N_BATCH, self._n_outputs):
            n = int(rows.wanted[part].sum())
            self._decode(rows, part)
            if n:
                data = self._ffi.buffer(self._lib.llama_get_logits(self._context), 4 * n * self._n_vocab)
                yield slice(done, done + n), np.frombuffer(data, np.float32).reshape(n, self._n_vocab)
            done += n

    def _decode(self, rows: Rows, part: slice) -> None:
        tokens, positions = rows.tokens[part].astype(np.int32), rows.positions[part].astype(np.int32)
        sequences, counts = rows.sequences.astype(np.int32), rows.counts.astype(np.int32)
        wanted = rows.wanted[part].astype(np.int8)
        addresses = (sequences.ctypes.data + 4 * (np.cumsum(counts) - counts).astype(np.uintp))[part]
        counts = counts[part]
        batch = self._ffi.new("struct llama_batch *")
        batch.n_tokens = len(tokens)
        batch.token = self._ffi.cast("llama_token *", tokens.ctypes.data)
        batch.pos = self._ffi.cast("llama_pos *", positions.ctypes.data)
        batch.n_seq_id = self._ffi.cast("int32_t *", counts.ctypes.data)
        batch.seq_id = self._ffi.cast("llama_seq_id **", addresses.ctypes.data)
        batch.logits = self._ffi.cast("int8_t *", wanted.ctypes.data)
        status = self._lib.llama_decode(self._context, batch[0])
        if status:
            raise EngineError(
                "The engine could not decode the text.", why=f"llama_decode answered {status}.", do="Shorten the text."
            )
        self.n_decoded += len(tokens)
        self._on_decoded(len(tokens))


def n_outputs(n_vocab: int) -> int:
    """Rows of logits a decode may give. Whole groups of GROUP, so that how a text is cut leaves the kernels alone."""
    affordable = min(N_BATCH, OUTPUT_BYTES // (4 * n_vocab))
    return max(2 * GROUP, affordable // GROUP * GROUP)


def parts(wanted: NDArray[np.bool_], n_tokens: int, n_outputs: int) -> Iterator[slice]:
    """Cut rows into runs of at most `n_tokens`, at most `n_outputs` of them wanted."""
    before = np.concatenate(([0], np.cumsum(wanted)))
    start = 0
    while start < len(wanted):
        enough = int(np.searchsorted(before, before[start] + n_outputs, side="right")) - 1
        end = min(start + n_tokens, enough)
        yield slice(start, end)
        start = end
