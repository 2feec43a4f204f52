"""Masks secrets in texts before they are kept or shown: the one place that knows what a secret looks like.

Passwords and keys in addresses, values of secret environment variables, Ray's token and tokens of a known form become
`***`. This must not be the only defence: a secret of unknown form that is in no variable passes.
"""

import argparse
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from golf.cli.terminal import expanded

MASK = "***"
_NAMES = (
    r"(?:[\w.-]*(?:secret|password|passwd|token|credentials?|signature|private[_-]?key|api[_-]?key|access[_-]?key)"
    r"(?:[_-](?:id|key|value))?|authorization|pwd|sig)"
)
"""Names of fields and variables whose values may be secret; `_hides` tells the values that are not."""
_USER = re.compile(r"(?<=://)[^/?#\s'\"@]*(?:@[^/?#\s'\"@]*)*@")
"""All before the last "@" of an address's host: a password may hold one itself."""
_FIELD = re.compile(rf"(?i)(\b({_NAMES})['\"]?\s*[=:]\s*['\"]?(?:(?:bearer|basic)\s+)?)(?!\*\*\*)([^\s&;,'\"<>]+)")
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
"""Tokens of Hugging Face, AWS, GitHub and Databricks, and JSON web tokens."""
_SECRET_VARIABLE = re.compile(rf"(?i)\w*{_NAMES}")
_NO_SECRETS = re.compile(r"(?i)^(?:OLD)?PWD$|^XDG_|(?:_PATH|_FILE|_MODE|_SOCK|_DIR|_HOME|_URI|_URL|_ARN|_PID)$")
"""Names of variables that say where or how: the shell's working folders, the desktop's, and ends of names."""
_PLAIN = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|none|null|nil|default|auto|token|enabled|disabled|required|anonymous|undefined"
    r"|localhost|[+-]?\d{1,5})[.)\]}]*"
)
"""Switches and token ids: under a secret's name, too, they hide nothing, and masking them would blot out any text."""
_FOLDER = re.compile(r"~?(?:/[\w.@-]+){2,}/?")
_BETWEEN = "\n\0\n"
"""Between texts that are looked at together: no secret's form reaches across it."""
_SHORTEST = 8
"""Characters of a value that is looked for everywhere: a shorter one is in any text."""


def redact(text: str, address: str = "") -> str:
    """Returns `text` with secrets masked, also those of its addresses, or of `address`, elsewhere in the text."""
    for secret in (*_secrets(), *_parts(f"{text} {address}")):
        text = text.replace(secret, MASK)
    return _KNOWN.sub(MASK, _FIELD.sub(_masked, _USER.sub(f"{MASK}@", text)))


def redact_all(value: Any) -> Any:
    """Returns JSON values with secrets masked in every text, names of fields too."""
    together = _BETWEEN.join(dict.fromkeys(_texts(value)))
    # Looked at together first: an entry has hundreds of texts and, nearly always, no secret.
    return value if redact(together) == together else _redact_each(value)


def _texts(value: Any) -> Iterator[str]:
    """Yields every text in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if not isinstance(item, (int, float)):
                yield from _texts(item)


def _redact_each(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(name) if isinstance(name, str) else name: _redact_each(item) for name, item in value.items()}
    return [_redact_each(item) for item in value] if isinstance(value, (list, tuple)) else value


def open_address(text: str) -> str:
    """Parses an address of a store in a command line, which may hold no secret: other users see command lines.

    Raises: argparse.ArgumentTypeError, without the secret.
    """
    if "://" in text and redact(text) != text:
        raise argparse.ArgumentTypeError(
            f"{redact(text)} holds a secret, which every user of this machine could read and every worker would keep; "
            "give it in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or a file of the cloud's tools"
        )
    return text


def _parts(text: str) -> list[str]:
    """Returns the secrets in the addresses and fields of a text, as they are and decoded."""
    users = [found[0][:-1] for found in _USER.finditer(text)]
    parts = [field[3] for field in _FIELD.finditer(text) if _is_secret(field)]
    parts += users + [user.partition(":")[2] for user in users]
    return [form for part in parts for form in (part, unquote(part)) if len(part) >= _SHORTEST]


def _masked(field: re.Match[str]) -> str:
    """Returns a field of a text, its value masked if it is a secret."""
    return f"{field[1]}{MASK}" if _is_secret(field) else field[0]


def _is_secret(field: re.Match[str]) -> bool:
    """Whether a field of a text holds a secret; of `pwd`, a folder of another machine is none either."""
    return _hides(field[3]) and not (field[2].lower() == "pwd" and _FOLDER.fullmatch(field[3]))


def _hides(value: str) -> bool:
    """Whether a value under a secret's name is a secret: not if it is a switch, a token id or names files that exist.

    Files may be several, with the system's separator between them.
    """
    is_path = all(part.startswith("/") and part.strip("/") and os.access(part, os.F_OK) for part in value.split(":"))
    return not (_PLAIN.fullmatch(value) or is_path)


def _secrets() -> tuple[str, ...]:
    """Returns values that are secret everywhere, as they are and as in addresses, the longest first."""
    named = [
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_VARIABLE.fullmatch(name) and not _NO_SECRETS.search(name)
        if _hides(value)
    ]
    found = {form for value in (*named, *_ray_token()) for form in (value, quote(value, safe=""), unquote(value))}
    return tuple(sorted(found, key=len, reverse=True))


@functools.cache
def _ray_token() -> tuple[str, ...]:
    """Returns the token of this user's Ray; empty without one."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or expanded("~/.ray/auth_token"))
    try:
        token = path.read_text().strip()
    except OSError:
        return ()
    return (token,) if len(token) >= _SHORTEST else ()
