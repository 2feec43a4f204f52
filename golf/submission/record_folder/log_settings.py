"""The settings in a log before the first step, without what differs from run to run by its nature."""

import json
import re
from collections.abc import Sequence

_MOST_SETTINGS = 500
_VERSION = re.compile(r"\brunning (python|pytorch) (\S{1,40})", re.IGNORECASE)
_SETTING = re.compile(r"([a-z_][a-z0-9_.]{0,60})[:=](\S{1,200})")
_LONE_SETTING = re.compile(r"\s{0,40}([a-z_][a-z0-9_.]{0,60}): ([^{\s].{0,200}|\{.*)")
_OF_A_RUN = re.compile(
    r"seed|time|(?<!wallclock_)seconds|_ms$|mem|^run_|uuid|hash|commit|^out|"
    r"(?:^|_)(?:host|hostname|node|nodename|pid|port|ip|date|started|rank|local_rank|device|gpu|cuda|driver)$|"
    r"^(?:step|warmup_step|name|trial|cold|ranks|world_size|gptq|pergroup|is_main_process)$|"
    r"log(?:_?file|_?dir|s)?$|"
    r"(?:cache|artifact|output|work|save|model|checkpoint|quantized_model|ckpt)_?(?:dir|path|root)$|^slurm|"
    r"^(?:train_shards|val_tokens|code_bytes|code_sha256|dataset)$|"
    r"hypothesis|(?:^|_)(?:test|exp|experiment|job|group|tags?|comment|description|notes?|label|title)(?:_id|_name)?$|^wandb|"
    r"project$",
    re.IGNORECASE,
)
"""Settings that differ from run to run by their nature, or that are compared under a name of their own."""


def read_settings(lines: Sequence[str]) -> dict[str, str]:
    """Returns the names and values of lines that hold nothing else."""
    settings: dict[str, str] = {}
    for line in lines[:_MOST_SETTINGS]:
        version, lone = _VERSION.search(line), _LONE_SETTING.fullmatch(line)
        pairs: list[tuple[str, str]] = []
        if version:
            pairs = [(version[1].lower(), version[2])]
        elif lone and lone[2].startswith("{"):
            pairs = _flat(lone[1], lone[2])
        elif lone:
            pairs = [(lone[1], lone[2].strip())]
        else:
            words = [_SETTING.fullmatch(word) for word in line.split()]
            if words and all(words):
                pairs = [(word[1], word[2]) for word in words if word is not None]
        for name, value in pairs:
            if len(settings) < _MOST_SETTINGS and not _OF_A_RUN.search(name):
                settings[name] = _without_folder(value)
    return settings


def _without_folder(value: str) -> str:
    """Returns the last part of a path: the folders of data differ between machines."""
    return value.rstrip("/").rsplit("/", 1)[-1] if re.match(r"[\w.~$-]*/", value) else value


def _flat(name: str, text: str) -> list[tuple[str, str]]:
    """Returns the values of an object in JSON by their dotted names; the text itself where it is none."""
    try:
        top = json.loads(text)
    except (ValueError, RecursionError):
        return [(name, text)]
    values, open_parts = [], [(name, top)]
    while open_parts:
        path, value = open_parts.pop()
        if isinstance(value, dict):
            open_parts += [(f"{path}.{key}", part) for key, part in value.items()]
        else:
            values.append((path, json.dumps(value)[:200]))
    return values
