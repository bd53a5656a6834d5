"""`https://…/x.gguf`: a file on any web server, with its other parts when its name says that there are some."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from filbert.core.files import safe_name
from filbert.core.jobs import Job
from filbert.models.download import download
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name
from filbert.models.parts import part_names
from filbert.models.remote import RemoteFile
from filbert.models.sources import Listing


class Web:
    """Knows no hash before the first download: the server's word is taken where it gives one, else the bytes' own."""

    def locate(self, name: Name, options: DownloadOptions) -> Listing:
        folder, _, last = urlsplit(name.where).path.rpartition("/")
        files = []
        for index, part in enumerate(part_names(unquote(last))):
            path = f"{folder}/{last}" if index == 0 and part == unquote(last) else f"{folder}/{part}"
            url = urlsplit(name.where)._replace(path=path).geturl()
            files.append(RemoteFile("part" if index else "model", safe_name(part), url))
        return Listing(tuple(files))

    def fetch(self, remote: RemoteFile, target: Path, options: DownloadOptions) -> Job[RemoteFile]:
        return (yield from download(remote, target, options))
