"""Write src/filbert/models/catalogue.json: the models of catalogue_selection.toml, with what published lists say.

    python tools/write_catalogue.py [DATA_FOLDER]      without it $FILBERT_DATA

The folder holds catalogue/localai_gallery.jsonl (files with hashes, licences), xinference_models.jsonl (families with
context, languages, abilities) and gpt4all_models3.jsonl (files with bytes and md5), each plain or as .gz. Beside this
tool lies catalogue_found.jsonl: files that these lists lack, in the gallery's form, each with where it was found.

The lists are held against one another. What none states is left out, and so is a licence, or a number of parameters, on
which two disagree; a file that no list has, or whose hash or size two lists give differently, ends the run.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filbert.models.catalogue import CAPABILITIES, Entry
from filbert.models.parts import part_names

SELECTION = Path(__file__).with_name("catalogue_selection.toml")
FOUND = Path(__file__).with_name("catalogue_found.jsonl")
CATALOGUE = Path(__file__).parent.parent / "src/filbert/models/catalogue.json"
HUB = re.compile(r"(?:huggingface://|https://huggingface\.co/)([^/]+/[^/]+)/(?:resolve/main/)?(.+)")
NAMED_SIZE = re.compile(r"[:-](\d+(?:\.\d+)?)([bm])(?=-)")
UNITS = {"b": 10**9, "m": 10**6, "billion": 10**9, "million": 10**6}
TOOL_TAGS = {"tools", "tool", "tool-use", "tool-calling", "function-calling"}
THINKING_TAGS = {"thinking", "thinking-model"}
LOOSE_TAGS = {"reasoning"}  # set on models that solve puzzles, too
NO_LICENCE = (None, "", "other")

Record = Mapping[str, Any]


@dataclass
class Published:
    """What the lists say of one file. `address` is owner/repository/path on the hub, or a web address."""

    address: str
    hashes: set[str] = field(default_factory=set)
    md5s: set[str] = field(default_factory=set)
    sizes: set[int] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    parameters: int | None = None


@dataclass(frozen=True)
class Lists:
    """`files` by their address; `gpt4all` by the name people have on disk; `families` by their name."""

    files: Mapping[str, Published]
    gpt4all: Mapping[str, Published]
    families: Mapping[str, Record]

    def file(self, address: str) -> Published:
        known = self.files.get(address) or self.gpt4all.get(address)
        if known is None:
            raise SystemExit(f"No list has {address}.")
        for what, values in (("hashes", known.hashes), ("hashes", known.md5s), ("sizes", known.sizes)):
            if len(values) > 1:
                raise SystemExit(f"The lists give {address} different {what}: {', '.join(sorted(map(str, values)))}.")
        return known


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FILBERT_DATA")
    if not folder:
        raise SystemExit(__doc__)
    CATALOGUE.write_text(catalogue_of(Path(folder)), "utf-8")


def catalogue_of(folder: Path) -> str:
    """The text of catalogue.json, an entry a line."""
    lists, selection = read_lists(folder / "catalogue"), tomllib.loads(SELECTION.read_text("utf-8"))
    makers = selection.pop("makers")
    entries = [
        entry_of(name, chosen, kind, lists, makers)
        for kind, group in selection.items()
        for name, chosen in group.items()
    ]
    lines = (
        json.dumps(entry.model_dump(mode="json", exclude_defaults=True), separators=(",", ":")) for entry in entries
    )
    return '{"models":[\n' + ",\n".join(lines) + "\n]}\n"


# --- the lists ------------------------------------------------------------------------------------------------------


def read_lists(folder: Path) -> Lists:
    families = {record["name"]: record for record in rows(folder / "xinference_models.jsonl")}
    files: dict[str, Published] = {}
    for record in (*rows(folder / "localai_gallery.jsonl"), *rows(FOUND)):
        add_gallery(files, record)
    for record in families.values():
        for address in addresses_of(record):
            files.setdefault(address, Published(address))
    gpt4all = {record["filename"]: add_gpt4all(files, record) for record in rows(folder / "gpt4all_models3.jsonl")}
    return Lists(files, gpt4all, families)


def rows(path: Path) -> Iterator[Record]:
    packed = path.with_suffix(".jsonl.gz")
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def hub_address(url: str) -> str:
    """owner/repository/path for a file of the hub, however it is written; another address as it is."""
    match = HUB.fullmatch(url)
    return f"{match[1]}/{match[2]}" if match else url


def add_gallery(files: dict[str, Published], record: Record) -> None:
    for listed in record["files"]:
        address = hub_address(listed["uri"] or "")
        known = files.setdefault(address, Published(address))
        known.hashes |= {listed["sha256"].lower()} if listed.get("sha256") else set()
        known.sizes |= {listed["size_bytes"]} if listed.get("size_bytes") else set()
        known.licences |= {record["license"]} if record["license"] not in NO_LICENCE else set()
        known.tags |= set(record["tags"] or ())


def addresses_of(family: Record) -> Iterator[str]:
    for spec in family["specs"]:
        hub = spec["hub"].get("huggingface", {})
        if spec["format"] == "ggufv2" and hub.get("model_file_name_template"):
            for quantisation in hub["quantizations"]:
                yield f"{hub['model_id']}/{hub['model_file_name_template'].format(quantization=quantisation)}"


def add_gpt4all(files: dict[str, Published], record: Record) -> Published:
    address = hub_address(record["url"])
    known = files.setdefault(address, Published(address))
    known.hashes |= {record["sha256sum"].lower()} if record.get("sha256sum") else set()
    known.md5s |= {record["md5sum"].lower()} if record.get("md5sum") else set()
    known.sizes |= {int(record["filesize"])}
    count, _, unit = record["parameters"].partition(" ")
    known.parameters = int(float(count) * UNITS[unit])
    return known


# --- an entry -------------------------------------------------------------------------------------------------------


def entry_of(name: str, chosen: Record, kind: str, lists: Lists, makers: Mapping[str, str]) -> Entry:
    maker = maker_of(name, makers)
    by_hand = {key: chosen[key] for key in ("licence", "context", "sampling") if key in chosen}
    if source := chosen.get("source"):
        file = {"role": "model", "name": chosen["file"], "sha256": chosen["sha256"], "size_bytes": chosen["size_bytes"]}
        return Entry.model_validate(
            {"name": name, "source": source, "maker": maker, "capabilities": (kind,), "files": (file,), **by_hand}
        )
    model = lists.file(chosen["file"])
    family = lists.families[chosen["family"]] if "family" in chosen else {}
    projector = f"{model.address.rpartition('/')[0]}/{chosen['projector']}" if "projector" in chosen else None
    facts = {
        "maker": maker,
        "licence": next(iter(model.licences)) if len(model.licences) == 1 else None,
        "context": family.get("context"),
        "languages": tuple(family.get("languages") or ()),
        "parameters": parameters_of(name, model, family),
        "capabilities": capabilities_of(kind, model, family, projector, is_thinker(name, chosen)),
        "files": tuple(files_of(model, projector, lists)),
    }
    kept = {key: value for key, value in facts.items() if key not in chosen.get("unsure", ())}
    origin = {"name": name, "source": source_of(model.address), "projector": projector and source_of(projector)}
    return Entry.model_validate(origin | kept | by_hand)


def maker_of(name: str, makers: Mapping[str, str]) -> str | None:
    """By the longest beginning of the name that the selection knows."""
    return makers.get(max((lead for lead in makers if name.startswith(lead)), key=len, default=""))


def source_of(address: str) -> str:
    return address if address.startswith("https://") else f"hf:{address}"


def files_of(model: Published, projector: str | None, lists: Lists) -> Iterator[Record]:
    folder, _, last = model.address.rpartition("/")
    for index, part in enumerate(part_names(last)):
        yield listed("part" if index else "model", lists.file(f"{folder}/{part}"))
    if projector:
        yield listed("projector", lists.file(projector))


def listed(role: str, file: Published) -> Record:
    sha256, md5, size = (next(iter(values), None) for values in (file.hashes, file.md5s, file.sizes))
    hashes = {"sha256": sha256} if sha256 else {"md5": md5}
    return {"role": role, "name": file.address.rpartition("/")[2], **hashes, "size_bytes": size}


def parameters_of(name: str, model: Published, family: Record) -> int | None:
    """The round figure that a list states and the name confirms."""
    match = NAMED_SIZE.search(name)
    named = round(float(match[1]) * UNITS[match[2]]) if match else None
    sizes = [str(spec["size_b"]).replace("_", ".") for spec in family.get("specs", ()) if spec["size_b"] is not None]
    stated = {round(float(size) * 10**9) for size in sizes} | {model.parameters}
    return named if named in stated else None


def is_thinker(name: str, chosen: Record) -> bool:
    """Whether a loose tag may be believed: the name says it too, or the selection does."""
    return "think" in name or bool(chosen.get("thinks"))


def capabilities_of(kind: str, model: Published, family: Record, projector: str | None, thinker: bool) -> Sequence[str]:
    """In one order. Sight needs a projector that we have; of the rest what the family's list says, else the tags."""
    abilities = set(family.get("abilities") or ())
    if not family:
        abilities |= {"tools"} if model.tags & TOOL_TAGS else set()
        abilities |= {"reasoning"} if model.tags & (THINKING_TAGS | (LOOSE_TAGS if thinker else set())) else set()
    can = {kind} - {"complete"}
    can |= {"tools"} & abilities if kind == "chat" else set()
    can |= {"thinking"} if "reasoning" in abilities and kind == "chat" else set()
    can |= {"vision"} if projector else set()
    return tuple(capability for capability in CAPABILITIES if capability in can)


if __name__ == "__main__":
    main()
