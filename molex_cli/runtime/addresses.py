"""Addresses of servers as messages may show them."""

from urllib.parse import urlsplit


def address(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # one that is no number raises
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if host else "an address without a host"
