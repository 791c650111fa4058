"""Which gateway is trusted, and by what."""

import hashlib
import re

import pytest

from retire_cluster.agent.address import Address
from retire_cluster.relay.peer import (
    Peer,
    PeerError,
    Untrusted,
    Unvouched,
    choose,
    judge,
    parse_pin,
    tls_context,
)

FAR, NEAR = Address("192.0.2.7"), Address("127.0.0.1")
CERTIFICATE = b"a certificate"
PIN = hashlib.sha256(CERTIFICATE).hexdigest()
OTHER = "0" * 64
TOKEN = f"rcj1_0000000000000000_{'a' * 64}_{PIN}"


def chosen(
    address: Address = FAR,
    pins: tuple[str, ...] = (),
    ca_file: str = "",
    token: str = "",
    plain: bool = False,
) -> Peer:
    return choose(address, pins=pins, ca_file=ca_file, token=token, plain=plain)


def test_a_pin_a_ca_or_a_token_says_whom_to_trust() -> None:
    assert chosen(pins=(PIN, OTHER)) == Peer(FAR, tls=True, pins=frozenset({PIN, OTHER}))
    assert chosen(ca_file="ca.pem") == Peer(FAR, tls=True, ca_file="ca.pem")
    assert chosen(token=TOKEN) == Peer(FAR, tls=True, pins=frozenset({PIN}))


def test_a_flag_beats_the_token() -> None:
    assert chosen(pins=(OTHER,), token=TOKEN).pins == {OTHER}
    assert chosen(ca_file="ca.pem", token=TOKEN) == Peer(FAR, tls=True, ca_file="ca.pem")
    assert chosen(plain=True, token=TOKEN) == Peer(FAR, tls=False)


def test_nothing_crosses_a_network_unencrypted_unless_somebody_said_so() -> None:
    assert chosen().tls
    assert chosen(token="a token of the operator's own").tls
    assert not chosen(plain=True).tls
    assert not chosen(token="rcj1_0000000000000000_aa_plain").tls
    assert not chosen(NEAR).tls
    assert chosen(NEAR, pins=(PIN,)).tls


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"pins": (PIN,), "ca_file": "x"}, "--cluster-pin and --cluster-ca exclude each other"),
        ({"pins": (PIN,), "plain": True}, "--cluster-pin and --insecure-plain exclude each other"),
        ({"ca_file": "x", "plain": True}, "--cluster-ca and --insecure-plain exclude each other"),
        ({"pins": ("abc",)}, "--cluster-pin: must be the 64 hexadecimal digits of a SHA-256, is 'abc'"),
    ],
)
def test_flags_that_say_two_things_are_refused(flags: dict[str, object], words: str) -> None:
    with pytest.raises(PeerError, match=re.escape(words)):
        chosen(**flags)  # type: ignore[arg-type]


def test_a_pin_may_be_written_as_openssl_prints_it() -> None:
    printed = ":".join(PIN[i : i + 2].upper() for i in range(0, 64, 2))
    assert parse_pin(printed) == parse_pin(f"sha256:{PIN}") == parse_pin(f" {PIN} ") == PIN


def test_the_pinned_certificate_is_let_through_and_no_other() -> None:
    peer = chosen(pins=(OTHER, PIN))
    judge(peer, CERTIFICATE)
    for shown in (b"another", b"", None):
        with pytest.raises(Untrusted, match="is not the pinned one: nothing was sent"):
            judge(peer, shown)


def test_a_refusal_names_the_certificate_that_was_found_and_the_flag_that_accepts_it() -> None:
    with pytest.raises(Unvouched, match=f"--cluster-pin {PIN}$"):
        judge(chosen(), CERTIFICATE)
    with pytest.raises(Untrusted, match=f"restart with --cluster-pin {PIN};") as caught:
        judge(chosen(pins=(OTHER,)), CERTIFICATE)
    assert not isinstance(caught.value, Unvouched)


def test_a_plain_peer_has_no_certificate_and_a_chain_was_verified_before() -> None:
    for peer, shown in ((chosen(plain=True), None), (chosen(ca_file="x"), CERTIFICATE)):
        judge(peer, shown)
        assert not peer.pins, "there was nothing to compare with"


def test_a_ca_file_that_is_none_is_named() -> None:
    with pytest.raises(PeerError, match="--cluster-ca /nowhere"):
        tls_context(chosen(ca_file="/nowhere"))
