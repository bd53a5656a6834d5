"""Files of a size, a number of bits, a quality: what `filbert compress` makes of a tiny model without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import Run

import make_tiny
from filbert.compress.compress_options import CompressOptions
from filbert.compress.making import making_of
from filbert.core import paths
from filbert.core.files import sha256_of
from filbert.models.gguf import read_header

BY_SWAPS = ("--sensitivity", "swap")


@pytest.fixture
def full(tmp_path: Path) -> str:
    return str(make_tiny.dense(tmp_path / "full.gguf"))


@pytest.fixture
def text(tmp_path: Path) -> str:
    words = (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")[:4000]
    file = tmp_path / "text.txt"
    file.write_text(words, "utf-8")
    return str(file)


@pytest.mark.slow
def test_one_table_serves_every_size_and_the_curve(filbert: Run, full: str, text: str, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    first = filbert("compress", full, "--size", "80kB", *BY_SWAPS, "--text", text, "-o", str(target), "--refine", "1")
    assert 76_000 < target.stat().st_size <= 80_000
    assert "Which tensors matter was told by swaps." in first.stderr
    assert "Told by the table" in first.stderr
    said = making_of(read_header(target))
    assert said
    assert said.recipe == "80kB"
    assert said.measured
    assert said.measured.kinds[0].kl.value < 0.1
    assert "--size 80kB --text text.txt --sensitivity swap --refine 1" in said.command
    again = filbert("compress", full, "--bpw", "6", *BY_SWAPS, "--text", text, "--dry-run")
    assert "bits a weight" in again.stdout
    assert "swaps" not in again.stderr.replace("told by swaps", "")  # nothing was measured again
    curve = json.loads(filbert("compress", full, "--curve", *BY_SWAPS, "--text", text, "--json").stdout)
    ours = [point for point in curve["points"] if not point["recipe"]]
    assert [point["loss"] for point in ours] == sorted((point["loss"] for point in ours), reverse=True)
    assert {"Q4_0", "Q8_0"} <= {point["recipe"] for point in curve["points"]}
    assert "Q4_0" in filbert("compress", full, "--curve", *BY_SWAPS, "--text", text).stdout
    refused = filbert("compress", full, "--size", "1kB", *BY_SWAPS, "--text", text)
    assert refused.returncode
    assert "The smallest file of these types takes" in refused.stderr
    refused = filbert("compress", full, "--device", "1MB", *BY_SWAPS, "--text", text, "--dry-run")
    assert "does not run in 1 MB" in refused.stderr
    device = filbert("compress", full, "--device", "200MB", *BY_SWAPS, "--text", text, "--dry-run")
    assert "Q8_0" in device.stdout


@pytest.mark.slow
def test_a_small_file_takes_one_table(filbert: Run, full: str, text: str) -> None:
    refused = filbert("compress", full, "--bpw", "3.5", *BY_SWAPS, "--text", text, "--dry-run")
    assert "The smallest file of these types takes" in refused.stderr  # rows too short for a type of three bits
    assert len(list(paths.compressions_folder().glob("*/swap-*.json"))) == 1


@pytest.mark.slow
def test_a_quality_is_measured_and_a_speed_too(filbert: Run, full: str, text: str, tmp_path: Path) -> None:
    target = tmp_path / "near.gguf"
    filbert("compress", full, "--quality", "kld=0.02", *BY_SWAPS, "--text", text, "-o", str(target))
    said = making_of(read_header(target))
    assert said
    assert said.measured
    assert 0 < said.measured.kinds[0].kl.value <= 0.02
    flags = ("compress", full, *BY_SWAPS, "--text", text, "--dry-run")
    assert filbert(*flags, "--speed", "1").returncode == 0
    for impossible in (("--quality", "kld=0.0000001"), ("--speed", "1000000")):
        refused = filbert(*flags, *impossible)
        assert refused.returncode
        assert "measured" in refused.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--size", "0MB"], "'0MB' is no size"),
        (["--size", "much"], "Write it as `--size 90MB`"),
        (["--quality", "0.02"], "Write it as `--quality kld=0.02`"),
        (["--size", "90MB", "--bpw", "4"], "--size and --bpw ask for different files"),
        (["--size", "70kB", "--sensitivity", "gradient"], "pip install 'filbert[convert]'"),
        (["--to", "Q4_0", "--effort", "high"], "pip install 'filbert[convert]'"),
        (["--to", "Q4_0", "--effort", "much"], "none | low | high"),
        (["--to", "Q4_0", "--effort", "low", "--no-measure"], "Leave --no-measure"),
        (["--to", "Q4_0", "--out", "full.gguf"], "full.gguf is what it would be made of"),
        (["--to", "Q4_0", "--tasks", "such"], "such"),
        (["--batch", "Q8_0,90MB"], "--batch writes a folder"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_measured(
    filbert: Run, full: str, words: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(full).parent)
    done = filbert("compress", full, *words)
    assert done.returncode
    assert why in " ".join(done.stderr.split())
    assert "windows" not in done.stderr


def test_the_table_is_believed_only_if_asked() -> None:
    assert CompressOptions().refine > 0
    assert CompressOptions().effort == "auto"


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted", [("--to", "Q4_0"), ("--size", "80kB", *BY_SWAPS, "--refine", "0")], ids=["to", "size"]
)
def test_a_model_that_rounds_badly_is_scaled_before(
    filbert: Run, text: str, home: Path, tmp_path: Path, wanted: tuple[str, ...]
) -> None:
    full, losses = str(make_tiny.uneven(tmp_path / "full.gguf")), []
    for effort in ("none", "low"):
        target = tmp_path / f"{effort}.gguf"
        filbert("compress", full, *wanted, "--effort", effort, "--text", text, "-o", str(target))
        said = making_of(read_header(target))
        assert said
        assert said.measured
        assert (said.exponent is None) == (effort == "none")
        assert said.source == "full.gguf"
        assert ("re-scaled" in filbert("show", str(target)).stdout) == (effort == "low")
        losses.append(said.measured.kinds[0].kl.value)
    assert losses[1] < 0.8 * losses[0]
    assert said.source_sha256 == sha256_of(Path(full))
    assert target.stat().st_size < 1.01 * (tmp_path / "none.gguf").stat().st_size
    assert said.command.endswith("--effort low")
    kept = {file.name for file in (home / "compressions").rglob("*.gguf")}
    assert not [name for name in kept if name.startswith("equalised") and "imatrix" not in name]


@pytest.mark.slow
def test_what_one_file_of_a_release_is_made_with_serves_all(filbert: Run, text: str, tmp_path: Path) -> None:
    full, folder = make_tiny.uneven(tmp_path / "full.gguf"), tmp_path / "release"
    filbert(
        "compress", str(full), "--batch", "80kB,Q5_0", *BY_SWAPS, "--refine", "0", "--text", text, "-o", str(folder)
    )
    for name in ("full-80kB.gguf", "full-Q5_0.gguf"):
        said = making_of(read_header(folder / name))
        assert said
        assert said.exponent is not None
        assert said.imatrix_sha256
        assert said.command.endswith("--effort low")
    told = (folder / "README.md").read_text()
    assert told.index("full-Q5\\_0.gguf") < told.index("full-80kB.gguf")  # the smallest first


@pytest.mark.slow
def test_a_model_that_rounds_well_stays_as_it_is(filbert: Run, full: str, text: str, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    done = filbert("compress", full, "--to", "Q8_0", "--effort", "low", "--text", text, "-o", str(target))
    assert "Not re-scaled: it would round no better" in done.stderr
    said = making_of(read_header(target))
    assert said
    assert said.exponent is None
