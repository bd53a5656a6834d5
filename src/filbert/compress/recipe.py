"""A recipe says which type each tensor gets: rules in a TOML file, the first that a tensor meets decides.

    name = "mine"
    type = "Q4_K"                                                       # of what no rule names
    rules = [
        { tensor = 'output\\.weight$', type = "Q6_K" },                 # a regular expression, found anywhere in a name
        { tensor = 'ffn_down', layers = "first 1/8", type = "Q5_K" },   # of some blocks only
        { tensor = 'attn_v', when = ["gqa >= 4"], type = "Q5_K" },      # in some models only
    ]

llama.cpp's mixes lie beside this file as such recipes (`recipes/`). A type that a tensor's rows are too short for gives
way to another as llama.cpp has it (src/llama-quant.cpp), and what must not be quantised stays as it is.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.core.nearest import did_you_mean
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.header import Header, Tensor

BLOCKS = {kind.name: kind.block for kind in TENSOR_TYPES.values()}
QUANTISED = {
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS"),
    *("IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "Q1_0", "Q2_0"),
}
FULL = {"F32", "F16", "BF16"}
Which = Literal["first 2", "first 4", "first 1/16", "first 1/8", "middle", "spread"]

FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
NEED_IMPORTANCE = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"}

# Kinds of tensors, the first that a name meets: what is counted together.
KINDS = (
    *(r"^output\.weight$", r"^(per_layer_)?token_embd\.weight$", r"attn_(qkv|kv_b|v)\.weight", r"attn_k\.weight"),
    *(r"attn_q\.weight", r"attn_output\.weight", "ffn_up", "ffn_gate", "ffn_down"),
)
VALUES, DOWN = KINDS[2], KINDS[8]
COUNTED_BY_BLOCK = ("ffn_up", "ffn_gate", "ffn_down")

KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj"
    r"|^(position_embd|token_types)\.weight$|ssm_conv1d|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight"
    r"|time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\.weight|attn_rel_b\.weight"
    r"|\.position_embd|sam\.pos_embd|sam\.neck\.|sam\.net_|\.rel_pos|\.patch_embd|\.patch_merger"
    r"|a\.rvq\.codebook|mm\.a\.code_embd"
)
KEPT_IN = {
    "glm5-next": re.compile(
        r"hc_|indexer\.attn_(q_b|k)|indexer\.proj|indexer_compressor_(gate|ape)|ssm_[fg]_[ab]\.weight|ssm_beta\.weight"
        r"|attn_kv_a_mqa\.weight|attn_[kv]_b\.weight"
    )
}
SEVENTY = {"llama": 80, "deci": 80, "qwen2": 80, "olmo": 80, "jais2": 68}  # blocks of what llama.cpp knows as 70B


OWN_MIX = 1024  # of file types: "guessed", in llama.cpp


class Rule(BaseModel):
    """nth: which of the tensors of this kind, counted; layers: the same, but in a model of experts by the number of
    the block; when: what must be true of the model, each of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tensor: str
    type: str
    nth: Which | None = None
    layers: Which | None = None
    when: tuple[str, ...] = ()

    @field_validator("tensor")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as exc:
            raise ValueError(f"{value!r} is no regular expression: {exc}") from exc
        return value

    @field_validator("type")
    @classmethod
    def _type(cls, value: str) -> str:
        return known_type(value)

    @field_validator("when")
    @classmethod
    def _conditions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            plain = each.removeprefix("not ")
            if plain not in CONDITIONS and not plain.startswith(ARCHITECTURE):
                raise ValueError(f"{each!r} is no condition; there are {', '.join(CONDITIONS)}, {ARCHITECTURE}…")
        return value


