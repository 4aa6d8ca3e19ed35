"""An address is shown without what nobody else must see."""

import pytest

from molex_cli.runtime.addresses import address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://huggingface.co", "https://huggingface.co"),
        ("https://user:pass@hub.example:8443/api?token=x", "https://hub.example:8443/api"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("nothing", "an address without a host"),
        ("http://[::1", "an address that cannot be read"),
        ("http://host:port", "an address that cannot be read"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url, shown):
    assert address(url) == shown
