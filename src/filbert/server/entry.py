"""Who may come in, decided once from how the server listens (docs/decisions/008-server.md)."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass

from starlette.datastructures import Headers

from filbert.core.addresses import is_address, is_loopback
from filbert.core.errors import BadInput, Forbidden
from filbert.server.keys import Keys, Scope
from filbert.server.serve_options import ServeOptions

THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "[::1]"})
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(?::\d+)?", re.ASCII | re.IGNORECASE)
WITH_A_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Entry:
    """hosts: names that the server answers to; any_address: whether it answers to every address in figures, too;
    origins: sites whose pages may use it; without_key: what those may do who bring no key, None for nothing."""

    hosts: frozenset[str]
    any_address: bool
    origins: frozenset[str]
    without_key: Scope | None

    def check_host(self, headers: Headers) -> None:
        """A page that rebinds its name to an address of ours still sends that name (Ollama, CVE-2024-28224); a name in
        figures cannot be rebound. Raises Forbidden."""
        host = headers.get("host", "")
        match = HOST.fullmatch(host)
        name = match[1].lower() if match else ""
        if not (name in self.hosts or (self.any_address and is_address(name.strip("[]")))):
            do = "Use 127.0.0.1 or localhost; `filbert serve --allow-host` adds names."
            raise Forbidden(f"This server does not answer to the name {host[:100]!r}.", do=do)

    def check_origin(self, headers: Headers, scheme: str, method: str) -> None:
        """A page that asks is told of by its browser. It must be of this server or known, and write JSON, which a
        browser sends to another site only after it asked whether it may. Raises Forbidden."""
        if "origin" not in headers and "sec-fetch-site" not in headers:
            return
        own = f"{scheme}://{headers.get('host', '')}".lower()
        origin = headers.get("origin", own).lower()
        is_own = origin == own and headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if not is_own and origin not in self.origins:
            raise Forbidden("Web pages of other sites may not use this server.", do="Ask it from a local program.")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method in WITH_A_BODY and kind != "application/json":
            raise Forbidden("Web pages have to write JSON.", do="Send Content-Type: application/json.")


def entry_of(options: ServeOptions) -> Entry:
    """Raises BadInput for options that contradict each other."""
    if options.no_auth and options.require_key:
        raise BadInput("--no-auth and --require-key contradict each other.", do="Leave one of them out.")
    wide = not is_loopback(options.host)
    hosts = {*THIS_MACHINE, *(name.lower() for name in (options.host, *options.allow_host))}
    if options.require_key or (wide and not options.no_auth):
        without_key: Scope | None = None
    else:
        without_key = "infer" if wide else "admin"
    return Entry(frozenset(hosts), wide, frozenset(options.allow_origin), without_key)


def check_start(options: ServeOptions, keys: Keys) -> None:
    """Raises BadInput where the server would listen beyond this machine, or ask for keys, and there is none."""
    if entry_of(options).without_key is None and not keys.in_use():
        what = "A server that asks for keys needs one."
        if not is_loopback(options.host):
            what = f"{options.host} can be reached from other machines: that needs a key."
        raise BadInput(what, do="`filbert keys add NAME` makes one; --no-auth lets everybody in.")
    _check_certificate(options)


def _check_certificate(options: ServeOptions) -> None:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise BadInput("HTTPS needs a certificate and its key.", do="Give --tls-cert and --tls-key.")
    if not options.tls_cert:
        return
    try:
        # Without a password here, OpenSSL would ask the terminal for it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, password="")
    except (OSError, ValueError) as exc:
        what = f"{options.tls_cert} and {options.tls_key} cannot be used for HTTPS."
        raise BadInput(what, why=f"{exc}.", do="Give a certificate and its key as PEM, without a password.") from exc
