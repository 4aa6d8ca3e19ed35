"""The Hugging Face hub: find out quickly whether it can be reached, and stay offline when not."""

import os
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPException

PROBE_SECONDS = 5.0


def go_offline_if_unreachable() -> bool:
    """Return whether the hub answers; if not, let its clients use their caches without retrying."""
    if is_set_offline():
        return False
    reachable: list[bool] = []
    # A name server that hangs has no time limit of its own, hence the thread.
    probe = threading.Thread(target=lambda: reachable.append(_is_reachable()), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS + 1)
    if reachable and reachable[0]:
        return True
    _stay_offline()
    return False


def is_set_offline() -> bool:
    """Return whether HF_HUB_OFFLINE keeps the hub's clients from asking."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def endpoint() -> str:
    """Return the address of the hub."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _is_reachable() -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint(), method="HEAD"), timeout=PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, HTTPException):  # the last one: a user and password in the address
        return False


def _stay_offline() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # The clients read the variable when they are imported; those already imported must be set.
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            vars(sys.modules[module])["HF_HUB_OFFLINE"] = True
