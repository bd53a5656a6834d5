"""Plans from a table of losses: sizes, curves, recipes that say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make_tiny
from filbert.compress.optimise import Table, recipe_of
from filbert.compress.plan import Source, plan
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import Model, planned, read_recipe
from filbert.compress.sensitivity import Sensitivity
from filbert.core.errors import BadInput
from filbert.core.jobs import finish
from filbert.models.gguf import check_split
from filbert.models.store import in_place

TYPES = {"Q4_0": 0.16, "Q4_1": 0.1, "Q5_0": 0.04, "Q5_1": 0.02, "Q8_0": 0.001}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Of a tiny model in which later blocks matter more."""
    stored = in_place(make_tiny.dense(tmp_path_factory.mktemp("model") / "full.gguf"))
    source = Source(stored, check_split(stored.parts))
    matrices = [name for name, (tensor, _) in source.tensors.items() if len(tensor.shape) > 1]
    losses = {name: {kind: loss * (3 if "blk.1" in name else 1) for kind, loss in TYPES.items()} for name in matrices}
    return Table(source, None, Sensitivity("by hand", "", losses))


def test_a_file_has_the_size_that_was_asked_for(table: Table, tmp_path: Path) -> None:
    smallest, largest = table.curve()[0].size_bytes, table.curve()[-1].size_bytes
    for asked in range(smallest, largest, (largest - smallest) // 7):
        made = table.of_size(asked, "mine")
        file = finish(quantise_job(made, tmp_path / f"{asked}.gguf"))
        assert made.size_bytes == file.stat().st_size <= asked
        assert asked - made.size_bytes < 8192  # the embedding's smallest step from type to type is more than this


def test_more_bytes_never_lose_more_and_what_matters_gets_them(table: Table) -> None:
    points = table.curve()
    assert [point.loss for point in points] == sorted((point.loss for point in points), reverse=True)
    assert [point.size_bytes for point in points] == sorted(point.size_bytes for point in points)
    middle = table.of_size((points[0].size_bytes + points[-1].size_bytes) // 2, "mine")
    sizes = [sum(place.size_bytes for place in middle.places if f"blk.{block}." in place.name) for block in range(2)]
    assert sizes[1] > sizes[0]


def test_bits_a_weight_are_kept_to(table: Table) -> None:
    for asked in (5.5, 6.5, 8.0):
        made = table.of_bits(asked, "mine")
        assert asked - 0.4 < made.bits_a_weight <= asked


def test_less_than_the_smallest_is_refused_with_its_bytes(table: Table) -> None:
    smallest = table.curve()[0].size_bytes
    assert table.of_size(smallest, "mine").size_bytes == smallest
    with pytest.raises(BadInput, match=f"{smallest:,} bytes"):
        table.of_size(smallest - 1, "mine")


def test_llama_cpps_mixes_stand_beside_the_curve(table: Table) -> None:
    stock = {point.recipe: point for point in table.stock()}
    assert {"Q4_0", "Q5_1", "Q8_0"} <= stock.keys()
    for point in stock.values():
        assert table.loss(table.of_size(point.size_bytes, "ours")) <= point.loss * (1 + 1e-9)


def test_the_recipe_as_a_file_gives_the_same_types(table: Table, tmp_path: Path) -> None:
    made = table.of_size(sum(point.size_bytes for point in table.curve()[:2]) // 2 + 20_000, "mine")
    file = tmp_path / "mine.toml"
    file.write_text(made.recipe.to_toml(), "utf-8")
    again = plan(table.source, read_recipe(file))
    assert [each.type for each in again.tensors] == [each.type for each in made.tensors]
    assert len({each.type for each in made.tensors}) > 2


@given(st.lists(st.sampled_from(sorted(TYPES)), min_size=15, max_size=15))
def test_a_recipe_gives_each_tensor_its_type(table: Table, kinds: list[str]) -> None:
    types = dict(zip(table.names, kinds, strict=False))
    rest = dict.fromkeys(set(table.names) - types.keys(), "Q4_0")
    source = table.source
    found = planned(recipe_of("mine", types | rest), Model(source.headers[0], [t for t, _ in source.tensors.values()]))
    assert {each.tensor.name: each.type for each in found if each.tensor.name in types} == types
