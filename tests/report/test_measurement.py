from __future__ import annotations

from filbert.report.measurement import Measurement, Provenance

MADE_BY = Provenance(
    model="smollm2:135m",
    model_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    versions="filbert 0.1.0, xllamacpp 2026.10.11549",
    machine="a processor",
    threads=2,
    command="filbert perplexity -m smollm2:135m --text FILE",
)


def test_a_provenance_names_model_versions_machine_and_the_command_that_makes_it_again() -> None:
    assert str(MADE_BY) == (
        "smollm2:135m (sha256 b179c9523d0e), filbert 0.1.0, xllamacpp 2026.10.11549, a processor, 2 threads\n"
        "again: filbert perplexity -m smollm2:135m --text FILE"
    )


def test_invalid_items_are_shown_and_a_sound_measurement_says_nothing_of_them() -> None:
    sound = Measurement(value=1.5, interval=(1, 2), against="a text", n=7, made_by=MADE_BY)
    partly = Measurement(value=1.5, interval=(1, 2), against="a text", n=7, n_invalid=3, made_by=MADE_BY)
    assert sound.invalid_note == ""
    assert partly.invalid_note == ", 3 of 10 items invalid and left out"
