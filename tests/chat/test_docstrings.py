"""The three styles in which people describe parameters."""

from __future__ import annotations

import pytest

from filbert.chat.docstrings import described

GOOGLE = """The weather of a town,
    now or later.

    It asks nobody.

    Args:
        town (str): name of the town,
            as people say it
        unit: C or F

    Returns:
        town: never this
    """
NUMPY = """The weather of a town,
    now or later.

    Parameters
    ----------
    town : str
        name of the town,
        as people say it
    unit
        C or F

    Returns
    -------
    str
        town : never this
    """
SPHINX = """The weather of a town,
    now or later.

    :param str town: name of the town,
        as people say it
    :param unit: C or F
    :returns: town: never this
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_each_style_says_what_the_function_and_its_parameters_are(docstring: str) -> None:
    said, parameters = described(docstring)
    assert said == "The weather of a town, now or later."
    assert parameters == {"town": "name of the town, as people say it", "unit": "C or F"}


def test_a_docstring_without_parameters_is_its_first_paragraph() -> None:
    assert described("Sun: all day.\n\nNote: more.") == ("Sun: all day.", {})
    assert described("") == ("", {})
    assert described("\n    Args:\n        x: y") == ("", {"x": "y"})
