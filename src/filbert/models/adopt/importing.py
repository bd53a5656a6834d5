"""From what other programs have to names in our store: looked at, named, and linked; nothing is copied or changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile, UnknownModel
from filbert.core.files import locked
from filbert.core.jobs import Job, Progress
from filbert.models import preset
from filbert.models.adopt import gpt4all, hub_cache, jan, llama_cpp, lm_studio, naming, ollama
from filbert.models.adopt.found import Find, Found, Refused, models_in, printable
from filbert.models.architectures import LOADABLE
from filbert.models.catalogue import Role
from filbert.models.gguf import Header, check_split, read_header
from filbert.models.header import Kind
from filbert.models.installed import projector_beside
from filbert.models.manifest import Linked, Manifest, manifest_file, manifest_of, read_manifests, write_manifest
from filbert.models.name import CATALOGUE, parse
from filbert.models.parts import parts_beside

State = Literal["new", "here", "changed", "refused"]
PROGRAMS: dict[str, Callable[[], Iterable[Find]]] = {
    gpt4all.PROGRAM: gpt4all.finds,
    ollama.PROGRAM: ollama.finds,
    lm_studio.PROGRAM: lm_studio.finds,
    jan.PROGRAM: jan.finds,
    llama_cpp.PROGRAM: llama_cpp.finds,
    hub_cache.PROGRAM: hub_cache.finds,
}
A_FILE = "file"  # the program of what a person names


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was found, and what an import makes of it. new: gets its name; changed: it has it, and the file is another
    one since; here: it has it; refused: gets none. why: a sentence, "" where there is nothing to say. name_given: a
    person wants it so, also beside another name of the same file."""

    state: State
    program: str
    what: str
    name: str = ""
    size_bytes: int = 0
    kind: Kind = "other"
    why: str = ""
    name_given: bool = False
    manifest: Manifest | None = None
    preset: preset.Preset | None = None


def search(wanted: Sequence[Path] = (), name: str = "") -> Job[list[Candidate]]:
    """What the programs have, or what is at the paths that a person names. name: for the only model there.
    Raises BadInput, UnknownModel and BadModelFile for what a person named and cannot have."""
    finds = list[Find]()
    yield Progress("looking for models")
    for found in map(_at, wanted) if wanted else map(_of, PROGRAMS):
        finds += found
    if name:
        finds = _called(name, finds)
    desk, candidates = _Desk(), list[Candidate]()
    for number, find in enumerate(finds, 1):
        candidates += desk.judge(find)
        yield Progress("reading the headers", number, len(finds), "files")
    if wanted and all(each.state == "refused" for each in candidates):
        raise BadModelFile(candidates[0].why)
    return candidates


def take(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Give the new and the changed ones their names; those that got one. Raises StoreReadOnly, DiskFull."""
    with locked(paths.models_folder() / "import.lock"):
        there = {_origin(manifest) for manifest in read_manifests()[0]}
        return [each for each in candidates if each.manifest and _written(each, each.manifest, there)]


def _origin(manifest: Manifest) -> tuple[str, tuple[Path, ...]]:
    return manifest.source, tuple(file.path for file in manifest.weights)


def _written(candidate: Candidate, manifest: Manifest, there: Container[object]) -> bool:
    """there: the origins of what is installed by now, for another process may have been quicker."""
    is_taken = manifest_file(candidate.name).exists() or (_origin(manifest) in there and not candidate.name_given)
    if candidate.state == "new" and is_taken:
        return False
    preset.forget_orphan(candidate.name)
    if candidate.preset:
        with preset.changing(candidate.name) as write:
            write(candidate.preset)
    write_manifest(manifest)  # last: what stops before is imported anew, with its preset
    return True


def _of(program: str) -> Iterator[Find]:
    """What a program has, up to where its files are more wrong than anybody thought of."""
    try:
        yield from PROGRAMS[program]()
    except (OSError, ValueError) as exc:
        yield Refused(program, f"what {program} keeps", f"It cannot be read: {exc}.")


def _at(path: Path) -> Iterator[Find]:
    """What a person names: a file, a folder of files, or Ollama's own folder."""
    try:
        path = _plain(path.expanduser().absolute())
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as exc:  # no rights; ~somebody who does not exist; a zero byte
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc).rstrip(".")
        raise UnknownModel(f"There is no model file at {path}.", why=f"{why}.", do="Check the path.") from exc
    if path.is_dir():
        finds = list(ollama.finds_in(path) if ollama.is_store(path) else models_in(path, A_FILE, of_one_model=False))
        if not finds:
            raise BadInput(f"There is no model in {path}.", do="Name a folder with GGUF files in it, or a file.")
        yield from finds
    elif is_file:
        parts = parts_beside(path)
        yield Found(A_FILE, tuple(parts), projector_beside(parts))
    else:
        raise UnknownModel(f"There is no model file at {path}.", do="Check the path.")


