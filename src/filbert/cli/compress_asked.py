"""What `filbert compress` was asked for, as plans."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filbert.cli.compressing_flags import Calibration
from filbert.cli.console import note, progress
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.compress.compress_options import CompressOptions
    from filbert.compress.imatrix import ImportanceMatrix, Text
    from filbert.compress.optimise import Table
    from filbert.compress.plan import Plan, Source
    from filbert.compress.prepare import Asked as Preparing
    from filbert.compress.recipe import Recipe, Rule
    from filbert.compress.wanted import Wanted
    from filbert.engine.load_plan import LoadPlan

FLAGS = {"size": "--size", "bpw": "--bpw", "device": "--device", "quality": "--quality", "speed": "--speed"}
EXAMPLES = {"size": "90MB", "bpw": "4.5", "device": "8GB", "quality": "kld=0.02", "speed": "20"}
FORMS = {"size": "{}", "bpw": "{}bpw", "device": "device={}", "quality": "{}", "speed": "{}tokens/s"}


def one_way(ways: Mapping[str, Any]) -> str:
    """What was asked for, as `--batch` has it. ways: by flag, what was told; --recipe is no text and gives "". Raises
    BadInput unless there is one."""
    told = [flag for flag, value in ways.items() if value]
    if len(told) != 1:
        raise BadInput(
            "It is not said how." if not told else f"{' and '.join(told)} ask for different files.",
            do="Add one of `--to Q4_K_M`, `--size 90MB`, `--bpw 4.5`, `--device 8GB`, `--quality kld=0.02`, "
            "`--speed 20` and `--recipe FILE`.",
        )
    kind, value = told[0].removeprefix("--"), ways[told[0]]
    if kind == "recipe":
        return ""
    to = FORMS.get(kind, "{}").format(f"{value:.10g}" if isinstance(value, float) else value)
    if kind != "to" and not ((found := check_form(to)) and found.kind == kind):
        raise BadInput(f"--{kind} {value} is none.", do=f"Write it as `--{kind} {EXAMPLES[kind]}`.")
    return to


def check_form(to: str) -> Wanted | None:
    from filbert.compress.wanted import wanted

    return wanted(to)


def check(to: str) -> Wanted | None:
    """Raises BadInput for what is neither a type nor a size, a quality, …"""
    from filbert.compress.recipe import stock

    if not (found := check_form(to)):
        stock(to)
    return found


@dataclass
class Asked:
    """How a source is compressed, all but to what."""

    source: Source
    load: LoadOptions
    settings: Settings
    options: CompressOptions
    recipe: Path | None
    importance: ImportanceMatrix | None
    overrides: Sequence[Rule]
    split_bytes: int | None
    requantise: bool
    calibration: Calibration
    dry_run: bool

    def name(self, to: str) -> str:
        """What the file is called after."""
        from filbert.compress.recipe import read_recipe, stock

        if found := check(to) if to else None:
            return found.text
        return (read_recipe(self.recipe) if self.recipe else stock(to)).name

    def plan(self, to: str) -> Plan:
        """to: as `--batch` has it, or "" where there is a recipe."""
        from filbert.compress.effort import chosen_job
        from filbert.compress.measure import can_measure
        from filbert.core.jobs import run

        if self.options.effort == "none":
            return self._plan(to, self.again(to))
        command = self.again(to)
        made = self._covered._plan(to, command)
        if self.dry_run or not can_measure(made) or not (other := self._equalised):
            return made
        equalised = other._plan(to, command)
        if (found := check(to) if to else None) and found.kind == "quality":
            return min(equalised, made, key=lambda each: each.size_bytes)
        with progress(self.settings) as watch:
            about = {"model": self.source.stored.name, "wanted": to}
            chosen = run("compress", about, chosen_job(made, equalised, self.load), watch)
        if chosen is made:
            note("Re-scaled, some kind of text gets worse: the model is rounded as it is.", self.settings)
        else:
            note("Re-scaled before it is rounded: no kind of text gets worse.", self.settings)
        return chosen

    def _plan(self, to: str, command: str) -> Plan:
        """command: what makes it again."""
        from filbert.compress.plan import plan
        from filbert.compress.recipe import read_recipe, stock
        from filbert.compress.refine import refined_job
        from filbert.compress.search import plan_job
        from filbert.core.jobs import run
        from filbert.engine.load_plan import LoadPlan

        how: dict[str, Any] = {
            "command": command,
            "split_bytes": self.split_bytes,
            "requantise": self.requantise,
        }
        if not (found := check(to) if to else None):
            recipe: Recipe = read_recipe(self.recipe) if self.recipe else stock(to)
            return plan(self.source, recipe.before(*self.overrides), self.importance, **how)
        if self.overrides:
            raise BadInput(
                "Types of tensors are chosen by what was asked for.", do="Leave --tensor-type and its like out."
            )
        about = {"model": self.source.original.name, "wanted": to}
        with progress(self.settings) as watch:
            made = run("compress", about, plan_job(self.table, found, self.load, how), watch)
        if self.dry_run or not self.options.refine or found.kind in ("quality", "speed"):
            return made
        full = LoadPlan(self.source.original, self.load)
        with progress(self.settings) as watch:
            job = refined_job(self.table, full, made, self.texts, self.options.refine, how)
            refined = run("compress", about, job, watch)
        note(str(refined), self.settings)
        return refined.plan

    @cached_property
    def table(self) -> Table:
        from filbert.compress.prepare import table_job
        from filbert.core.jobs import run

        with progress(self.settings) as watch:
            found = run("sensitivity", {"model": self.source.original.name}, table_job(self._measuring), watch)
        note(f"Which tensors matter was told by {found.sensitivity.maker}s.", self.settings)
        return found

    @cached_property
    def _covered(self) -> Asked:
        """The same with an importance matrix, that of the texts where none was named."""
        from filbert.compress.prepare import importance_job
        from filbert.core.jobs import run

        if self.importance:
            return self
        with progress(self.settings) as watch:
            found = run("imatrix", {"model": self.source.stored.name}, importance_job(self._measuring), watch)
        return replace(self, importance=found)

    @cached_property
    def _equalised(self) -> Asked | None:
        """The same of the source re-scaled; None where it does not round better."""
        from filbert.compress.equalise import equalised_job
        from filbert.core.jobs import run

        importance = self._covered.importance
        assert importance
        with progress(self.settings) as watch:
            job = equalised_job(self.full, importance, self.texts)
            found = run("equalise", {"model": self.source.stored.name}, job, watch)
        if not found:
            note("Not re-scaled: it would round no better, or nothing of it can be.", self.settings)
            return None
        return replace(self, source=found.source, importance=found.importance)

    def close(self) -> None:
        """Remove the source re-scaled, which is as large as itself and soon made again."""
        if other := self.__dict__.get("_equalised"):
            other.source.stored.path.unlink(missing_ok=True)

    @property
    def full(self) -> LoadPlan:
        from filbert.engine.load_plan import LoadPlan

        return LoadPlan(self.source.stored, self.load)

    @property
    def _measuring(self) -> Preparing:
        from filbert.compress.prepare import Asked as Preparing

        return Preparing(self.source, self.load, self.texts, self.importance, self.options.sensitivity)

    @cached_property
    def texts(self) -> list[Text]:
        return self.calibration.of(self.source.stored, self.load)

    def again(self, to: str) -> str:
        """What makes the file again, for those who read of it: of files and models their names, not where they lie."""
        words = ["filbert", "compress", Path(self.source.stored.name).name]
        words += ["--recipe", self.recipe.name] if self.recipe else flags_of(to)
        words += ["--imatrix", self.importance.path.name] if self.importance else []
        for each in self.overrides:
            words += ["--tensor-type", f"{each.tensor}={each.type}"]
        words += [word for text in self.calibration.texts for word in ("--text", text.name)]
        words += [word for name, _ in self.calibration.chats for word in ("--pairs", name)]
        if check(to) if to else None:
            words += ["--sensitivity", self.table.sensitivity.maker, "--refine", str(self.options.refine)]
        words += ["--effort", self.options.effort] if self.options.effort != "none" else []
        words += ["--split-size", f"{self.split_bytes}B"] if self.split_bytes else []
        words += ["--allow-requantize"] if self.requantise else []
        return shlex.join(words)


def flags_of(to: str) -> list[str]:
    found = check(to)
    if not found:
        return ["--to", to]
    said = to.removesuffix("bpw").removesuffix("tokens/s").removeprefix("device=").strip()
    return [FLAGS[found.kind], said]
