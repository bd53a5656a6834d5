"""Addresses of the network: which mean this machine, and which are anybody's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface

Network = IPv4Network | IPv6Network

# Of IPv4 all but these, of IPv6 only what is given out to the public, without these. A list of our own, for what
# `ipaddress` calls global differs between versions of Python.
OF_IPV4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a provider's NAT; some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure, to its own machines
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
GIVEN_OUT = IPv6Network("2000::/3")
OF_IPV6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # Teredo and others that hold IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4, which holds IPv4
        "3fff::/20",
    )
)
NAT64 = IPv6Network("64:ff9b::/96")  # IPv4, as networks without it reach it


def is_address(host: str) -> bool:
    """Whether a host is an address in figures, and no name that may lead anywhere."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address in figures, is this machine."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(figures: str) -> bool:
    """Whether an address in figures is one of the public internet: no private, shared, local or reserved one, and no
    other that leads to such."""
    try:
        address = _reached(figures)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in block for block in OF_IPV4)
    return address.scope_id is None and address in GIVEN_OUT and not any(address in block for block in OF_IPV6)


def is_elsewhere(figures: str) -> bool:
    """Whether an address is a public one, and of no network that this machine stands in: with IPv6 those have public
    addresses, and are behind its router all the same."""
    return is_public(figures) and not any(_reached(figures) in network for network in own_networks())


def own_networks() -> list[Network]:
    """The networks that this machine stands in."""
    import psutil

    given = (one for card in psutil.net_if_addrs().values() for one in card)
    return [network for one in given if (network := _network(one.address, one.netmask)) is not None]


def _reached(figures: str) -> IPv4Address | IPv6Address:
    """Raises ValueError for what is no address in figures."""
    address = ip_address(figures)
    return IPv4Address(address.packed[-4:]) if address in NAT64 else address


def _network(address: str, netmask: str | None) -> Network | None:
    """None for what is no address of IP, as a card's own."""
    try:
        bits = f"/{int(ip_address(netmask)).bit_count()}" if netmask else ""
        return ip_interface(address.partition("%")[0] + bits).network
    except ValueError:
        return None
