"""Move Filbert to another build of its engine: `make engine-upgrade VERSION=2026.10.11549`.

1. Fetches the engine's own source archive (the sdist of that version; pip checks its hash, the layout records it).
2. Writes src/filbert/engine/capi_layout.py: the C declarations `capi.py` names, out of the archive's headers, and the
   defaults of the parameter structs, out of its sources; and src/filbert/models/architectures.py, the names of
   architectures. Needs no compiler and runs nothing of the archive.
3. Pins the version in pyproject.toml and constraints.txt, installs it, and runs the probes: the layout check,
   perplexity against the golden figures, likelihoods.
"""

from __future__ import annotations

import argparse
import pprint
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cffi
from pycparser import c_ast, c_generator, c_parser

from filbert.core.files import sha256_of
from filbert.engine import capi_layout

CHECKOUT = Path(__file__).parent.parent
LAYOUT = CHECKOUT / "src/filbert/engine/capi_layout.py"
ARCHITECTURES = CHECKOUT / "src/filbert/models/architectures.py"
PROBES = ["tests/engine/test_capi.py", "tests/engine/test_score_and_perplexity.py", "tests/engine/test_scorer.py"]
GGML = ("ggml", "ggml-alloc", "ggml-backend", "ggml-cpu", "ggml-opt", "gguf")  # what llama.h includes, in its order
HEADERS = (*(f"ggml/include/{name}.h" for name in GGML), "include/llama.h")
ARCHITECTURES_IN = "src/llama-arch.cpp"
DEFAULTS_IN = {"llama_model_params": "src/llama-model.cpp", "llama_context_params": "src/llama-context.cpp"}
FUNCTIONS = """
    llama_log_set llama_backend_init llama_model_default_params llama_context_default_params
    llama_model_load_from_file llama_model_n_ctx_train llama_model_is_recurrent llama_model_is_hybrid
    llama_model_get_vocab llama_vocab_n_tokens llama_vocab_bos llama_vocab_eos llama_vocab_get_add_bos
    llama_tokenize llama_token_to_piece
    llama_adapter_lora_init
    llama_init_from_model llama_free llama_get_causal_attn llama_set_adapters_lora
    llama_get_memory llama_memory_clear llama_memory_seq_cp llama_memory_seq_rm
    llama_batch_init llama_batch_free llama_decode llama_get_logits
    ggml_backend_tensor_get ggml_backend_tensor_set ggml_get_type_traits ggml_quantize_chunk ggml_validate_row_data
"""
STRUCTS = ("ggml_tensor", "ggml_type_traits")
STANDARD = """
typedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t; typedef long long int64_t; typedef unsigned long long uint64_t;
typedef unsigned long size_t; typedef unsigned long uintptr_t; typedef _Bool bool; typedef struct FILE FILE;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="version of the engine wheel, such as 2026.10.11549")
    parser.add_argument("--archive", type=Path, help="the source archive, when it is already here")
    parser.add_argument(
        "--layout-only", action="store_true", help="write the two files; pin, install and probe nothing"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = asked.archive or fetch(asked.version, Path(folder))
        LAYOUT.write_text(layout(asked.version, archive), "utf-8")
        ARCHITECTURES.write_text(architectures(asked.version, archive), "utf-8")
    python("ruff", "format", "--quiet", str(LAYOUT), str(ARCHITECTURES))
    if not asked.layout_only:
        pin(asked.version)
        python("pip", "install", "--quiet", f"xllamacpp=={asked.version}")
        python("pytest", "-q", *PROBES)


def python(*command: str) -> None:
    if status := subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT).returncode:
        sys.exit(f"`python -m {' '.join(command)}` ended with status {status}.")


def fetch(version: str, folder: Path) -> Path:
    python("pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder), f"xllamacpp=={version}")
    return next(folder.glob("*.tar.gz"))


def pin(version: str) -> None:
    for path in (CHECKOUT / "pyproject.toml", CHECKOUT / "constraints.txt"):
        if path.exists():
            path.write_text(re.sub(r"xllamacpp==[\w.]+", f"xllamacpp=={version}", path.read_text("utf-8")), "utf-8")


def layout(version: str, archive: Path) -> str:
    """The text of capi_layout.py. Refuses an archive other than the recorded one of the same version."""
    sha256 = sha256_of(archive)
    if version == capi_layout.VERSION and sha256 != capi_layout.ARCHIVE_SHA256:
        sys.exit(f"{archive.name} has sha256 {sha256}, and {capi_layout.ARCHIVE_SHA256} is recorded for {version}.")
    sources = read(archive, version, (*HEADERS, *DEFAULTS_IN.values()))
    macros: dict[str, str] = {}
    tree = parse("".join(preprocessed(sources[name], macros) for name in HEADERS))
    declarations = Selection(tree).declarations(FUNCTIONS.split(), STRUCTS)
    defaults = {
        struct: read_defaults(sources[file], struct, declarations, macros) for struct, file in DEFAULTS_IN.items()
    }
    return (
        f'"""{made_from(archive)}"""\n\n'
        f"# ruff: noqa: E501\nVERSION = {version!r}\nARCHIVE_SHA256 = {sha256!r}\n"
        f'DECLARATIONS = """\n{declarations}"""\n'
        "# None stands for a null pointer.\n"
        f"DEFAULTS: dict[str, dict[str, float | None]] = {pprint.pformat(defaults, sort_dicts=False)}\n"
    )


def architectures(version: str, archive: Path) -> str:
    """The text of architectures.py: the names a model's file may give in `general.architecture`, by alphabet."""
    source = read(archive, version, (ARCHITECTURES_IN,))[ARCHITECTURES_IN]
    table = re.search(r"\bLLM_ARCH_NAMES = \{(.*?)\n\};", without_comments(source), re.DOTALL)
    assert table, "the table of architectures has another name now"
    names = set(re.findall(r'\{ *LLM_ARCH_\w+, *"([^"(]+)" *\}', table[1])) - {"clip"}  # a projector's, not a model's
    listed = textwrap.fill(" ".join(sorted(names)), 110, break_on_hyphens=False)
    return (
        f'"""The architectures that the pinned engine can load.\n\n{made_from(archive)}\n"""\n\n'
        f'# ruff: noqa: SIM905\nLOADABLE = frozenset("""\n{listed}\n""".split())\n'
    )


