"""What `filbert compress` was asked for, as plans."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filbert.cli.compressing_flags import Calibration
from filbert.cli.console import note, progress
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.compress.compress_options import CompressOptions, Effort
    from filbert.compress.equalise import Equalised
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
    if len(told) > 1:
        raise BadInput(f"{' and '.join(told)} ask for different files.", do="Leave all but one out.")
    if not told:
        raise BadInput(
            "It is not said how.",
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
    """None for a type, and for "", which stands for a recipe. Raises BadInput for what is neither a type nor a size, a
    quality, …"""
    from filbert.compress.recipe import stock

    found = check_form(to) if to else None
    if to and not found:
        stock(to)
    return found


@dataclass
class Asked:
    """How a source is compressed. wanted: to what, as `--batch` has it, or "" where there is a recipe. measures: what a
    file lost; None for where this machine can. small: whether tensors may get types that only the smallest files
    need."""

    wanted: Sequence[str]
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
    measures: bool | None
    dry_run: bool
    small: bool = False
    _rescaled: Equalised | None = field(default=None, init=False)

    @property
    def sources(self) -> list[Path]:
        """The files that are read."""
        stored, matrix = self.source.stored, self.importance
        others = (stored.projector, matrix.path if matrix else None, self.recipe)
        return [*stored.parts, *(other for other in others if other)]

    def name(self, to: str) -> str:
        """What the file is called after."""
        from filbert.compress.recipe import read_recipe, stock

        if found := check(to):
            return found.text
        return (read_recipe(self.recipe) if self.recipe else stock(to)).name

    @property
    def effort(self) -> Effort:
        """What is made for one file serves all."""
        if (told := self.options.effort) != "auto":
            return told
        return "low" if any(map(check, self.wanted)) and self.can_compare else "none"

    @cached_property
    def can_compare(self) -> bool:
        """Whether a file may be measured, and has room beside the source; decided once, for memory comes and goes."""
        from filbert.compress.measure import can_measure

        is_allowed = self.measures is not False and not self.split_bytes
        return is_allowed and can_measure(self.source, self.source.stored.size_bytes)

    def plan(self, to: str) -> Plan:
        """to: one of what is wanted."""
        if self.effort == "none":
            if check(to) and self.options.effort == "auto":
                note("Not re-scaled: that takes measuring, in one file, and memory for MODEL twice.", self.settings)
            return (self._covered if self.calibration.is_named else self)._plan(to, self)
        if other := self._equalised:
            made = other._plan(to, self)
            if self.dry_run or self._gains(made):
                return made
        return self._covered._plan(to, self)

    def _gains(self, equalised: Plan) -> bool:
        """Whether it is better than the same types of the source as it is."""
        from filbert.compress.effort import gains_job
        from filbert.compress.plan import plan
        from filbert.core.jobs import run

        plain = plan(self.source, equalised.recipe, self._covered.importance, command=equalised.command)
        with progress(self.settings) as watch:
            about = {"model": self.source.stored.name, "recipe": equalised.recipe.name}
            found = run("compress", about, gains_job(equalised, plain, self.load), watch)
        told = "no kind of text gets worse" if found else "some kind of text gets worse, so the source stays as it is"
        note(f"Re-scaled (exponent {equalised.source.exponent:g}): {told}.", self.settings)
        return found

    def _plan(self, to: str, asked: Asked) -> Plan:
        """asked: by the person."""
        from filbert.compress.plan import plan
        from filbert.compress.recipe import read_recipe, stock
        from filbert.compress.refine import refined_job
        from filbert.compress.search import plan_job
        from filbert.core.jobs import run

        found = check(to)
        if found and not self.small and found.is_small(self.source.count):
            return self._smaller._plan(to, asked)  # before the other table is made
        how: dict[str, Any] = {
            "command": asked.again(to, self.table.sensitivity.maker if found else ""),
            "split_bytes": self.split_bytes,
            "requantise": self.requantise,
        }
        if not found:
            recipe: Recipe = read_recipe(self.recipe) if self.recipe else stock(to)
            for each in self.overrides:
                if not any(re.search(each.tensor, name) for name in self.source.tensors):
                    raise BadInput(
                        f"{each.tensor} names no tensor of {self.source.original.name}.",
                        do="Leave it out, or name one as token_embd, attn_v or ffn_down.",
                    )
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
        with progress(self.settings) as watch:
            job = refined_job(self.table, asked.full, made, self.texts, self.options.refine, how)
            refined = run("compress", about, job, watch)
        note(str(refined), self.settings)
        return refined.plan

    @cached_property
    def _smaller(self) -> Asked:
        return replace(self, small=True)

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
        """The same with an importance matrix, where none was named that of the texts."""
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

        with progress(self.settings) as watch:
            job = equalised_job(self._covered._measuring)
            self._rescaled = found = run("equalise", {"model": self.source.stored.name}, job, watch)
        if not found:
            note("Not re-scaled: it would round no better, or nothing of it can be.", self.settings)
            return None
        return replace(self, source=found.source, importance=found.importance)

    def close(self) -> None:
        """Remove what nobody needs any more: the source re-scaled, and what runs that were killed left long ago."""
        from filbert.compress.prepare import clean

        if self._rescaled:
            self._rescaled.close()
        clean()

    @property
    def full(self) -> LoadPlan:
        from filbert.engine.load_plan import LoadPlan

        return LoadPlan(self.source.stored, self.load)

    @property
    def _measuring(self) -> Preparing:
        from filbert.compress.prepare import SMALL_TYPES, TYPES
        from filbert.compress.prepare import Asked as Preparing

        types = SMALL_TYPES + TYPES if self.small else TYPES
        return Preparing(self.source, self.load, self.texts, self.importance, self.options.sensitivity, types)

    @cached_property
    def texts(self) -> list[Text]:
        return self.calibration.of(self.source.stored, self.load)

    def again(self, to: str, maker: str) -> str:
        """What makes the file again, for those who read of it: of files and models their names, not where they lie.
        maker: of the table."""
        words = ["filbert", "compress", Path(self.source.stored.name).name]
        words += ["--recipe", self.recipe.name] if self.recipe else flags_of(to)
        words += ["--imatrix", self.importance.path.name] if self.importance else []
        for each in self.overrides:
            words += ["--tensor-type", f"{each.tensor}={each.type}"]
        words += [word for text in self.calibration.texts for word in ("--text", text.name)]
        words += [word for name, _ in self.calibration.chats for word in ("--pairs", name)]
        if maker:
            words += ["--sensitivity", maker, "--refine", str(self.options.refine)]
        if maker or self.effort != "none":
            words += ["--effort", self.effort]
        words += ["--split-size", f"{self.split_bytes}B"] if self.split_bytes else []
        words += ["--allow-requantize"] if self.requantise else []
        return shlex.join(words)


def flags_of(to: str) -> list[str]:
    found = check(to)
    if not found:
        return ["--to", to]
    said = to.removesuffix("bpw").removesuffix("tokens/s").removeprefix("device=").strip()
    return [FLAGS[found.kind], said]
