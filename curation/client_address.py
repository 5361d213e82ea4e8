"""The address of the caller, for limits by address. Behind proxies only what they wrote counts."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

IPV6_NETWORK_BITS = 64  # what one customer is given: single addresses are free to change


def client_address(request: HttpRequest) -> str:
    """The caller's IPv4 address or IPv6 network; empty on a unix socket.

    `TRUSTED_PROXIES` is the number of proxies in front, each of which appends one entry to
    `X-Forwarded-For`; entries before those were written by the caller and are not believed.
    """
    address = request.META.get("REMOTE_ADDR", "")
    proxies = settings.TRUSTED_PROXIES
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    if 0 < proxies <= len(forwarded) and forwarded[-proxies]:
        address = forwarded[-proxies]
    return _network(address)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_NETWORK_BITS), strict=False))
    return str(parsed)