class Recipe(BaseModel):
    """file_type: what the file says of itself in `general.file_type` (llama.h, llama_ftype)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    type: str
    rules: tuple[Rule, ...] = ()
    file_type: int = Field(OWN_MIX, ge=0)

    @field_validator("type")
    @classmethod
    def _type(cls, value: str) -> str:
        return known_type(value)

    def before(self, *rules: Rule) -> Recipe:
        """The same, but for tensors that these rules name."""
        return self.model_copy(update={"rules": (*rules, *self.rules)}) if rules else self

    def to_toml(self) -> str:
        """As `read_recipe` reads it."""
        import tomlkit  # here alone: reading one does without

        return tomlkit.dumps(self.model_dump(mode="json", exclude_defaults=True))


@dataclass(frozen=True)
class Model:
    """What rules ask of a model. has_importance: whether there is an importance matrix."""

    header: Header
    tensors: Sequence[Tensor]
    has_importance: bool = False

    @cached_property
    def architecture(self) -> str:
        return self.header.architecture

    @cached_property
    def n_blocks(self) -> int:
        return self.header.block_count or 0

    @cached_property
    def n_experts(self) -> int:
        return self.header.number("expert_count") or 0

    @cached_property
    def gqa(self) -> int:
        """Query heads that share keys, in the first block."""
        heads, kv_heads = self.header.head_counts, self.header.kv_head_counts
        return heads[0] // kv_heads[0] if heads and kv_heads and kv_heads[0] else 0

    @cached_property
    def tied(self) -> bool:
        """Whether the embedding is the output too."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)

    @cached_property
    def seventy(self) -> bool:
        """Whether llama.cpp takes it for a 70B."""
        shared = self.architecture != "llama" or self.gqa != 1
        return SEVENTY.get(self.architecture) == self.n_blocks and shared


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of a tensor. type: the one it gets; wanted: the one that its rows are too short for, where they
    are."""

    tensor: Tensor
    type: str
    wanted: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor as rules see it. nth: its number among those of its kind, and how many; layer: the same, or its
    block's."""

    tensor: Tensor
    nth: tuple[int, int]
    layer: tuple[int, int]
    uneven: bool


Condition = Callable[[Model, _Seen], bool]
ARCHITECTURE = "architecture = "
CONDITIONS: Mapping[str, Condition] = {
    "imatrix": lambda model, seen: model.has_importance,
    "tied": lambda model, seen: model.tied,
    "gqa >= 4": lambda model, seen: model.gqa >= 4,
    "experts >= 4": lambda model, seen: model.n_experts >= 4,
    "experts = 8": lambda model, seen: model.n_experts == 8,
    "70B": lambda model, seen: model.seventy,
    "stacked": lambda model, seen: len(seen.tensor.shape) > 2 and seen.tensor.shape[2] > 1,
    "uneven": lambda model, seen: seen.uneven,  # its rows are too short for the recipe's own type
}


def planned(recipe: Recipe, model: Model) -> list[Planned]:
    """Of each tensor, in their order."""
    counted: Counter[str] = Counter()
    n_values = sum(kind_of(tensor.name) == VALUES for tensor in model.tensors)
    found = {}
    for tensor in sorted(model.tensors, key=_order):  # in which llama.cpp counts
        if not quantisable(tensor, model.architecture):
            found[tensor.name] = Planned(tensor, tensor.type, tensor.type)
            continue
        kind = kind_of(tensor.name)
        nth = (counted[kind], n_values if kind == VALUES else model.n_blocks)
        counted[kind] += 1
        by_block = model.n_experts > 1 and kind in COUNTED_BY_BLOCK
        layer = (block_of(tensor.name), model.n_blocks) if by_block else nth
        seen = _Seen(tensor, nth, layer, bool(tensor.shape[0] % BLOCKS[recipe.type]))
        wanted = next((rule.type for rule in recipe.rules if _meets(rule, model, seen)), recipe.type)
        found[tensor.name] = Planned(tensor, fallback(wanted, tensor.shape[0]), wanted)
    return [found[tensor.name] for tensor in model.tensors]


def quantisable(tensor: Tensor, architecture: str) -> bool:
    if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or KEPT.search(tensor.name):
        return False
    return not (architecture in KEPT_IN and KEPT_IN[architecture].search(tensor.name))


def fitting(types: Sequence[str], row: int, *, is_covered: bool) -> list[str]:
    """Those of the types that rows of so many values can have. is_covered: by an importance matrix."""
    return [kind for kind in types if row % BLOCKS[kind] == 0 and (is_covered or kind not in NEED_IMPORTANCE)]


