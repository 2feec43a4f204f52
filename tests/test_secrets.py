"""Secrets stay where they are: in the environment and in the address that a person typed."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from golf.config.config import RunConfig, to_plain
from tests.planted_secrets import PASSWORD, QUERY, SECRETS, leaks
from tests.tune.entries import entry_of
from tune.cache.backend import StoreError, open_storage
from tune.cli.main import sweep as main
from tune.records.entries import Failure, FailureKind
from tune.records.ledger import Ledger
from tune.records.redaction import redact, redact_all
from tune.search.space import Trial
from tune.tracking.connection import problem_line
from tune.workloads.failures import explain


@pytest.mark.parametrize("address", ["s3://KEY1:{}@bucket/x", "s3://bucket/x?region=us&secret_key={}"])
def test_a_store_address_with_a_secret_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    """Fault: a secret in the arguments of every trial, which Ray writes to its files; or the refusal tells it."""
    with pytest.raises(SystemExit):
        main(["demo", "--storage", str(tmp_path), "--store", address.format(PASSWORD)])
    told = capfd.readouterr()
    assert "AWS_SECRET_ACCESS_KEY" in told.err
    assert leaks(tmp_path, told.out, told.err) == []


def test_errors_of_other_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fault: what MLflow, a database, pyarrow or a worker says is passed on with the password in it."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    uri = f"postgresql://me:{PASSWORD}@db.example:5432/runs?sslpassword={QUERY}"
    inner = f'connection to "{uri}" failed: password "{PASSWORD}" of {SECRETS["PGPASSWORD"]} is wrong'
    told = [problem_line(uri, MlflowException(inner)), problem_line(uri, OSError(5, inner), "the run")]
    told += [str(explain(RuntimeError(f"Authorization: Bearer {SECRETS['RAY_AUTH_TOKEN']} was refused")))]
    told += [str(explain(f"botocore: {SECRETS['AWS_ACCESS_KEY_ID']} {SECRETS['AWS_SECRET_ACCESS_KEY']}"))]
    for bad in (
        f"s3x://a:{PASSWORD}@b",
        f"s3://a:{PASSWORD}@b?nonsense={QUERY}&secret_key={QUERY}",
        f"x://{PASSWORD}@",
    ):
        with pytest.raises((ValueError, StoreError)) as caught:
            open_storage(bad)
        told.append(str(caught.value))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    texts = {name: f"the value is {secret}" for name, secret in SECRETS.items()}
    failure = Failure(kind=FailureKind.ERROR, message=inner)
    trial = Trial(trial="a", parameters={}, name=inner, config={})
    ledger.append(entry_of(trial, "failed", tags=texts, reason=inner, failure=failure, metrics={"loss": 1.25}))
    assert ledger.trials()[0].metrics == {"loss": 1.25}
    assert leaks(tmp_path, *told) == []


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////work/storage/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1",
        "file:///a/b@c",
        "steps=130 warmdown_start=60 split=int5-mlp seed=3",
        "token id 700 is outside the tokenizer's vocabulary of 300",
        "train_tokens=786432 tokenizer=fineweb_1024_bpe.model",
        "author: me, key=1f0023382a2b, digest " + "ab" * 32,
        "use_token=true, bos token: 1, auth_token=none",
        "PWD=/mnt/golf/work and pwd: ~/golf/work",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Fault: a name, an address or a digest in the ledger is blotted out, so that runs are no longer found."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PWD", "{here}"),
        ("OLDPWD", "/mnt/gone/since"),
        ("HOME", "{here}"),
        ("XDG_SESSION_TOKEN", "desktop-7-of-me"),
        ("SSH_AUTH_SOCK", "/tmp/ssh-1/agent.2"),
        ("TOKENIZER_PATH", "data/fineweb/tokens.model"),
        ("TOKENIZERS_PARALLELISM", "disabled-here"),
        ("KEYMAP", "us-international"),
        ("KEYBOARD", "us-international"),
        ("MONKEY", "chimpanzee"),
        ("PASSWORD_STORE_DIR", "/mnt/gone/store"),
        ("MY_TOKEN", "{here}"),
        ("SECRETS_AND_TOKENS", "{here}:/usr"),
        ("API_KEY", "disabled"),
        ("HF_TOKEN", "localhost"),
        ("SIG", "1"),
        ("AUTHORIZATION", "demo"),
    ],
)
def test_a_variable_that_is_no_secret(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a folder, a switch or a common word is blotted out of every path and message."""
    value = value.format(here=tmp_path)
    monkeypatch.setenv(name, value)
    text = f"{value}/storage/ledger.jsonl of {value}, {name}={tmp_path}"
    assert redact(text, f"sqlite:///{value}/mlflow.db") == text


@pytest.mark.parametrize(
    ("name", "value"),
    [("MYSQL_PWD", "hunter2-hunter2"), ("MY_TOKEN", "/not+a/path+of+anything=="), ("DB_PASSWORD", "123456789")],
)
def test_a_variable_that_is_a_secret(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: what spares folders and switches lets a secret pass that looks a little like one."""
    monkeypatch.setenv(name, value)
    assert redact(f"it is {value}!") == "it is ***!"


def test_fields_that_are_secrets() -> None:
    """Fault: a password after `pwd=` passes because folders stand there too."""
    told = redact("Server=db;UID=me;PWD=s3cr3t;x and password=123456, pwd: hunter2")
    assert told == "Server=db;UID=me;PWD=***;x and password=***, pwd: ***"


def test_a_ledger_entry_keeps_its_values(tiny: RunConfig) -> None:
    """Fault: redaction changes a number, a type or a field's name."""
    entry: dict[str, Any] = {"config": to_plain(tiny), "curves": {"train_loss": [[1, 2.5, None]]}, "keys": ["ab" * 32]}
    assert redact_all(entry) == entry
