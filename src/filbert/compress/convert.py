"""A model as Hugging Face keeps it (safetensors) as a GGUF file, by llama.cpp's own converters.

They see a folder of what was checked (`staging.py`), no network, and no token of the person; they run in a process that
ends with ours.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from filbert.compress import converter
from filbert.compress.extra import TO_CONVERT, need_extra
from filbert.compress.staging import staged
from filbert.compress.verify import MOST_PARAMETERS, Agreement, verified
from filbert.core.errors import BadInput, BadModelFile, EngineError, FilbertError
from filbert.core.files import alone, disk_errors, move_whole, need_room
from filbert.core.jobs import Job, Progress
from filbert.core.machine import cores
from filbert.engine import capi_layout
from filbert.engine.child import Child
from filbert.models.download_options import DownloadOptions
from filbert.models.gguf import read_header
from filbert.models.header import Header
from filbert.models.name import HUB, parse
from filbert.models.parts import projector_of
from filbert.models.safetensors import Weights, read_safetensors
from filbert.models.weights_folder import Stem, need_config, weights_in

Type = Literal["F32", "F16", "BF16"]
BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
UNKNOWN = re.compile(r"Model (\S+) is not supported")
SILENT_S = 120.0  # for a process that else speaks every second
STEP = "converting"


@dataclass(frozen=True, slots=True)
class Asked:
    """model: a folder, or a repository of the hub. type: None for that of the weights. adapter: the folder or
    repository of a LoRA adapter of the model, which is converted instead. projector: that what the model sees with is
    converted too. verify: whether the file is compared with its source; None for where that is cheap."""

    model: str
    type: Type | None = None
    adapter: str = ""
    projector: bool = False
    verify: bool | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """agreement: None where the source was not run; why_not then says why, "" where nobody wanted it."""

    path: Path
    header: Header
    projector: Path | None = None
    agreement: Agreement | None = None
    why_not: str = ""


def convert_job(asked: Asked, target: Path, options: DownloadOptions) -> Job[Converted]:
    """Write the file, and beside it the projector's (`projector_of`). Raises BadInput, BadModelFile,
    UnknownModel, DownloadFailed, OfflineRefused, DiskFull, StoreReadOnly, StoreBusy."""
    need_extra("Converting", TO_CONVERT)
    stem: Stem = "adapter_model" if asked.adapter else "model"
    source = yield from folder_of(asked.adapter or asked.model, stem, options)
    weights = [weight for file in weights_in(source, stem) for weight in read_safetensors(file)]
    base = (yield from folder_of(asked.model, None, options)) if asked.adapter else None
    if base:
        need_config(base)
    tools = yield from converter.fetched(options)
    kind = asked.type or commonest(weights)
    need_room(target.parent, sum(weight.count for weight in weights) * BYTES[kind])
    with alone(target), tempfile.TemporaryDirectory(prefix="filbert-convert-") as name:
        work = Path(name)
        stage = staged(source, work / "source")
        words = ["--base", str(staged(base, work / "base"))] if base else []
        run = _Run(tools / f"convert_{'lora' if base else 'hf'}_to_gguf.py", stage, kind, environment(work))
        parts = {projector_of(target): ["--mmproj"]} if asked.projector else {}
        parts[target] = words  # the model last: where it is, all is
        try:
            for path, more in parts.items():
                yield from _converted(run, part_of(path), more, len(weights))
            header = read_header(part_of(target))
            agreement, why_not = yield from _checked(asked, run, part_of(target), header, work)
            for path in parts:
                move_whole(part_of(path), path)
        finally:
            for path in parts:
                part_of(path).unlink(missing_ok=True)
    projector = projector_of(target) if asked.projector else None
    return Converted(target, read_header(target), projector, agreement, why_not)


def folder_of(text: str, stem: Stem | None, options: DownloadOptions) -> Job[Path]:
    """The folder that a person means: one that is here, or a repository of the hub, fetched. stem: of the weights that
    are wanted, None for all but weights."""
    if Path(text).expanduser().is_dir():
        return Path(text).expanduser()
    if not HUB.fullmatch(text.removeprefix("hf:")):
        raise BadInput(
            f"There is no folder {text}.",
            why="It is no repository of the hub's either.",
            do="Name a folder with config.json and *.safetensors, or owner/name.",
        )
    name = parse(f"hf:{text.removeprefix('hf:')}")
    if name.which:
        raise BadInput(
            f"{text} is a GGUF file's name.",
            do=f"Name the repository alone: hf:{name.where}; `filbert pull` gets a GGUF.",
        )
    from filbert.models.sources.hub_folder import fetched  # its client is slow to import

    return (yield from fetched(name, options, stem))


def commonest(weights: Sequence[Weights]) -> Type:
    """The type that most of them have, so that nothing is lost; BF16 for those of none of ours."""
    counts: Counter[str] = Counter()
    for weight in weights:
        counts[weight.type] += weight.count
    found = max(counts, key=lambda kind: counts[kind], default="")
    return next((kind for kind in get_args(Type) if kind == found), "BF16")


def part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def environment(work: Path) -> dict[str, str]:
    """Ours, without tokens and settings of the hub's client, and with nothing to be found in its folders."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | offline | {"HF_HOME": str(work / "hub"), "HF_MODULES_CACHE": str(work / "modules")}


