"""Which addresses of Dask schedulers are used: encrypted ones, this machine's own, and what its owner answers for."""

import ipaddress
import re

from targets.errors import BadInput

ADDRESS = re.compile(r"(tls|tcp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")


def check_encrypted(address: str, required: bool | None) -> None:
    """`BadInput` for an address that is none, or whose traffic others could read and change. `required`: Dask's
    `distributed.comm.require-encryption`; False is its owner's word that the network is theirs alone."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise BadInput(f"{address!r} is no address of a Dask scheduler. Give tls://HOST:PORT, such as tls://lab:8786.")
    scheme, host, _ = found.groups()
    if scheme == "tcp" and required is not False and not loopback(host.strip("[]")):
        raise BadInput(
            f"{address} is not encrypted: who is in that network could run programs on your devices. Use tls:// "
            "(docs/fleet.md), or say distributed.comm.require-encryption: false in the target's config."
        )


def loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
