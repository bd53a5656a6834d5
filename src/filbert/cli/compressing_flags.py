"""What the commands which make files of a model have in common: flags, the texts they read, the file they write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.compress.imatrix import Text
    from filbert.core.pairs import Pair
    from filbert.models.store import StoredModel

FULL_MODEL = Annotated[
    str, typer.Argument(metavar="MODEL", help="A full model (F32, F16, BF16).", autocompletion=installed_names)
]
LONGEST_NAME = 200  # bytes, that others are made of
UNSAFE = re.compile(r"[^A-Za-z0-9._+=@ -]")  # what `safe_name` refuses
FORCE = Annotated[bool, typer.Option("--force", help="Write over a file.")]


@dataclass(frozen=True)
class Calibration:
    """What a model is compressed for: files that were named, else the texts that ship. chats: by the file's name."""

    texts: Sequence[Text]
    chats: Sequence[tuple[str, Sequence[Pair]]]

    @property
    def is_named(self) -> bool:
        return bool(self.texts or self.chats)

    def of(self, stored: StoredModel, load: LoadOptions) -> list[Text]:
        """Chats as the model's own template writes them."""
        from filbert.compress.imatrix import conversations
        from filbert.compress.texts import default_texts
        from filbert.engine.model import Model

        if self.texts and not self.chats:
            return list(self.texts)
        with Model(stored, load) as model:
            chats = [conversations(model, pairs, name) for name, pairs in self.chats]
            return [*self.texts, *chats] or default_texts(model)


def read_calibration(texts: Sequence[Path], pairs: Sequence[Path]) -> Calibration:
    """Raises BadInput for files that cannot be read, or hold no pairs."""
    from filbert.compress.imatrix import Text
    from filbert.core.pairs import read_pairs

    return Calibration(
        [Text(path.name, read_text_file(path, str(path))) for path in texts],
        [(path.name, read_pairs(read_text_file(path, str(path)), str(path))) for path in pairs],
    )


def file_of(name: str, ending: str) -> Path:
    """What a file of the model is called where nobody says."""
    return Path(f"{UNSAFE.sub('-', Path(name).stem)}{ending}")


def need_free(target: Path, *, force: bool, sources: Iterable[Path] = ()) -> None:
    """sources: what is read. Raises BadInput for a file that is there and may not be written over, and for a name that
    no file can have."""
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise BadInput(f"{target.name[:40]}… is too long for the name of a file.", do="Choose another with --out.")
    if not target.exists():
        return
    if any(source.exists() and target.samefile(source) for source in sources):
        raise BadInput(f"{target} is what it would be made of.", do="Choose another with --out.")
    if not target.is_file():
        raise BadInput(f"{target} is there already, and no plain file.", do="Choose another with --out.")
    if not force:
        raise BadInput(f"{target} is there already.", do="Choose another with --out, or add --force.")
