"""Whether the runs of a record folder are runs of one configuration, and whether all of them are listed (7, 25)."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, not_applicable, weighed
from golf.config.rules import MIN_SEEDS, NON_RECORD
from golf.submission.record_folder.claimed import ClaimedRuns, same_configuration
from golf.submission.record_folder.claims import OTHERS, Json, is_whole
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.figures import NO_LOG
from golf.submission.record_folder.logs import RunLog

_SAME = "run all seeds with the same code and settings"
_LIST_ALL = "list all runs, add their logs"
_ENVIRONMENT = re.compile(r"^(?:python|pytorch|torch|cuda|versions\..*)$")
"""Settings of the environment: a difference is a remark."""
_OF_ANOTHER_KIND = re.compile(
    r"ablat|baseline|control|compar|diag|probe|debug|smoke|sweep|failed|crash|scout|no_|without|warm", re.IGNORECASE
)
"""Names of logs that say that another configuration ran."""
_RUNS_MADE = re.compile(r"^(?:num|n|total)_(?:runs|seeds)(?:_(?:made|run|total))?$|^(?:runs|seeds)_(?:made|run|total)$")
_SEED_FIELD = re.compile(r"seed|(?:^|_)runs?(?:$|_)", re.IGNORECASE)
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, 1)}
_N = rf"(\d{{1,3}}|{'|'.join(_NUMBERS)})"
_RUNS = r"(?:seeds?|runs?|trainings?|trials?)"
_MADE = r"(?:ran|run|trained|made|launched|tried|executed|done|with)"
_BEST = r"(?:best|top|lowest)"
_REPORTED = r"(?:report\w*|list\w*|select\w*|submit\w*|kept|keep|used|includ\w*|chosen|chose|pick\w*|averag\w*)"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_FEWER = (
    _pattern(rf"\b(?:{_BEST}|first) {_N} (?:of|out of|from) (?:the |all )?{_N} {_RUNS}\b"),
    _pattern(rf"\b{_N} {_BEST}\b[^.;]{{0,30}}\b(?:of|out of|from) (?:the |all )?{_N} {_RUNS}\b"),
)
"""The number that is reported, then the number that was made."""
_MORE = (
    _pattern(
        rf"\b{_N} {_RUNS}\b[^.;]{{0,30}}\b{_MADE}\b[^.]{{0,30}}?[;,:] (?:and )?(?:only )?(?:the mean of )?"
        rf"(?:the )?(?:{_BEST} )?{_N}\b[^.;]{{0,40}}\b{_REPORTED}\b"
    ),
    _pattern(rf"\b{_MADE} {_N} {_RUNS}\b.{{0,60}}?\b{_BEST} {_N}\b[^.;]{{0,40}}\b{_REPORTED}\b"),
    _pattern(rf"\b{_MADE} {_N} {_RUNS}\b[^.;]{{0,40}}\b{_REPORTED} (?:the )?{_BEST} {_N}\b"),
)
"""The number that was made, then the number that is reported."""
_SELECTED = _pattern(rf"\bseeds?\b[^.;]{{0,60}}\b(?:select\w*|chosen|pick\w*) (?:out of|from) {_N} {_RUNS}\b")
_DROPPED = _pattern(
    r"\bseeds?\b(?:[^.;]|\.\d){0,80}"
    r"\b(?:dropped|excluded|discarded|omitted|left out|not reported|not included|not part of)\b"
)
_OTHER_WORK = _pattern(r"baseline|previous|prior|tun(?:e|ing)\b|search|sweep|ablat|@\w|PR ?#|hyper")


def sameness(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 7: number of seeds; one code, configuration, environment and data in all logs."""
    runs = (*claimed.runs, *claimed.kin)
    if folder.runs and folder.claims.claims_nothing:
        return not_applicable(7, "no result is claimed: which runs are meant is unknown", {"logs": len(runs)})
    compared = _settings(runs)
    differing = {name: values for name, values in compared.items() if len(values) > 1}
    evidence = {
        "seeds": [result.key for result in claimed.results if isinstance(result.key, int)],
        "logs": len(runs),
        "settings_compared": len(compared),
        "settings_differing": sorted(differing)[:20] or 0,
    }
    return weighed(7, evidence, [*_seeds(claimed, track), *_differences(differing)])


