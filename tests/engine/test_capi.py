"""The engine's C interface: its layout is made from the headers, checked at load, and refused as a sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import filbert
from filbert.engine import capi_layout
from filbert.engine.capi import GROUP, n_outputs, parts

CHECKOUT = Path(__file__).parents[2]


def python(code: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# Layout


ASK = """
import json, sys
from pathlib import Path
from filbert.core.errors import FilbertError
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place
with Scorer(in_place(Path(sys.argv[1]))) as scorer:
    try:
        print(json.dumps(["", scorer.tokenize(["hello"])]))
    except FilbertError as error:
        print(json.dumps([error.code, str(error)]))
"""


def refusal(tmp_path: Path, starter: Path, *changes: tuple[str, str]) -> tuple[str, str]:
    """(code, message) of a scorer whose generated layout was changed, in a copy of the package."""
    shutil.copytree(Path(filbert.__file__).parent, tmp_path / "filbert")
    layout = tmp_path / "filbert/engine/capi_layout.py"
    text = layout.read_text()
    for pattern, replacement in changes:
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, replacement, text, count=1)
    layout.write_text(text)
    done = python(ASK, str(starter), path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    code, message = json.loads(done.stdout)
    return code, message


def without(field: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """A header that has no such field, neither among the declarations nor among the defaults."""
    return (rf"  [a-z_0-9 ]+ {field};\n", ""), (rf'        "{field}": .*\n', "")


@pytest.mark.parametrize(
    "changes",
    [
        without("n_gpu_layers"),
        without("lazy_mode"),
        without("n_ctx"),
        without("embeddings"),
        ((r"  uint32_t n_ctx;\n", "  uint32_t new; uint32_t n_ctx;\n"),),
        ((r"  llama_token \*token;\n  float \*embd;\n", "  float *embd;\n  llama_token *token;\n"),),
    ],
    ids=lambda changes: changes[0][0],
)
def test_a_layout_with_a_shifted_field_is_one_error_and_no_abort(
    tmp_path: Path, starter: Path, changes: tuple[tuple[str, str], ...]
) -> None:
    code, message = refusal(tmp_path, starter, *changes)
    assert code == "engine_mismatch"
    assert "does not hold its known default" in message
    assert f"xllamacpp=={capi_layout.VERSION}" in message


def test_another_build_of_the_engine_is_refused_before_its_library_is_opened(tmp_path: Path, starter: Path) -> None:
    code, message = refusal(tmp_path, starter, (r'VERSION = "[^"]+"', 'VERSION = "2025.1.1"'))
    assert code == "engine_mismatch"
    assert f"The installed engine is {capi_layout.VERSION}." in message


def test_a_wheel_that_hides_the_interface_is_told_as_such(tmp_path: Path, starter: Path) -> None:
    hidden = (r"void llama_backend_init", "int llama_hidden(void);\nvoid llama_backend_init")
    code, message = refusal(tmp_path, starter, hidden)
    assert code == "engine_missing"
    assert "llama_hidden is not exported" in message


def test_the_unchanged_layout_is_right(tmp_path: Path, starter: Path) -> None:
    code, tokens = refusal(tmp_path, starter)
    assert code == ""
    assert len(tokens[0]) > 0


def test_the_layout_is_of_the_pinned_engine() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    pinned = next(line for line in project["dependencies"] if line.startswith("xllamacpp"))
    assert pinned.split(";")[0].strip() == f"xllamacpp=={capi_layout.VERSION}"


def test_a_caller_never_loads_native_engine_code() -> None:
    done = python(
        "import sys, filbert.engine.scorer, filbert.engine.score_and_perplexity;"
        "print([name for name in ('xllamacpp', 'cffi', 'filbert.engine.capi') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]"


# Generator


@pytest.fixture(scope="module")
def upgrade() -> ModuleType:
    spec = spec_from_file_location("engine_upgrade", CHECKOUT / "tools/engine_upgrade.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HEADER = """