def made_from(archive: Path) -> str:
    return f"Made by tools/engine_upgrade.py out of {archive.name}; run it again instead of editing this file."


def read(archive: Path, version: str, names: tuple[str, ...]) -> dict[str, str]:
    """The text of some files of the engine in the archive; nothing is unpacked to disk."""
    texts, root = {}, f"xllamacpp-{version}/thirdparty/llama.cpp/"
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(root + name)
            assert member is not None
            texts[name] = member.read().decode()
    return texts


def preprocessed(header: str, macros: dict[str, str]) -> str:
    """C without comments, conditions, macros and attributes, for a C compiler on a system with no extensions."""
    kept = "\n".join(active_lines(without_comments(header), macros))
    kept = re.sub(r"\b(?:GGML_)?DEPRECATED\(.*?\"\s*\);", "", kept, flags=re.DOTALL)
    kept = re.sub(r"\bGGML_ATTRIBUTE_FORMAT\([^)]*\)", "", kept)
    return re.sub(r"\b[A-Z][A-Z0-9_]+\b", lambda word: macros.get(word[0], word[0]), kept) + "\n"


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)


def active_lines(text: str, macros: dict[str, str]) -> Iterator[str]:
    """The lines a compiler would see; defines are kept in `macros`. An `#if` of an expression counts as false."""
    open_branches: list[bool] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.strip().removeprefix("#").split(None, 2) if line.lstrip().startswith("#") else []
        match words:
            case ["ifdef" | "ifndef" as kind, name, *_]:
                open_branches.append((name in macros) == (kind == "ifdef"))
            case ["if", *_]:
                open_branches.append(False)
            case ["else", *_]:
                open_branches[-1] = not open_branches[-1]
            case ["endif", *_]:
                open_branches.pop()
            case ["define", name, *value] if all(open_branches) and "(" not in name:
                macros[name] = value[0].strip() if value else ""
            case [] if all(open_branches):
                yield line


def parse(text: str) -> c_ast.FileAST:
    return c_parser.CParser().parse(STANDARD + text)


