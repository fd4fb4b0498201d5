"""Which addresses a plan may name, and how."""

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.domain.addresses import is_metadata_address

_METADATA_NAMES = frozenset(
    {"metadata.google.internal", "metadata.goog", "metadata", "instance-data", "metadata.azure.com"}
)


class BadAddress(ValueError):
    """An address that a plan may not name; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A checked http(s) address.

    Attributes:
        host: Lower case, without brackets or trailing dot.
    """

    url: str
    host: str
    port: int
    is_plain_http: bool

    @property
    def is_loopback(self) -> bool:
        """Whether it stays on this machine."""
        return is_loopback(self.host)

    def is_named_in(self, allowed: Collection[str]) -> bool:
        """Whether the list names the host, or the host with this port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        names = {entry.lower().rstrip(".") for entry in allowed}
        return not names.isdisjoint({self.host, host, f"{host}:{self.port}"})


def parse_address(url: str) -> Address:
    """Check an http(s) address.

    Raises:
        BadAddress: If it is malformed, carries a user name or password, or is the address of a
            cloud's metadata service.
    """
    parts, port = _split(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if not host:
        raise BadAddress("has no host name")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("must not carry a user name or password")
    if parts.fragment or any(character.isspace() for character in url):
        raise BadAddress("must not hold spaces or a fragment")
    if is_metadata(host):
        raise BadAddress("is the address of a cloud's metadata service, where no prompt may go")
    is_plain = parts.scheme == "http"
    return Address(
        url=url, host=host, port=port or (80 if is_plain else 443), is_plain_http=is_plain
    )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def is_metadata(host: str) -> bool:
    """Whether the host is a cloud's metadata service, in any spelling."""
    address = _ip(host)
    if address is None:
        return host in _METADATA_NAMES
    return is_metadata_address(address)


def split_bind(bind: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        ValueError: If it is neither.
    """
    host, separator, port = bind.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not bare or not port.isascii() or not port.isdigit():
        raise ValueError("must be host:port, e.g. 127.0.0.1:8080")
    if (":" in bare) is not is_bracketed or int(port) > 65_535:
        raise ValueError("must be host:port, e.g. 127.0.0.1:8080 or [::1]:8080")
    return bare, int(port)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadAddress("is not a URL") from error
    if parts.scheme not in {"http", "https"}:
        raise BadAddress("must start with https:// (or http:// on this machine)")
    return parts, port


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a host spells, also in the old numeric forms that resolvers still take."""
    try:
        address = ipaddress.ip_address(host.split("%", maxsplit=1)[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeEncodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address
