"""Secrets as a user's shell and addresses hold them, and the search for any that leaked."""

from pathlib import Path

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA5TESTTESTTEST123",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzKEY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLEsessionTOKEN==",
    "HF_TOKEN": "hf_QwErTyUiOpAsDfGhJkLzXcVbNm1234567",
    "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
    "PGPASSWORD": "staple-postgres-9",
    "RAY_AUTH_TOKEN": "5e" * 32,
}
"""By the environment variable that holds each."""
PASSWORD, QUERY = "pa55-w0rd-of-mlflow", "tok3n-in-the-query"
"""Secrets within an address."""


def leaks(folder: Path, *texts: str) -> list[tuple[str, str]]:
    """Returns (where, which) of every secret in the files below `folder`, their names and the texts."""
    named = {**SECRETS, PASSWORD: PASSWORD, QUERY: QUERY}
    contents = {"text": "\n".join(texts).encode()}
    for path in folder.rglob("*"):
        contents[str(path)] = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
    return [(where, name) for where, data in contents.items() for name, secret in named.items() if _in(secret, data)]


def _in(secret: str, data: bytes) -> bool:
    return any(secret.encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-32-le"))
