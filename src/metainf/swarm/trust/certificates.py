"""Certificates for TLS that an identity vouches for.

gRPC refuses Ed25519 certificates, so a node makes an ECDSA P-256 key and a certificate that signs itself,
and its identity signs over that key inside an extension of the certificate. Whoever holds the certificate can
tell which node it belongs to, without having heard of the node. That the certificate's own signature holds is
for TLS to check.
"""

import datetime
from dataclasses import dataclass

from metainf.domain import MissingExtra
from metainf.swarm.trust.identity import PUBLIC_BYTES, SIGNATURE_BYTES, Identity, node_of, signed_by
from metainf.swarm.trust.signing import Refused, digest_of

VOUCHED = "2.25.231477358310468146243116384205139927203"
"""The extension (an OID made of a UUID): the identity's public key, then its signature over the P-256 key."""
PURPOSE = b"metainf swarm certificate 1\x00"
MOST_BYTES = 4096
LIFETIME_S, SKEW_S = 30 * 86_400.0, 3600.0


@dataclass(frozen=True)
class Certified:
    """A certificate (DER) with its private key, both also as PEM for TLS."""

    der: bytes
    pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return f"Certified({self.digest})"

    @property
    def digest(self) -> str:
        """The name by which an announcement pins it."""
        return digest_of(self.der)


def certify(identity: Identity, now_s: float, lifetime_s: float = LIFETIME_S) -> Certified:
    """A new key and certificate, valid from an hour before `now_s` (seconds since the epoch)."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise MissingExtra("a certificate", "swarm") from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, identity.node)])
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    vouched = identity.public + identity.sign(PURPOSE + spki)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_instant(now_s - SKEW_S))
        .not_valid_after(_instant(now_s + lifetime_s))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity.node)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(VOUCHED), vouched), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certified(
        der=made.public_bytes(serialization.Encoding.DER),
        pem=made.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def owner_of(certificate: bytes) -> str:
    """The node that vouches for a certificate (DER). Raises Refused where none does."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if len(certificate) > MOST_BYTES:
        raise Refused(f"expected a certificate of at most {MOST_BYTES} bytes, found {len(certificate)}")
    try:
        read = x509.load_der_x509_certificate(certificate)
        extension = read.extensions.get_extension_for_oid(x509.ObjectIdentifier(VOUCHED)).value
        spki = read.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        names = read.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except Exception as error:  # the parser raises many kinds for foreign bytes; none may stop a node
        raise Refused(f"not a certificate of a node: {str(error)[:200]}") from None
    vouched = extension.value if isinstance(extension, x509.UnrecognizedExtension) else b""
    public, signature = vouched[:PUBLIC_BYTES], vouched[PUBLIC_BYTES:]
    if len(signature) != SIGNATURE_BYTES or not signed_by(public, signature, PURPOSE + spki):
        raise Refused("no identity vouches for the certificate's key")
    node = node_of(public)
    if [each.value for each in names] != [node]:
        raise Refused(f"the certificate of {node} bears another name")
    return node


def pem_of(certificate: bytes) -> bytes:
    """A certificate (DER) as PEM. Raises Refused for what is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    except Exception as error:  # as above: an unknown version is no ValueError
        raise Refused(f"not a certificate: {error}") from None


def _instant(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
