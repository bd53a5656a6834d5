"""Which type each tensor gets: llama.cpp's mixes as llama-quantize gives them, and recipes of one's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from filbert.compress.recipe import (
    FALLBACKS,
    FULL,
    QUANTISED,
    Model,
    Recipe,
    fallback,
    planned,
    read_recipe,
    rule,
    stock,
    stock_names,
)
from filbert.core.errors import BadInput
from filbert.models.gguf import read_header
from filbert.models.gguf_types import FILE_TYPES
from shapes import FAMILIES

GOLDEN = json.loads(gzip.decompress((Path(__file__).parents[1] / "golden/tensor_types.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: family.write(folder / f"{name}.gguf") for name, family in FAMILIES.items()}


def types(path: Path, recipe: Recipe, *, has_importance: bool = False) -> dict[str, str]:
    header = read_header(path)
    model = Model(header, header.tensors, has_importance)
    return {each.tensor.name: each.type for each in planned(recipe, model)}


@pytest.mark.parametrize("family", FAMILIES)
def test_mixes_are_those_of_llama_quantize(family: str, models: dict[str, Path]) -> None:
    """tools/record_tensor_types.py wrote down what llama-quantize of the engine's own sources chose."""
    golden = GOLDEN[family]
    known = {name.split("+")[0] for name in golden}
    assert known == set(stock_names()) - FULL or (family == "projector" and len(known) > 15)  # on others it aborts
    for name, expected in golden.items():
        recipe, _, imatrix = name.partition("+")
        found = types(models[family], stock(recipe), has_importance=bool(imatrix))
        quantised = {tensor: kind for tensor, kind in found.items() if kind != "F32"}
        if not expected:  # it has no type to fall back on; ours stay as they are
            assert "F16" in quantised.values(), (family, name)
            continue
        default = expected["*"]
        assert {tensor: kind for tensor, kind in quantised.items() if kind != default} == {
            tensor: kind for tensor, kind in expected.items() if tensor != "*" and kind != "F32"
        }, (family, name)


def test_a_mix_says_of_a_file_what_llama_cpp_says() -> None:
    assert {recipe.file_type: recipe.name for recipe in map(stock, stock_names())} == {
        number: name for number, name in FILE_TYPES.items() if name in stock_names()
    }


def test_every_quantised_type_has_a_mix() -> None:
    assert {stock(name).type for name in stock_names()} | {"MXFP4", "IQ2_S"} >= QUANTISED


def test_a_recipe_of_ones_own(models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        name = "mine"
        type = "q5_1"
        rules = [
            { tensor = 'ffn_down', layers = "first 1/8", type = "Q6_K" },
            { tensor = 'blk\\.(0|29)\\.attn_v', type = "Q8_0" },
            { tensor = 'token_embd', when = ["tied", "not imatrix"], type = "Q8_0" },
            { tensor = 'attn_k', when = ["gqa >= 4"], type = "Q4_0" },
        ]
        """
    )
    found = types(models["llama-135m"], read_recipe(file))
    assert [found[f"blk.{i}.ffn_down.weight"] for i in (0, 2, 3)] == ["Q6_K", "Q6_K", "Q5_1"]
    assert [found[f"blk.{i}.attn_v.weight"] for i in (0, 1, 29)] == ["Q8_0", "Q5_1", "Q8_0"]
    assert found["token_embd.weight"] == "Q8_0"
    assert found["blk.0.attn_k.weight"] == "Q5_1"
    assert found["output_norm.weight"] == "F32"


def test_rules_before_a_mix_win(models: dict[str, Path]) -> None:
    found = types(models["llama-1b"], stock("Q4_K_M").before(rule("attn_q", "Q8_0"), rule("output", "F16")))
    assert found["blk.0.attn_q.weight"] == "Q8_0"
    assert found["output.weight"] == found["blk.3.attn_output.weight"] == "F16"
    assert found["output_norm.weight"] == "F32"


@pytest.mark.parametrize(("wanted", "given"), [*FALLBACKS.items(), ("Q4_0", "Q4_0"), ("MXFP4", "MXFP4")])
def test_rows_that_are_no_whole_number_of_blocks(wanted: str, given: str) -> None:
    assert fallback(wanted, 544) == given  # 17 * 32
    assert fallback(wanted, 2304) == wanted  # 9 * 256
    assert fallback(wanted, 1000) == "F16"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('name = "x"\ntype = "Q4_X"', "'Q4_X' is no type"),
        ('name = "x"\ntype = "Q4_K"\nrules = [{ tensor = "(", type = "Q4_K" }]', "no regular expression"),
        ('name = "x"\ntype = "Q4_K"\nrules = [{ tensor = "a", type = "Q4_K", when = ["gqa = 4"] }]', "no condition"),
        ('name = "x"\ntype = "Q4_K"\nrules = [{ tensor = "a", type = "Q4_K", layers = "all" }]', "rules.0.layers"),
        ('name = "x"\ntype = "Q4_K"\nkind = 3', "kind"),
        ('type = "Q4_K"', "name"),
        ("name = ", "no TOML"),
    ],
)
def test_what_is_no_recipe_is_a_sentence(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=why):
        read_recipe(file)


def test_a_quantisation_nobody_knows_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="Did you mean Q4_K_M"):
        stock("Q4_K_N")


def test_a_rule_that_is_none_says_how_to_write_one() -> None:
    with pytest.raises(BadInput, match="ffn_down=Q6_K"):
        rule("ffn_down", "Q9")
