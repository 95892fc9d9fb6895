"""Names of people who approve, and the secrets that prove them.

Tokens and vouchers are 32 bytes of the system's random source. A hash of one round (SHA-256) is enough to keep them by:
what makes passwords need a slow, salted hash is that people choose them from few. Nobody finds one of 2^256 equally
likely values by trying, however fast the hash, and no table of hashes made beforehand holds it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata

from foreshard.errors import InvalidInput

LONGEST_NAME = 200
LONGEST_COMMENT = 2000
TOKEN_VARIABLE = "FORESHARD_APPROVER_TOKEN"

TOKEN_PREFIX = "fsa_"
"""So that scanners of logs and repositories know a leaked one."""

VOUCHER_PREFIX = "fsv_"

_TOKEN = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{20,}}")

_JOINERS = "\u200c\u200d"  # scripts and emoji need them


def approver_name(text: str, field: str = "approver") -> str:
    """The name in one line, without space around it. Raises InvalidInput that names ``field``."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        raise InvalidInput(field, "is empty.", remedy="Say who decides.")
    if len(name) > LONGEST_NAME:
        raise InvalidInput(field, f"has {len(name)} characters.", remedy=f"At most {LONGEST_NAME}.")
    _refuse_token(name, field)
    if any(unicodedata.category(one) in ("Cc", "Cf", "Cs") and one not in _JOINERS for one in name):
        raise InvalidInput(
            field, "holds characters that cannot be seen.", remedy="Write the name in letters."
        )
    return name


def comment_text(text: str, field: str = "comment") -> str:
    """The comment as it can be kept. Raises InvalidInput that names ``field``."""
    if len(text) > LONGEST_COMMENT:
        raise InvalidInput(field, f"has {len(text)} characters.", remedy=f"At most {LONGEST_COMMENT}.")
    _refuse_token(text, field)
    if any(unicodedata.category(one) in ("Cc", "Cs") and one not in "\n\r\t" for one in text):
        raise InvalidInput(field, "holds control characters.", remedy="Write it as text.")
    return text.strip()


def _refuse_token(text: str, field: str) -> None:
    """Names and comments are kept for ever."""
    if _TOKEN.search(text):
        raise InvalidInput(
            field, "holds a token, which does not belong there.", remedy="Revoke it: it may have been seen."
        )


def name_key(name: str) -> str:
    """What two ways to write one name have in common: nobody passes as Ada by calling themselves ADA."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(one for one in folded if unicodedata.category(one) != "Cf").split())


def new_token() -> str:
    """A token for an approver: 256 bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def new_voucher() -> str:
    """A voucher for one answer: 256 bits."""
    return VOUCHER_PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is kept of a token or voucher, 32 bytes; see this module's text on why it is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def fits(secret: str, kept: bytes) -> bool:
    """Whether ``kept`` is the hash of ``secret``; takes as long for a wrong one as for the right one."""
    return hmac.compare_digest(digest(secret), kept)