@dataclass(frozen=True, slots=True)
class _Run:
    script: Path
    stage: Path
    type: Type
    environment: Mapping[str, str]


def _converted(run: _Run, out: Path, more: Sequence[str], n_tensors: int) -> Job[None]:
    name = out.with_name(out.name.replace("{", "{{").replace("}", "}}"))  # the script fills in {ftype}
    words = [str(run.stage), *more, "--outfile", str(name.absolute()), "--outtype", run.type.lower()]
    config = {"script": str(run.script), "arguments": words, "out": str(out), "threads": cores(), "openmp": "system"}
    yield Progress("starting the converter")
    child = Child(Path(__file__).with_name("converter_main.py"), config, run.environment)
    try:
        while "answer" not in (said := child.hear(SILENT_S)) and "failed" not in said:
            if "tensors" in said:
                yield Progress(STEP, min(said["tensors"], n_tensors), n_tensors, "tensors")
            elif said["bytes"]:
                yield Progress(f"writing {out.name.removesuffix('.part')[1:]}", said["bytes"], None, "bytes")
    finally:
        child.kill()
    if "failed" in said:
        with disk_errors(out):
            if code := said.get("errno"):
                raise OSError(code, os.strerror(code), str(out))
        raise _failed(said["failed"], "--mmproj" in more)
    with out.open("r+b") as file:
        os.fsync(file.fileno())


def _failed(said: str, is_projector: bool) -> FilbertError:
    if match := UNKNOWN.search(said):
        if is_projector:
            return BadInput(
                f"{match[1]} has no vision projector that the converter knows.",
                why=f"It is llama.cpp's, of the engine {capi_layout.VERSION}.",
                do="Leave out --mmproj.",
            )
        return BadModelFile(
            f"{match[1]} is an architecture that the converter does not know.",
            why=f"It is llama.cpp's, of the engine {capi_layout.VERSION}.",
            do="Look for a GGUF file of the model, or wait for a newer engine.",
        )
    return EngineError(
        "The converter failed.",
        why=f"{' '.join(said.split())[:300].rstrip('.')}.",
        do="`--log-level DEBUG` keeps all that it says in the log file.",
    )


def _checked(asked: Asked, run: _Run, part: Path, header: Header, work: Path) -> Job[tuple[Agreement | None, str]]:
    wanted = header.parameters < MOST_PARAMETERS if asked.verify is None else asked.verify
    if asked.adapter or not wanted:
        return None, ""
    try:
        return (yield from verified(part, header, run.stage, work, run.environment)), ""
    except BadInput as exc:
        if asked.verify:
            raise
        return None, exc.why
