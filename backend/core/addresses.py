"""Addresses to fetch from: one strict spelling, and which IP addresses are on the public internet.

Nothing here resolves names. `worker.fetch.guard` checks every IP address that is connected to.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote, urljoin

from backend.core.errors import AddressRefused, InvalidAddress

# https://www.iana.org/assignments/iana-ipv4-special-registry, and -ipv6-. Python's is_global differs between
# versions and is true for multicast.
_SPECIAL_V4 = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # Azure's metadata; those of other clouds are in the networks above
        ),
    )
)
_UNICAST_V6 = ip_network("2000::/3")
_SPECIAL_V6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
"""Within 2000::/3: Teredo and other protocols, examples, 6to4."""
_NAT64 = ip_network("64:ff9b::/96")
"""How networks without IPv4 reach it (RFC 6052)."""

MAX_ADDRESS_LENGTH = 8192
"""In characters, as written by `parse_address`."""
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_FIRST_FREE_PORT = 1024
_BLOCKED_PORTS = frozenset(
    (1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080)
)
"""What browsers refuse as well (https://fetch.spec.whatwg.org/#port-blocking), from 1024."""
_FORM = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?].*)?",
    re.IGNORECASE,
)
_MAGNET = re.compile(r"magnet:\?(?=.*\bxt=urn:(btih:(\w{32}|\w{40})|btmh:\w+)\b)[!-~]+", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_PIECES = re.compile(r"((?:[^/?]*://)?)([^/?]*)(.*)")
_KEPT_IN_PATHS = "%/:?[]@!$&'()*+,;=~"


IpAddress = IPv4Address | IPv6Address


def is_public(address: IpAddress) -> bool:
    """Return whether it is the address of one host on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)


def parse_address(text: str, *, allow_private: bool = False) -> str:
    """Return a URL (http, https, ftp) or magnet link in the spelling that all programs understand alike.

    Names and ports are in ASCII, IP addresses in their usual form; there is no fragment.

    Raises:
        InvalidAddress: it has another form or scheme, is too long, or has a user name, which would be stored
            with the job.
        AddressRefused: without `allow_private`, a port or an IP address that is not the internet's. Names
            are not resolved.
    """
    text = text.strip()
    if _MAGNET.fullmatch(text):
        return text
    form = _FORM.fullmatch(_in_ascii(text.partition("#")[0]))
    if form is None or form["scheme"].lower() not in _PORTS:
        raise InvalidAddress
    scheme, host = form["scheme"].lower(), _host(form["host"].lower(), allow_private=allow_private)
    port = int(form["port"] or _PORTS[scheme])
    if not 0 < port < 1 << 16:
        raise InvalidAddress
    odd = port in _BLOCKED_PORTS or (port < _FIRST_FREE_PORT and port not in _PORTS.values())
    if odd and not allow_private:
        raise AddressRefused("Nothing is fetched from this port.")
    shown = "" if port == _PORTS[scheme] else f":{port}"
    rest = form["rest"] or "/"
    address = f"{scheme}://{host}{shown}{rest if rest.startswith('/') else '/' + rest}"
    if len(address) > MAX_ADDRESS_LENGTH:
        raise InvalidAddress("This address is too long.")
    return address


def follow(address: str, location: str, *, allow_private: bool) -> str:
    """Return where a redirect from this address leads. Raises: as `parse_address`."""
    try:
        return parse_address(urljoin(address, location), allow_private=allow_private)
    except ValueError:  # urljoin: a bracket without its other half
        raise InvalidAddress from None


def _in_ascii(text: str) -> str:
    """Write the authority as IDNA has it and what follows percent-encoded."""
    if not text.isprintable():
        raise InvalidAddress
    scheme, authority, rest = _PIECES.findall(text)[0]
    try:
        authority = authority if authority.isascii() else authority.encode("idna").decode()
    except UnicodeError:
        raise InvalidAddress from None
    return f"{scheme}{authority}{quote(rest, safe=_KEPT_IN_PATHS)}"


def _host(host: str, *, allow_private: bool) -> str:
    """Return the host in its usual form. Other ways to write an IPv4 address are refused."""
    host = host.removesuffix(".")
    literal = host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2])
    if not literal:
        if len(host) > 253 or not all(0 < len(label) <= 63 for label in host.split(".")):
            raise InvalidAddress
        return host
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        raise InvalidAddress from None
    if not allow_private and not is_public(address):
        raise AddressRefused
    return str(address) if address.version == 4 else f"[{address}]"