def _seeds(claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """Yields too few seeds with a log, and one seed under several names."""
    runs = [*(run for result in claimed.ended for run in result.logs[:1]), *claimed.kin]
    logged = [run.any_seed for run in runs]
    known = {seed for seed in logged if seed is not None}
    number = len(known) + logged.count(None)
    for seed in sorted(seed for seed in known if logged.count(seed) > 1):
        yield Cause(f"{logged.count(seed)} logs are of seed {seed}", "run each seed once")
    for run in runs:
        if None not in (run.seed, run.seed_of_name) and run.seed != run.seed_of_name:
            yield Cause(f"{run.name} says seed {run.seed}", "name the log by the seed that ran")
    if number < MIN_SEEDS:
        unscored = any(run.scores for run in runs) and any(result.score is None for result in claimed.results)
        have = f"{number} {'has' if number == 1 else 'have'} a {'result' if unscored else 'log'}"
        if track == NON_RECORD:
            text = f"{have}; records are shown with {MIN_SEEDS} seeds"
            yield Cause(text, "the non-record track asks for none", REMARK)
        else:
            yield Cause(f"{MIN_SEEDS} seeds are needed, {have}", "run more seeds, or add their logs")


def _differences(differing: Mapping[str, set[str]]) -> Iterator[Cause]:
    """Yields settings that are not the same in all logs: of the environment a remark, others a failure."""
    for level in (FAILED, REMARK):
        names = [name for name in sorted(differing) if (_ENVIRONMENT.match(name) is not None) == (level == REMARK)]
        values = {name: " | ".join(map(_short, sorted(differing[name])[:3])) for name in names[:5]}
        if names:
            shown = ", ".join(f"{name} ({text})" for name, text in values.items())
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            yield Cause(f"the logs differ in {shown}{more}", _SAME, level)


def _short(value: str) -> str:
    """Returns a value for reading: hashes have twelve digits."""
    return value[:12] if re.fullmatch(r"[0-9a-f]{40,}", value) else value[:60]


def _settings(runs: Sequence[RunLog]) -> dict[str, set[str]]:
    """Returns the values of every setting that two logs or more have."""
    values: dict[str, list[str]] = {}
    for run in runs:
        hashed = run.code_sha256 is not None or run.source is not None
        own = {
            "code bytes": None if hashed else run.code_bytes[-1] if run.code_bytes else None,
            "code": run.code_sha256 or (run.source and hashlib.sha256(run.source).hexdigest()),
            "training shards": run.train_shards or None,
            "validation tokens": run.validation_tokens,
            "tokenizer": run.tokenizer,
            "device": run.devices[0].model if len(run.devices) == 1 else None,
            "world size": run.world_size,
        }
        plain = {name: _without_seed(value, run.seed) for name, value in run.settings.items()}
        known = {name: fact for name, fact in own.items() if fact is not None}
        for name, value in {**plain, **known}.items():
            values.setdefault(name, []).append(str(value))
    return {name: set(of_logs) for name, of_logs in values.items() if len(of_logs) > 1}


def _without_seed(value: str, seed: int | None) -> str:
    """Returns a setting's value without the run's seed, which names of runs have behind a mark or the word."""
    return value if seed is None else re.sub(rf"(?<=[a-z][_-]){seed}(?!\d)|(?<=seed){seed}(?!\d)", "SEED", value)


def listed(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 25: every run that the folder shows or names is listed; others cannot be seen."""
    seeds = {*folder.claims.seeds} or {result.key for result in claimed.results if isinstance(result.key, int)}
    logged = {run.seed for run in folder.runs if run.seed is not None}
    evidence: Evidence = {"seeds_listed": sorted(seeds), "seeds_logged": sorted(logged)}
    evidence["other_runs"] = len(claimed.others)
    if not folder.runs:
        return not_applicable(25, NO_LOG, evidence)
    causes = [*_left_out(folder, claimed, seeds), *_disclosed(folder, seeds, logged)]
    if not folder.claims.seeds and not causes:
        return not_applicable(25, "submission.json lists no seeds to compare the logs with", evidence)
    return weighed(25, evidence, causes)


def _left_out(folder: RecordFolder, claimed: ClaimedRuns, seeds: set[int]) -> Iterator[Cause]:
    """Yields runs of the same configuration whose logs are here and whose seeds are not listed."""
    own, left = claimed.runs, dict[int, str]()
    for run in claimed.others if folder.claims.seeds else ():
        same = run.scores and run.trained and same_configuration(run, own) and not _OF_ANOTHER_KIND.search(run.file)
        if same and run.any_seed is not None and run.any_seed not in seeds:
            left[run.any_seed] = run.name
    if left:
        text = f"runs of the seeds {sorted(left)} are here and not listed ({', '.join(sorted(left.values())[:5])})"
        yield Cause(text, "list all runs of the configuration")


def _disclosed(folder: RecordFolder, seeds: set[int], logged: set[int]) -> Iterator[Cause]:
    """Yields runs that submission.json or README.md names, and that are neither listed nor logged."""
    fields, file = dict(folder.claims.fields), folder.claims.file
    named = _named_seeds(fields, ()) - seeds - logged
    if named:
        shown = " and ".join(map(str, sorted(named)[:10]))
        yield Cause(f"{file} names the seeds {shown}, neither listed nor logged", _LIST_ALL)
        return
    numbers = [value for name, value in fields.items() if is_whole(value) and _RUNS_MADE.match(name)]
    made = max((number for number in numbers if number < 1000), default=0)
    if made > len(seeds | logged) > 0:
        yield Cause(f"{file} names {made} runs, {len(seeds)} are listed", _LIST_ALL)
    for name, text in ((file, ". ".join(_texts(fields))), ("README.md", folder.readme)):
        left = left_out(text, seeds | logged)
        if left:
            yield Cause(f'{name} says "{left[0]}"', _LIST_ALL)


def _named_seeds(value: Json, path: tuple[str, ...]) -> set[int]:
    """Returns seeds in fields whose names say so: keys of results, and lists of whole numbers."""
    if len(path) > 6 or any(OTHERS.search(name) for name in path):
        return set()
    seeds: set[int] = set()
    holds = any(_SEED_FIELD.search(name) for name in path)
    if isinstance(value, dict):
        for name, part in value.items():
            match = re.fullmatch(r"(?:seed)?[ _-]?(\d{1,6})", name.strip(), re.IGNORECASE)
            if match is not None and holds and part is not None:
                seeds.add(int(match[1]))
            seeds |= _named_seeds(part, (*path, name))
        seeds |= {seed for seed in [value.get("seed")] if is_whole(seed)}
    elif isinstance(value, list) and path and re.search(r"seeds", path[-1], re.IGNORECASE):
        seeds |= {seed for seed in value if is_whole(seed) and 0 <= seed < 10**6}
    elif isinstance(value, list):
        for part in value[:200]:
            seeds |= _named_seeds(part, path)
    return seeds


def _texts(value: Json, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)) and depth < 6:
        for part in list(value.values()) if isinstance(value, dict) else value[:200]:
            yield from _texts(part, depth + 1)


def left_out(text: str, known: set[int]) -> list[str]:
    """Returns sentences that say that more runs were made than are reported.

    Args:
        text: of the README, or of other prose.
        known: the seeds that are listed or have a log.
    """
    sentences = []
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z*`#|-])|\n\s*\n|\n(?=[-*#|])", text[:200_000]):
        plain = " ".join(sentence.split())[:600]
        if _OTHER_WORK.search(plain):
            continue
        if _reports_fewer(re.sub(r"\([^)]*\)", "", plain).replace("*", ""), len(known)) or _drops(plain, known):
            sentences.append(plain[:160])
    return sentences


def _reports_fewer(text: str, known: int) -> bool:
    """Returns whether a sentence counts more runs than are known, of which fewer are reported."""
    text = " ".join(text.split())
    pairs = [(match[1], match[2]) for pattern in _FEWER if (match := pattern.search(text))]
    pairs += [(match[2], match[1]) for pattern in _MORE if (match := pattern.search(text))]
    selected = _SELECTED.search(text)
    made = [_number(more) for fewer, more in pairs if _number(fewer) < _number(more)]
    made += [] if selected is None else [_number(selected[1])]
    return any(number > known for number in made)


def _drops(text: str, known: set[int]) -> bool:
    """Returns whether a sentence names seeds that were dropped and that are not known."""
    match = _DROPPED.search(text)
    if match is None:
        return False
    seeds = {int(number) for number in re.findall(r"(?<![\d.#-])\d{1,5}(?![\d.%-])", match[0])}
    return bool(seeds - known)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text.lower()]
