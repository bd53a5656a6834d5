"""Where another server is, and how it is asked."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from filbert.core.addresses import is_loopback
from filbert.core.errors import BadSetting
from filbert.core.files import read_text_file
from filbert.core.other_servers import KEY, is_private, server_address


class UpstreamOptions(BaseModel):
    """Of one server. The key itself is in no setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(server_address)]
    key_variable: str = ""
    key_file: str = ""
    plain: bool = False
    parallel: int = Field(32, ge=1, le=4096)
    check_s: float = Field(15, ge=1, le=3600)
    stall_s: float = Field(120, gt=0)

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        """Unencrypted, prompts and the key could be read on the way: only where there is hardly any."""
        if not self.plain and not is_private(self.url):
            raise ValueError("http goes to addresses in figures of this machine or network: use https, or set plain")
        return self

    @property
    def place(self) -> str:
        """Host and port, for a sentence."""
        return urlsplit(self.url).netloc

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    def key(self, name: str) -> str:
        """What opens the server, "" where nothing is needed. name: the server's, for the sentence. Raises
        BadSetting."""
        if not (self.key_variable or self.key_file):
            return ""
        text = self._in_variable(name) if self.key_variable else self._in_file(name)
        if not KEY.fullmatch(text):
            raise BadSetting(f"The key of {name} is none.", do="Write it as one word, without quotes.")
        return text

    def _in_variable(self, name: str) -> str:
        """Taken out of the environment, which our workers inherit."""
        found = os.environ.pop(self.key_variable, "").strip()
        if not found:
            raise BadSetting(f"There is no key for {name}: {self.key_variable} is not set.", do="Set that variable.")
        return found

    def _in_file(self, name: str) -> str:
        path = Path(self.key_file).expanduser()
        text = read_text_file(path, f"The key file of {name}").strip()
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadSetting(f"Others may read {path}.", do=f"`chmod 600 {path}` keeps it to you.")
        return text


def as_table(given: Any) -> Any:
    """Of `--upstream NAME=URL`, as of a table of the settings."""
    if not isinstance(given, list | tuple):
        return given
    pairs = [str(each).partition("=") for each in given]
    if any(not (name and sign and url) for name, sign, url in pairs):
        raise ValueError("it is written NAME=URL")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError("two have the same name")
    return {name: {"url": url} for name, _, url in pairs}


UpstreamName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
