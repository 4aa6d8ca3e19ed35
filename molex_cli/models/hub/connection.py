"""Where the hub is, whether it may be asked, and how long it may take; no torch."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from molex_cli.errors import ConfigError
from molex_cli.runtime.addresses import address

T = TypeVar("T")
LONGEST_WAIT_SECONDS = 60  # that the hub may ask a client to wait for before it is asked again
LONGEST_INTAKE_SECONDS = 300  # that the hub may take, without a word, to take in what was sent
_unreachable: list[str] = []
"""Why the hub gave no answer, once it did not."""


def endpoint() -> str:
    """Return the address of the hub."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def host() -> str:
    """Return the address of the hub as messages may show it."""
    return address(endpoint())


def endpoint_problem() -> str | None:
    """Return what is wrong with HF_ENDPOINT, without quoting what may be secret in it; None if nothing is."""
    try:
        parts = urlsplit(endpoint())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half of an IPv6 address
        is_address = False
    if is_address and not any(each.isspace() for each in endpoint()):
        return None
    return (
        f"HF_ENDPOINT must be the address of a hub such as https://huggingface.co, got {_quoted(endpoint())}; "
        "mend it, or unset it for the public hub"
    )


def require_endpoint() -> None:
    """Raise ConfigError for an HF_ENDPOINT that is no address: the hub's clients cannot even be imported then."""
    if problem := endpoint_problem():
        raise ConfigError(problem)


def _quoted(text: str) -> str:
    """Return an address that may be misspelt without user, password and query."""
    scheme, separator, rest = text.rpartition("://")
    shown = f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
    # What stands where a port belongs and is none may be a password.
    head, colon, port = shown.rpartition(":")
    return repr(shown if not colon or port.startswith("/") or port.strip("/").isdigit() else f"{head}:***")


def is_set_offline() -> bool:
    """Return whether HF_HUB_OFFLINE keeps the hub's clients from asking."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in names)


def why_offline() -> str:
    """Return why the hub is not asked; empty where it is."""
    if is_set_offline():
        return "HF_HUB_OFFLINE set"
    return f"no connection to the hub at {host()} ({_unreachable[0]})" if _unreachable else ""


def stay_offline(reason: str) -> None:
    """Let the hub's clients in this process use their caches without asking from now on."""
    _unreachable[:] = [reason]
    # They read HF_HUB_OFFLINE when they are imported; datasets takes over what the hub's own client has.
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            vars(sys.modules[module])["HF_HUB_OFFLINE"] = True


def has_token() -> bool:
    """Return whether the hub's clients send a token."""
    from huggingface_hub import get_token

    return get_token() is not None


def prepare_clients() -> None:
    """Let no request wait for ever, and leave it to us to say what goes wrong."""
    import huggingface_hub
    from huggingface_hub.utils import logging

    if not _prepared:
        huggingface_hub.set_client_factory(_limited_client)
        logging.set_verbosity_error()
        _prepared.append(True)


_prepared: list[bool] = []


def limit_seconds() -> float:
    """Return how long the hub may stay silent: HF_HUB_ETAG_TIMEOUT or HF_HUB_DOWNLOAD_TIMEOUT, 10 s unless set."""
    from huggingface_hub import constants

    return float(max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT))


def _limited_client() -> Any:
    """Return the client's own session in which each request has a limit: many of its calls have none."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _limit],
        "response": [*hooks["response"], _refuse_long_waits],
    }
    return client


def _limit(request: Any) -> None:
    """Limit the silence before each piece that is sent or comes, however long the whole takes."""
    is_read = request.method in ("GET", "HEAD")
    silence = limit_seconds() if is_read else max(limit_seconds(), LONGEST_INTAKE_SECONDS)
    limits = {"connect": limit_seconds(), "read": silence, "write": silence, "pool": silence}
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {name: min(most, given.get(name) or most) for name, most in limits.items()}


def _refuse_long_waits(response: Any) -> None:
    """Raise where the client would else sleep for longer than anyone waits, without a word."""
    if response.status_code == 429 and retry_after(response) > LONGEST_WAIT_SECONDS:
        from huggingface_hub.utils._http import hf_raise_for_status

        hf_raise_for_status(response)


def retry_after(response: Any) -> int:
    """Return the seconds after which the hub wants to be asked again; 0 where it says none."""
    given = response.headers.get("Retry-After", "")
    return int(given) if given.isdigit() else 0


def in_time(action: Callable[[], T], seconds: float) -> T:
    """Return what an action gives; raise TimeoutError after so many seconds: a name server has no limit of its own."""
    found: list[T] = []
    failed: list[BaseException] = []

    def act() -> None:
        try:
            found.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError
    return found[0]
