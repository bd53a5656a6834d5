"""Charts: what is drawn is what was told, in colours that differ in grey, and the file stands alone."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex
from PIL import Image, ImageColor

from filbert.core.errors import BadInput
from filbert.report.chart import BLUE, GREY, ORANGE, Chart, bars, curve, distribution_chart, need_chart

HOSTILE = 'a --><script src="https://example.org/x.js"/> & $b$'


def curves(first: str = "a:1b", second: str = "b:1b") -> Chart:
    return distribution_chart({first: [1, 2, 4, 100], second: [2, 3, 5, 50]}, "Four answers", "perplexity", 100)


def table() -> Chart:
    values, errors = [[50.0, 25.0], [None, 75.0]], [[2.0, 3.0], [None, None]]
    return bars(["mine", "theirs"], ["piqa", "boolq"], values, errors, ["mine"])


def test_points_are_named_and_those_joined_that_no_smaller_one_beats() -> None:
    points = [
        ("Q8_0", 145.0, 0.004, (0.003, 0.005)),
        ("Q4_0", 92.0, 0.3, (0.29, 0.32)),
        ("worse", 100.0, 0.4, (0.39, 0.42)),
    ]
    (axes,) = curve(points, "Three files", "size, MB", "KL").figure.axes
    line = axes.lines[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([92.0, 145.0], [0.3, 0.004])
    assert [text.get_text() for text in axes.texts] == ["Q4_0", "worse", "Q8_0"]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "size, MB"


def test_a_curve_rises_by_its_share_at_each_value() -> None:
    (axes,) = curves().figure.axes
    lines = {str(line.get_label()): line for line in axes.lines}
    drawn = lines["a:1b (median 3, n 4)"]
    assert drawn.get_xdata()[1:].tolist() == [1, 2, 4, 100]
    assert drawn.get_ydata().tolist() == [0, 25, 50, 75, 100]
    assert drawn.get_drawstyle() == "steps-post"
    assert drawn.get_linestyle() != lines["b:1b (median 4, n 4)"].get_linestyle()


def test_axes_say_what_they_measure() -> None:
    (axes,) = curves().figure.axes
    assert axes.get_xlabel() == "perplexity, logarithmic; 100 stands for more"
    assert axes.get_ylabel() == "share of answers that cost at most so much, %"
    assert axes.get_title(loc="left") == "Four answers"
    assert table().figure._supxlabel.get_text() == "accuracy, %; lines: one standard error to either side"


def test_a_bar_is_as_long_as_its_number_and_has_its_error() -> None:
    piqa, boolq = table().figure.axes
    assert [bar.get_width() for bar in piqa.patches] == [50, 0]
    assert [bar.get_width() for bar in boolq.patches] == [25, 75]
    assert [text.get_text() for text in piqa.texts] == ["50.0", "–"]
    (errors,) = boolq.containers[1].lines[2]
    assert [[x for x, _ in segment] for segment in errors.get_segments()] == [[22, 28], [75, 75]]
    assert [label.get_text() for label in piqa.get_yticklabels()] == ["mine", "theirs"]


def test_only_what_is_highlighted_stands_out() -> None:
    mine, theirs = table().figure.axes[1].patches
    assert [to_hex(bar.get_facecolor()) for bar in (mine, theirs)] == [BLUE, GREY]
    assert [label.get_fontweight() for label in table().figure.axes[0].get_yticklabels()] == ["bold", "normal"]


@pytest.mark.parametrize(("one", "other"), [(BLUE, ORANGE), (BLUE, GREY)])
def test_colours_differ_in_grey(one: str, other: str) -> None:
    """By more than a fifth of what there is between black and white."""
    first, second = (
        Image.new("RGB", (1, 1), ImageColor.getrgb(colour)).convert("L").getpixel((0, 0)) for colour in (one, other)
    )
    assert abs(first - second) > 51


@pytest.mark.parametrize("chart", [curves, table], ids=["curves", "bars"])
def test_a_picture_is_drawn_the_same_again(chart: type[Chart]) -> None:
    picture = Image.open(io.BytesIO(chart().png()))
    assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert chart().png() == chart().png()
    assert chart().svg() == chart().svg()


@pytest.mark.parametrize(
    "chart", [curves(HOSTILE), bars([HOSTILE], [HOSTILE], [[1.0]], [[None]])], ids=["curves", "bars"]
)
def test_an_svg_stands_alone_and_names_bring_nothing_in(chart: Chart) -> None:
    tree = ElementTree.fromstring(chart.svg())
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    kinds = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert not kinds & {"script", "image", "foreignObject", "text"}  # letters are shapes
    addresses = [v for e in tree.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert addresses and all(address.startswith("#") for address in addresses)
    assert not re.search(r"url\((?!#)", chart.svg())


def test_a_file_is_written_by_its_suffix(tmp_path: Path) -> None:
    curves().write(tmp_path / "a.PNG")
    curves().write(tmp_path / "a.svg")
    assert Image.open(tmp_path / "a.PNG").format == "PNG"
    assert (tmp_path / "a.svg").read_text("utf-8") == curves().svg()
    with pytest.raises(BadInput, match=r"a.pdf says no format .*\.png or \.svg"):
        need_chart(tmp_path / "a.pdf")


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: need_chart(Path("a.png")), curves, table):
        with pytest.raises(BadInput, match=r"Charts need matplotlib.*pip install 'filbert\[report\]'"):
            draw()


def test_the_library_is_loaded_only_when_a_chart_is_drawn() -> None:
    asked = (
        "import sys, filbert.report.chart, filbert.cli.app, filbert.evaluate.pairs; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