def fallback(kind: str, row: int) -> str:
    """The type, or where a row of so many values is no whole number of its blocks, another that llama.cpp takes."""
    if row % BLOCKS[kind]:
        kind = FALLBACKS.get(kind, kind)
    return "F16" if row % BLOCKS[kind] else kind


def needs_importance(planned: Planned, recipe: Recipe) -> bool:
    """Whether the engine makes nothing of use of this tensor without an importance matrix."""
    if planned.tensor.name in ("token_embd.weight", "per_layer_token_embd.weight", "output.weight"):
        return planned.type in ("IQ2_XXS", "IQ2_XS", "IQ1_S")  # it would abort
    return planned.type in NEED_IMPORTANCE or (planned.type == "Q2_K" and recipe.name == "Q2_K_S")


def kind_of(name: str) -> str:
    return next((kind for kind in KINDS if re.search(kind, name)), "")


def block_of(name: str) -> int:
    """Its number, or -1 for what is outside of all."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1


def role_of(name: str) -> str:
    """What a tensor does, whatever its block: attn_q, ffn_down_exps, token_embd."""
    return re.sub(r"\bblk\.\d+\.", "", name).removesuffix(".weight")


def _order(tensor: Tensor) -> tuple[int, str]:
    return block_of(tensor.name), tensor.name


def _meets(rule: Rule, model: Model, seen: _Seen) -> bool:
    return bool(
        re.search(rule.tensor, seen.tensor.name)
        and (rule.nth is None or _among(rule.nth, *seen.nth))
        and (rule.layers is None or _among(rule.layers, *seen.layer))
        and all(_holds(condition, model, seen) for condition in rule.when)
    )


def _among(which: Which, i: int, n: int) -> bool:
    match which:
        case "middle":
            return n // 8 <= i < 7 * n // 8
        case "spread":  # llama.cpp's use_more_bits
            return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
        case "first 1/8" | "first 1/16":
            return i < n // int(which.rpartition("/")[2])
        case _:
            return i < int(which.removeprefix("first "))


def _holds(condition: str, model: Model, seen: _Seen) -> bool:
    plain = condition.removeprefix("not ")
    holds = CONDITIONS[plain](model, seen) if plain in CONDITIONS else plain == ARCHITECTURE + model.architecture
    return holds == (plain == condition)


def known_type(name: str) -> str:
    """The type as the format spells it. Raises ValueError."""
    plain = name.upper()
    if plain not in QUANTISED | FULL:
        raise ValueError(
            f"{name!r} is no type a tensor can get. {did_you_mean(plain, sorted(QUANTISED | FULL))}".rstrip()
        )
    return plain


def stock_names() -> list[str]:
    return sorted(name.removesuffix(".toml").upper() for name in _stock())


def stock(name: str) -> Recipe:
    """One of llama.cpp's own mixes. Raises BadInput."""
    plain = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}.get(name.upper(), name.upper())
    if plain not in stock_names():
        raise BadInput(
            f"There is no quantisation {name!r}.",
            why=did_you_mean(plain, stock_names()),
            do=f"Choose one of {', '.join(stock_names())}, or write a recipe.",
        )
    return _read(_stock()[f"{plain.lower()}.toml"], plain)


def read_recipe(path: Path) -> Recipe:
    """Raises BadInput for what is none."""
    return _read(read_text_file(path, str(path)), path.name)


def _stock() -> Mapping[str, str]:
    folder = resources.files("filbert.compress") / "recipes"
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".toml")}


def rule(pattern: str, kind: str) -> Rule:
    """Raises BadInput."""
    try:
        return Rule(tensor=pattern, type=kind)
    except ValidationError as exc:
        raise BadInput(f"{pattern}={kind} is no rule.", why=_why(exc), do="Write it as ffn_down=Q6_K.") from exc


def _read(text: str, name: str) -> Recipe:
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        raise BadInput(f"{name} is no TOML.", why=f"{exc}.", do="Mend the line it names.") from exc
    except RecursionError as exc:
        raise BadInput(f"{name} is no recipe.", why="It nests without end.", do="docs/compress.md shows one.") from exc
    except ValidationError as exc:
        raise BadInput(f"{name} is no recipe.", why=_why(exc), do="docs/compress.md shows one.") from exc


def _why(exc: ValidationError) -> str:
    problem = exc.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ').rstrip('?.')}."
