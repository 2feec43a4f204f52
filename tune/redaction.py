"""Secrets out of texts, before a text is kept or shown: the one place that knows what a secret looks like.

Any text enters, an address, an error of another library, a log's end; the same text leaves with `***` for passwords and
keys in addresses, for values of the environment's secrets and Ray's token, and for tokens of a known form. What is
replaced is never told. It must not be the only defence: a secret of unknown form in no variable passes.
"""

import argparse
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"
_NAMES = (
    r"(?:[\w.-]*(?:secret|password|passwd|token|credentials?|signature|private[_-]?key|api[_-]?key|access[_-]?key)"
    r"(?:[_-](?:id|key|value))?|authorization|pwd|sig)"
)
"""Names of fields and variables whose values are secret."""
_USER = re.compile(r"(?<=://)[^/?#\s'\"@]*(?:@[^/?#\s'\"@]*)*@")
"""All before the last "@" of an address's host: a password may hold one itself."""
_FIELD = re.compile(rf"(?i)(\b{_NAMES}['\"]?\s*[=:]\s*['\"]?(?:(?:bearer|basic)\s+)?)(?!\*\*\*)([^\s&;,'\"<>]+)")
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
"""Tokens of Hugging Face, AWS, GitHub and Databricks, and JSON web tokens."""
_SECRET_VARIABLE = re.compile(rf"(?i)\w*{_NAMES}")
_NO_SECRETS = re.compile(r"(?i)(?:_PATH|_FILE|_MODE|_SOCK|_DIR|_URI|_URL|_ARN|_PID)$")
"""Ends of names of variables that say where or how."""
_SHORTEST = 8
"""Characters of a value that is looked for everywhere: a shorter one is in any text."""


def redact(text: str, address: str = "") -> str:
    """`text` without the secrets in it, and without those of an `address` that it is about, wherever they stand."""
    for secret in (*_secrets(), *_parts(address)):
        text = text.replace(secret, MASK)
    return _KNOWN.sub(MASK, _FIELD.sub(rf"\1{MASK}", _USER.sub(f"{MASK}@", text)))


def redact_all(value: Any) -> Any:
    """A plain value with every text in it redacted, names of fields too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(name) if isinstance(name, str) else name: redact_all(item) for name, item in value.items()}
    return [redact_all(item) for item in value] if isinstance(value, (list, tuple)) else value


def open_address(text: str) -> str:
    """An address of a store, as an option of a command, which may hold no secret: other users see command lines.

    Raises: argparse.ArgumentTypeError, without the secret.
    """
    if "://" in text and redact(text) != text:
        raise argparse.ArgumentTypeError(
            f"{redact(text)} holds a secret, which every user of this machine could read and every worker would keep; "
            "give it in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or a file of the cloud's tools"
        )
    return text


def _parts(address: str) -> list[str]:
    """The secrets in an address: of its user, and in its query, as they are and decoded."""
    user = _USER.search(address)
    found = [field[2] for field in _FIELD.finditer(address)]
    found += [] if user is None else [user[0][:-1], *user[0][:-1].split(":", 1)[1:]]
    return [form for part in found for form in (part, unquote(part)) if len(part) > 3]


def _secrets() -> tuple[str, ...]:
    """Values that are secret wherever they stand, as they are and as in addresses, the longest first."""
    named = [
        value
        for name, value in os.environ.items()
        if _SECRET_VARIABLE.fullmatch(name) and not _NO_SECRETS.search(name) and len(value) >= _SHORTEST
    ]
    found = {form for value in (*named, *_ray_token()) for form in (value, quote(value, safe=""), unquote(value))}
    return tuple(sorted(found, key=len, reverse=True))


@functools.cache
def _ray_token() -> tuple[str, ...]:
    """The token of this user's Ray."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        token = path.read_text().strip()
    except OSError:
        return ()
    return (token,) if len(token) >= _SHORTEST else ()