class Selection:
    """The declarations some functions need, each after those it rests on."""

    def __init__(self, tree: c_ast.FileAST) -> None:
        self._functions: dict[str, c_ast.Decl] = {}
        self._typedefs: dict[str, c_ast.Typedef] = {}
        self._tagged: dict[str, c_ast.Struct | c_ast.Enum] = {}
        self._lines: dict[str, str] = {}
        standard = {node.name for node in parse("").ext}
        for node in tree.ext:
            if isinstance(node, c_ast.Typedef) and node.name not in standard:
                self._typedefs[node.name] = node
            elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
                self._functions[node.name] = node
            self._keep_tagged(node)

    def _keep_tagged(self, node: c_ast.Node) -> None:
        if isinstance(node, c_ast.Struct | c_ast.Enum) and body(node):
            self._tagged[node.name] = node
        for _, child in node.children():
            self._keep_tagged(child)

    def declarations(self, functions: Sequence[str], structs: Sequence[str] = ()) -> str:
        """structs: that are written down whole where functions only point at them."""
        if missing := [name for name in functions if name not in self._functions]:
            sys.exit(f"This engine has no {', '.join(missing)}, which capi.py calls. Nothing was changed.")
        for name in structs:
            self._need_tagged(self._tagged[name])
        for name in functions:
            declaration = self._functions[name]
            self._need(declaration.type)
            declaration.storage = []
            self._lines[name] = written(declaration)
        return "".join(f"{line};\n" for line in self._lines.values())

    def _need(self, node: c_ast.Node, *, pointed_at: bool = False) -> None:
        """Write down what the type `node` rests on. A struct that is only pointed at stays opaque."""
        match node:
            case c_ast.IdentifierType():
                for name in set(node.names) & set(self._typedefs):
                    self._need_typedef(name)
            case c_ast.Struct() if pointed_at:
                self._lines.setdefault(f"struct {node.name}", f"struct {node.name}")
            case c_ast.Struct() | c_ast.Enum():
                self._need_tagged(self._tagged[node.name])
            case c_ast.FuncDecl():
                for parameter in node.args.params if node.args else ():
                    self._need(parameter)
                self._need(node.type)
            case c_ast.PtrDecl():
                self._need(node.type, pointed_at=True)
            case c_ast.TypeDecl() | c_ast.ArrayDecl() | c_ast.Decl() | c_ast.Typename():
                self._need(node.type, pointed_at=pointed_at)

    def _need_typedef(self, name: str) -> None:
        if name in self._lines:
            return
        typedef = self._typedefs[name]
        self._need(typedef.type)
        if isinstance(typedef.type, c_ast.TypeDecl) and isinstance(typedef.type.type, c_ast.Struct):
            self._lines[name] = f"typedef struct {typedef.type.type.name} {name}"
        else:
            self._lines[name] = written(typedef)

    def _need_tagged(self, node: c_ast.Struct | c_ast.Enum) -> None:
        kind = "enum" if isinstance(node, c_ast.Enum) else "struct"
        if f"{kind} {node.name} {{" in self._lines:
            return
        if kind == "struct":
            for member in node.decls:
                self._need(member.type)
        self._lines[f"{kind} {node.name} {{"] = written(node)


def body(node: c_ast.Struct | c_ast.Enum) -> object:
    return node.values if isinstance(node, c_ast.Enum) else node.decls


def written(node: c_ast.Node) -> str:
    text = str(c_generator.CGenerator().visit(node)).strip()
    return re.sub(r"(\d+) / \(?sizeof\(int32_t\)\)?", lambda length: str(int(length[1]) // 4), text)  # cffi divides not


def read_defaults(source: str, struct: str, declarations: str, macros: dict[str, str]) -> dict[str, float | None]:
    """Field -> default, from the initialiser in its `…_default_params()`, which lists every field in order."""
    initialiser = re.search(rf"\b{struct} result = \{{(.*?)\}};", without_comments(source), re.DOTALL)
    assert initialiser, f"{struct} has no default initialiser any more"
    values = [value.strip() for value in initialiser[1].split(",") if value.strip()]
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    fields = [name for name, _ in ffi.typeof(f"struct {struct}").fields]
    named = {"nullptr": None, "true": True, "false": False, **macros, **enumerators(ffi, declarations)}
    assert len(fields) == len(values), f"{struct} has {len(fields)} fields and {len(values)} defaults"
    return {field: number(value, named) for field, value in zip(fields, values, strict=True)}


def enumerators(ffi: cffi.FFI, declarations: str) -> dict[str, int]:
    tags = re.findall(r"^enum (\w+)\s*{", declarations, re.MULTILINE)
    return {name: value for tag in tags for name, value in ffi.typeof(f"enum {tag}").relements.items()}


def number(word: str, named: Mapping[str, float | str | None]) -> float | None:
    """What a word of C such as `-1.0f`, `true`, `nullptr` or an enumerator stands for."""
    value = named.get(word, word)
    if not isinstance(value, str):
        return value
    return float(value.removesuffix("f")) if "." in value else int(value)


if __name__ == "__main__":
    main()
