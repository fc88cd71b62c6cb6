"""TLS of a host: a certificate and its key, from files."""

import ssl
from pathlib import Path

from metainf.domain import BadInput


def both(certificate: Path | None, key: Path | None) -> None:
    """Raises BadInput where one is named without the other."""
    if (certificate is None) != (key is None):
        raise BadInput("expected both --tls-certificate and --tls-key, found one of them")


def context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What a server shows callers; None without a certificate: plain HTTP. Raises BadInput for files that are
    not there, or are no certificate and its key."""
    both(certificate, key)
    if certificate is None or key is None:
        return None
    for path in (certificate, key):
        if not path.is_file():
            raise BadInput(f"expected a PEM file at {path}, found none")
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(certificate, key, lambda: "")  # never asks at the terminal
    except (OSError, ValueError) as error:  # ssl.SSLError too
        raise BadInput(f"the certificate {certificate} or its key cannot be read: {error}") from None
    return made