def _plain(path: Path) -> Path:
    """The path without dots, unless what they lead to is elsewhere, behind a link. A link stays one, as the caches have
    them."""
    plain = Path(os.path.normpath(path))
    return plain if plain.resolve() == path.resolve() else path


def _called(name: str, finds: list[Find]) -> list[Find]:
    """The only model found, under the name that a person gives it."""
    if not CATALOGUE.fullmatch(name.strip().lower()):
        raise BadInput(f"{name!r} cannot be the name of a file.", do=f"Take for example {naming.readable(name)}.")
    parsed = parse(name)
    models = [find for find in finds if isinstance(find, Found)]
    if len(models) != 1:
        raise BadInput(f"--name is for one model, and there are {len(models)}.", do="Name one file.")
    return [replace(models[0], name=parsed.text, name_given=True)]


class _Desk:
    """Judges one find after the other, knowing what is installed and what the finds before got."""

    def __init__(self) -> None:
        self.manifests = read_manifests()[0]
        self.own = set(preset.stand_in_names())
        self.given: set[str] = set()
        self.seen: set[tuple[str, tuple[Path, ...]]] = set()

    def judge(self, find: Find) -> Iterator[Candidate]:
        if isinstance(find, Refused):
            yield Candidate("refused", find.program, printable(find.what), why=printable(find.why))
            return
        files = tuple(map(_real, find.parts))
        if (find.source, files) in self.seen or (not find.source and ("", files) in self.seen):
            return  # two programs share the file
        self.seen |= {(find.source, files), ("", files)}
        what = find.source.removeprefix("ollama:") if find.program == ollama.PROGRAM else str(find.parts[0])
        try:
            if any(printable(str(path)) != str(path) for path in (*find.parts, find.projector, find.source)):
                raise BadModelFile("Its path holds control characters or broken text.", do="Rename the file.")
            yield self._named(find, what)
        except (BadModelFile, OSError, ValueError) as exc:
            yield Candidate("refused", find.program, printable(what), why=printable(str(exc)))

    def _named(self, find: Found, what: str) -> Candidate:
        """What a whole model is called. Raises BadModelFile for what the engine cannot load."""
        files = _files(find)
        headers = _checked(find)
        if _files(find) != files:
            raise BadModelFile(f"{what} changed while it was read.", do="Import it once it is complete.")
        weights = sum(file.size_bytes for file in files if file.role != "projector")
        before = self._before(find)
        parameters = sum(header.parameters for header in headers)
        name = before.name if before else self._name(find, weights, parameters)
        candidate = Candidate(
            state="new" if before is None else "here" if _is_same(before, files) else "changed",
            program=find.program,
            what=what,
            name=name,
            size_bytes=sum(file.size_bytes for file in files),
            kind=headers[0].kind,
            why=find.note,
            name_given=find.name_given,
        )
        self.given.add(name)
        if candidate.state == "here":
            return candidate
        manifest = _manifest(find, name, headers[0], files)
        return replace(candidate, manifest=manifest, preset=_preset(find, name) if before is None else None)

    def _before(self, find: Found) -> Manifest | None:
        """What the model is installed as already: from the same files, else from others of the same hash."""
        if find.name_given:
            return next((each for each in self.manifests if each.name == find.name and _has_files(each, find)), None)
        if find.program == ollama.PROGRAM:  # where two names of one blob are two models
            known = (each for each in self.manifests if each.source == find.source or _means(find.name, each, find))
            return next(known, None)
        linked = (each for each in self.manifests if _has_files(each, find))
        same = (each for each in self.manifests if _has_hashes(each, find) and not each.source.startswith("ollama:"))
        return next(linked, None) or next(same, None)  # a model of Ollama may run with other parameters

    def _name(self, find: Found, weights: int, parameters: int) -> str:
        if not find.name_given:
            return naming.name_of(find, weights, parameters, self._is_free)
        naming.need_own(find)
        if self._is_free(find.name):
            return find.name
        raise BadInput(f"{find.name} means another model.", do="Give another name, or remove that one first.")

    def _is_free(self, name: str) -> bool:
        """Whether a name means nothing yet, neither in full nor as the short form of another."""
        given = any(name in (other, parse(other).where) for other in self.given)
        return not given and name not in self.own and manifest_of(parse(name)) is None