#ifndef THING_H
#define THING_H
#ifdef THING_SHARED
#  define THING_API __declspec(dllimport)
#else
#  define THING_API
#endif
#define THING_NAME 64 // bytes
#ifdef __cplusplus
extern "C" {
#endif
struct thing_device; /* opaque */
enum thing_kind { THING_KIND_NONE = -1, THING_KIND_ONE, THING_KIND_TWO, };
typedef bool (*thing_callback)(float progress, void * user_data);
struct thing_params {
    struct thing_device * device;
    enum thing_kind kind; // what it is
    float scale;
    thing_callback callback;
    char name[THING_NAME];
    bool fast;
};
struct thing_unused { int a; };
THING_API struct thing_params thing_default_params(void);
DEPRECATED(THING_API int thing_old(void),
    "use thing_new");
THING_API void thing_new(struct thing_unused * unused, size_t n);
#endif
"""
SOURCE = """
thing_params thing_default_params() {
    thing_params result = {
        /*.device =*/ nullptr,
        /*.kind   =*/ THING_KIND_ONE, // the first
        /*.scale  =*/ -1.0f,
        /*.callback =*/ nullptr,
        /*.name =*/ THING_NAME,
        /*.fast =*/ true,
    };
    return result;
}
"""


def declared(upgrade: ModuleType, macros: dict[str, str]) -> str:
    tree = upgrade.parse(upgrade.preprocessed(HEADER, macros))
    return str(upgrade.Selection(tree).declarations(["thing_default_params", "thing_new"]))


def test_the_layout_is_read_from_the_headers_with_only_what_the_named_functions_need(upgrade: ModuleType) -> None:
    declarations = " ".join(declared(upgrade, {}).split())
    assert "char name[64];" in declarations
    assert "struct thing_unused; " in declarations, "only pointed at, so opaque"
    assert "thing_old" not in declarations
    assert declarations.index("enum thing_kind") < declarations.index("struct thing_params")


def test_a_struct_is_written_whole_where_it_is_looked_into(upgrade: ModuleType) -> None:
    tree = upgrade.parse(
        "struct part { int32_t sizes[16 / sizeof(int32_t)]; struct part *next; };\nvoid use(struct part *part);"
    )
    declarations = upgrade.Selection(tree).declarations(["use"], ["part"])
    assert "int32_t sizes[4];" in declarations
    assert "struct part *next;" in declarations


def test_the_known_defaults_are_read_from_the_source(upgrade: ModuleType) -> None:
    macros: dict[str, str] = {}
    declarations = declared(upgrade, macros)
    assert upgrade.read_defaults(SOURCE, "thing_params", declarations, macros) == {
        "device": None,
        "kind": 0,
        "scale": -1.0,
        "callback": None,
        "name": 64,
        "fast": True,
    }


def test_a_field_without_a_default_stops_the_upgrade(upgrade: ModuleType) -> None:
    macros: dict[str, str] = {}
    declarations = declared(upgrade, macros)
    with pytest.raises(AssertionError, match="6 fields and 5 defaults"):
        upgrade.read_defaults(SOURCE.replace("/*.fast =*/ true,", ""), "thing_params", declarations, macros)


# Batches


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 64), st.integers(1, 64))
def test_rows_are_cut_into_runs_the_engine_can_hold_and_none_is_lost(
    wanted: list[bool], n_tokens: int, n_outputs: int
) -> None:
    flags = np.array(wanted, bool)
    cut = list(parts(flags, n_tokens, n_outputs))
    assert [i for part in cut for i in range(part.start, part.stop)] == list(range(len(wanted)))
    assert all(part.stop - part.start <= n_tokens and flags[part].sum() <= n_outputs for part in cut)


@pytest.mark.parametrize("n_vocab", [268, 49_152, 151_936, 262_144, 5_000_000])
def test_logits_are_cut_in_whole_groups_and_stay_within_their_memory(n_vocab: int) -> None:
    rows = n_outputs(n_vocab)
    assert rows % GROUP == 0
    assert rows == 2 * GROUP or rows * n_vocab * 4 <= 64 << 20
