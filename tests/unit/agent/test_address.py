import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.agent.address import Address, Link, Trust, choose_link, parse_address
from retire_cluster.agent.errors import ConfigError

PIN = "ab" * 32
HOME = Address("192.168.1.2")
NOTHING_KNOWN = Trust()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nuc.lan", Address("nuc.lan", 8080)),
        ("nuc.lan:", Address("nuc.lan", 8080)),
        ("nuc.lan:9000", Address("nuc.lan", 9000)),
        (" 10.0.0.1:1 ", Address("10.0.0.1", 1)),
        ("[fe80::1]:9000", Address("fe80::1", 9000)),
        ("[::1]", Address("::1", 8080)),
        ("::1", Address("::1", 8080)),
        ("fe80::1%eth0", Address("fe80::1%eth0", 8080)),
    ],
)
def test_addresses_that_are_understood(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8080",
        "host:0",
        "host:65536",
        "host:http",
        "ws://host",
        "[::1",
        "[host]:1",
        "a b",
        "-x",
        "::zz",
        "host:1:2:3:4:5:6:7:8:9",
        "[::1]8080",
        "host:٣",
    ],
)
def test_a_bad_address_names_the_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--join"):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1")),
        *((host, False) for host in ("192.168.1.2", "localhost.example.org", "0.0.0.0", "nuc")),
    ],
)
def test_which_hosts_are_this_machine(host: str, expected: bool) -> None:
    assert Address(host).is_loopback is expected


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (f"rcj1_k3_secret_{PIN}", Trust(pin=PIN)),
        (f"rcj1_k3_se_cr_et_{PIN}", Trust(pin=PIN)),
        ("rcj1_k3_secret_plain", Trust(plain=True)),
        ("rcj1_k3_secret", Trust()),
        (f"rcj1_k3_{PIN}", Trust()),  # a secret of 64 digits, not a pin
        (f"rcj1_k3_secret_{PIN.upper()}", Trust()),
        (f"my own {PIN}", Trust()),
        (f"x_rcj1_k3_secret_{PIN}", Trust()),
    ],
)
def test_what_a_token_says_about_the_gateway(token: str, expected: Trust) -> None:
    assert Trust.of_token(token) == expected


def link(
    address: Address = HOME, trust: Trust = NOTHING_KNOWN, ca: str | None = None, plain: bool = False
) -> Link:
    return choose_link(address, trust, ca_file=ca, insecure_plain=plain)


def test_a_pin_means_tls_with_that_pin_also_on_loopback() -> None:
    assert link(trust=Trust(pin=PIN)) == Link(tls=True, pin=PIN)
    assert link(Address("localhost"), Trust(pin=PIN), plain=True) == Link(tls=True, pin=PIN)


def test_an_authority_replaces_the_pin() -> None:
    assert link(trust=Trust(pin=PIN), ca="/ca.pem") == Link(tls=True, ca_file="/ca.pem")


def test_plain_only_where_it_cannot_be_overheard_or_somebody_said_so() -> None:
    assert link(Address("127.0.0.1")) == Link(tls=False)
    assert link(trust=Trust(plain=True)) == Link(tls=False)
    assert link(plain=True) == Link(tls=False)
    with pytest.raises(ConfigError, match=r"--join 192\.168\.1\.2:8080.*--insecure-plain"):
        link()
