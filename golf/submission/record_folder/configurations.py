"""Which runs are runs of one configuration: groups of them, and copies of one and the same run."""

import re
from collections.abc import Mapping, Sequence

from golf.submission.record_folder.logs import RunLog


def without_copies(runs: Sequence[RunLog]) -> list[RunLog]:
    """Returns each run once: a log may be in the folder twice, under another name."""
    first: list[RunLog] = []
    for run in sorted(runs, key=lambda run: (run.seed_of_name is None, run.file.count("/"))):
        if not any(_is_copy(run, other) for other in first):
            first.append(run)
    return [run for run in runs if any(run is other for other in first)]


def _is_copy(run: RunLog, other: RunLog) -> bool:
    """Returns whether two logs are of one and the same run."""
    if not run.scores or run.seed != other.seed:
        return False
    facts = (run.scores, run.steps, run.train_seconds, run.model_bytes, run.total_bytes)
    return facts == (other.scores, other.steps, other.train_seconds, other.model_bytes, other.total_bytes)


def group_alike(runs: Sequence[RunLog]) -> list[list[RunLog]]:
    """Returns groups of runs that may be the seeds of one configuration, the likeliest first.

    By the stem of the file's name, by the folder and by all settings; of several runs in one file the last counts.
    """
    latest = list({run.file: run for run in runs}.values())
    groups: list[list[RunLog]] = []
    for key in (_stem, _folder, lambda run: "any"):
        parts: dict[tuple[str, str | None, int | None], list[RunLog]] = {}
        for run in latest:
            parts.setdefault((key(run), run.tokenizer, run.validation_tokens), []).append(run)
        more = sorted(parts.values(), key=lambda group: (-len(group), group[0].file.count("/")))
        groups += more
        groups += [[run for run in group if _agree(run, group[0])] for group in more if len(group) > 2]
    return groups


def _stem(run: RunLog) -> str:
    """Returns a file's name without the numbers that tell runs apart."""
    plain = re.sub(r"(?:[_-]?(?:seed|rerun|run|s|final)?[_-]?\d+)+", "", run.file.lower())
    return re.sub(r"[_-]+(?=[./]|$)", "", plain.replace("rerun", "train"))


def _folder(run: RunLog) -> str:
    return run.file.rpartition("/")[0]


def same_configuration(run: RunLog, others: Sequence[RunLog]) -> bool:
    """Returns whether a run has the code, data and settings, all but the seed, of one of the others."""
    return any(_agree(run, other) for other in others)


def _agree(run: RunLog, other: RunLog) -> bool:
    """Returns whether two runs have the same value of every fact that both logs name."""
    facts, others = _facts(run), _facts(other)
    return not any(facts[name] != others[name] for name in facts.keys() & others.keys())


def _facts(run: RunLog) -> Mapping[str, object]:
    """Returns what two runs of one configuration have in common, as far as the log says it."""
    facts = {
        **run.settings,
        "tokenizer ": run.tokenizer,
        "validation tokens ": run.validation_tokens,
        "code ": run.code_bytes or None,
        "world size ": run.world_size,
    }
    return {name: value for name, value in facts.items() if value is not None}
