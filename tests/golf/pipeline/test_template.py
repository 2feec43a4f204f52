"""One program's text for many configurations, against the text that each has when it is made for itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from golf.config.presets import find_preset
from golf.pipeline import bundle as bundles
from golf.pipeline.bundle import COUNTED, bundle
from golf.pipeline.template import numbered, use_all

DEMO = find_preset("demo")


def names_of(part: Any, path: str = "") -> Iterator[str]:
    """Yields the paths of the numbers of a configuration."""
    for each in fields(part):
        value = getattr(part, each.name)
        if is_dataclass(value):
            yield from names_of(value, f"{path}{each.name}.")
        elif type(value) in (int, float):
            yield path + each.name


def changed(part: Any, path: str) -> Any:
    """The configuration with another number at a path. Raises: ValueError where it is refused."""
    name, _, inner = path.partition(".")
    value = getattr(part, name)
    if inner:
        return replace(part, **{name: changed(value, inner)})
    return replace(part, **{name: value + 1 if isinstance(value, int) else value * 0.75})


@pytest.mark.long
def test_a_shared_text_is_the_configurations_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a number that decided something, or that the text has in another form, taken for one to be filled in.

    Most numbers have to share a text: else each trial of a sweep pays for its own.
    """
    monkeypatch.setattr(bundles, "_templates", {})
    bundle(DEMO)
    template = bundles._templates[COUNTED][0]
    shared, parts = 0, [DEMO, DEMO]
    for name in names_of(DEMO):
        with contextlib.suppress(ValueError):
            if template.serves(changed(DEMO, name)):
                parts[shared % 2] = changed(parts[shared % 2], name)
                shared += 1
    assert shared >= 25
    for config in parts:
        filled = bundle(config)
        with monkeypatch.context() as alone:
            alone.setattr(bundles, "_templates", {})
            assert bundle(config) == filled
    assert len(bundles._templates[COUNTED]) == 1


@pytest.mark.long
def test_a_number_that_decides_gets_a_text_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the program of another shape, and a number that is written as a blank."""
    monkeypatch.setattr(bundles, "_templates", {})
    text = bundle(DEMO)
    assert "NUMBER_" not in text
    assert DEMO.ttt is not None
    other = bundle(replace(DEMO, ttt=replace(DEMO.ttt, lr=0.0123)))
    assert ".0123" in other.partition("CONFIG=")[0]
    assert len(bundles._templates[COUNTED]) == 1
    bundle(replace(DEMO, model=replace(DEMO.model, num_layers=DEMO.model.num_layers + 1)))
    assert len(bundles._templates[COUNTED]) == 2


@pytest.mark.parametrize(
    "read",
    [
        lambda config: config.schedule.steps == 3,
        lambda config: config.schedule.steps in (1, 2),
        lambda config: not config.schedule.steps,
        lambda config: f"{config.schedule.steps}",
        lambda config: config.schedule.steps // 2,
        lambda config: use_all(config.schedule),
    ],
)
def test_every_use_of_a_number_is_noted(read: Any) -> None:
    """Catches a decision that nobody sees, after which another number would get the same text."""
    config = numbered(DEMO)
    assert not config.schedule.steps.used  # type: ignore[attr-defined]
    read(config)
    assert config.schedule.steps.used  # type: ignore[attr-defined]
