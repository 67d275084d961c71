"""Addresses of clusters."""

from __future__ import annotations

import pytest

from vidvec.errors import UsageError
from vidvec.search.cluster.address import Address, is_address, parse


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("http://localhost:19530/videos", "http://localhost:19530", "videos"),
        ("http://localhost", "http://localhost:19530", "vidvec"),
        ("https://example.org:443/a_1/", "https://example.org:443", "a_1"),
        ("http://[::1]:7/x", "http://[::1]:7", "x"),
    ],
)
def test_addresses_are_read(text, url, name):
    assert parse(text) == Address(url, name)
    assert is_address(text)
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("localhost:19530", "no address of a cluster"),
        ("/some/folder", "no address of a cluster"),
        ("http://", "no address of a cluster"),
        ("http://host:nine/x", "no address"),
        ("http://host:99999/x", "no address"),
        ("http://user:secret@host/x", "VIDVEC_CLUSTER_TOKEN"),
        ("http://host/a-b", "cannot be a name"),
        ("http://host/1st", "cannot be a name"),
        ("http://host/a/b", "cannot be a name"),
        ("http://host/a?x=1", "cannot be a name"),
    ],
)
def test_others_are_refused_with_a_reason(text, words):
    with pytest.raises(UsageError, match=words) as raised:
        parse(text)
    assert "secret" not in str(raised.value)
