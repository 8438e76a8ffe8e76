"""Which addresses a webhook may be sent to."""

from core import outbound

CLOSED = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "2001:2::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "100::1",
    "5f00::1",
]
OPEN = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "192.0.1.1", "172.32.0.1"]


def test_the_table_of_addresses() -> None:
    for text in CLOSED:
        assert not outbound.is_public(outbound.ip_address(text)), text
    for text in OPEN:
        assert outbound.is_public(outbound.ip_address(text)), text
    allowed = outbound.parse_networks("10.1.0.0/16, ::1/128")
    assert outbound.is_allowed(outbound.ip_address("10.1.2.3"), allowed)
    assert not outbound.is_allowed(outbound.ip_address("10.2.2.3"), allowed)
    assert not outbound.is_allowed(outbound.ip_address("::ffff:10.1.2.3"), allowed)
