"""Network addresses to which no prompt may go."""

from ipaddress import IPv4Address, IPv6Address, ip_network

_METADATA = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local: AWS, Azure, Google, Oracle and most others
        "168.63.129.16/32",  # Azure's host
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle classic
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # Google over IPv6
    )
)
_TRANSLATED = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))


def is_metadata_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether a cloud's metadata service answers there, also behind IPv6 forms of its address.

    >>> from ipaddress import ip_address
    >>> is_metadata_address(ip_address("64:ff9b::a9fe:a9fe")), is_metadata_address(IPv4Address(1))
    (True, False)
    """
    forms = [address, *_inner(address)]
    return any(one in net for one in forms for net in _METADATA if one.version == net.version)


def _inner(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 address carries inside (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _TRANSLATED):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]