def _has_files(manifest: Manifest, find: Found) -> bool:
    return tuple(file.path for file in manifest.weights) == find.parts


def _has_hashes(manifest: Manifest, find: Found) -> bool:
    return tuple(file.likely_sha256 for file in manifest.weights) == find.hashes


def _means(text: str, manifest: Manifest, find: Found) -> bool:
    """Whether a name already means an installed model of the same bytes."""
    name = naming.spelled(text) if _has_hashes(manifest, find) else ""
    return bool(name) and manifest_of(parse(name)) == manifest_file(manifest.name)


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _checked(find: Found) -> Sequence[Header]:
    """The headers of a model that the engine can load. Raises BadModelFile, also where its projector is none."""
    headers = check_split(find.parts)
    header = headers[0]
    if header.kind in ("projector", "other"):
        raise BadModelFile(
            f"{header.source} is no model.", why=f"It says that it is {header.kind}.", do="Give a GGUF file of a model."
        )
    if header.architecture not in LOADABLE:
        raise BadModelFile(
            f"The engine does not know the architecture {header.architecture!r:.80}.", do="Choose another model."
        )
    if find.projector and read_header(find.projector).kind != "projector":
        raise BadModelFile(
            f"{find.projector.name} is no projector.", do="Give the mmproj file that belongs to the model."
        )
    return headers


def _files(find: Found) -> list[Linked]:
    """The files as they are now. Raises BadModelFile."""
    first, *others = find.parts
    roles: list[tuple[Role, Path]] = [("model", first), *(("part", path) for path in others)]
    roles += [("projector", find.projector)] if find.projector else []
    return [_linked(role, path, find) for role, path in roles]


def _linked(role: Role, path: Path, find: Found) -> Linked:
    try:
        there = path.stat()
    except (OSError, ValueError) as exc:
        raise BadModelFile(f"{path} cannot be read.", why=f"{exc}.", do="Check the path.") from exc
    hashes = dict(zip(find.parts, find.hashes, strict=False))
    return Linked(
        role=role,
        path=path,
        size_bytes=there.st_size,
        changed_ns=there.st_mtime_ns,
        sha256="",
        claimed_sha256=hashes.get(path, ""),
    )


def _is_same(before: Manifest, files: Sequence[Linked]) -> bool:
    """Whether an installed model can be used and holds what these files hold now."""
    if any(file.trouble(before.name) for file in before.files):
        return False
    weights = [file for file in files if file.role != "projector"]
    if [file.path for file in before.weights] == [file.path for file in weights]:
        return len(before.files) == len(files)  # unchanged, or it would be in trouble; a projector may have come
    return [file.likely_sha256 for file in before.weights] == [file.likely_sha256 for file in weights]


def _manifest(find: Found, name: str, header: Header, files: Sequence[Linked]) -> Manifest:
    return Manifest(
        name=name,
        source=find.source or str(find.parts[0]),
        revision="",
        licence=header.licence or "",
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=header.kind,
        files=tuple(files),
    )


def _preset(find: Found, name: str) -> preset.Preset | None:
    if not find.sampling and not find.system:
        return None
    return preset.Preset(name=name, of=name, sampling=find.sampling, system=find.system)
