from __future__ import annotations

import pytest

from pipeline.platform.guard import is_foreign, is_loopback, key_passes


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_an_address_or_the_one_name(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "Platform.Lan:80"],
)
def test_names_of_this_server_are_not_foreign(host: str) -> None:
    assert not is_foreign([host], [], "platform.lan")
    assert not is_foreign([host], [f"http://{host}"], "platform.lan")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "[::1", "", "localhost.evil.example", "192.168.1.5"]
)
def test_any_other_host_is_foreign(host: str) -> None:
    assert is_foreign([host], [], "127.0.0.1")
    assert is_foreign(["localhost", host], [], "127.0.0.1")


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "file://", "", "http://[::1"])
def test_any_other_origin_is_foreign(origin: str) -> None:
    assert is_foreign(["localhost"], [origin], "127.0.0.1")


def test_a_request_without_both_headers_comes_from_no_browser() -> None:
    assert not is_foreign([], [], "127.0.0.1")


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_bound_to_every_address_the_key_alone_guards(bound: str) -> None:
    assert not is_foreign(["any.name"], [], bound)


def test_keys() -> None:
    assert key_passes("secret", "secret")
    assert not key_passes("Secret", "secret")
    assert not key_passes("", "secret")
    assert not key_passes("\udcff", "secret")
    assert key_passes("clé", "clé")
    assert key_passes("anything", None)
    assert not key_passes("", None)
