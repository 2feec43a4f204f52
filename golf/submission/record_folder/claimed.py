"""Which runs of a record folder its submission.json claims: chosen by their scores and sizes, not by their files.

A claimed result may have its score in one log and its training in another, as where the same artifact was evaluated
again later; the runs that no result needs are listed as other runs.
"""

import itertools
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from golf.submission.record_folder.claims import Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog, Score

_MOST_COMBINED = 2000
"""Combinations of runs and scores whose mean is compared with the claimed one."""
Scored = tuple[RunLog, Score | None]
"""A run and its score that counts; None where it ended before it."""


@dataclass(frozen=True, eq=False)
class ClaimedRun:
    """One claimed result."""

    key: int | str
    """The seed; the log's name where neither it nor submission.json names one."""
    scored: RunLog | None = None
    """The run that has the score; None where no log has a result of the seed."""
    score: Score | None = None
    """The score that is claimed, or the last one where none agrees."""
    agrees: bool = False
    """Whether the score is the claimed one."""
    trained: RunLog | None = None
    """The run of its training."""
    claims: Claims = field(default_factory=Claims)
    """What submission.json says of the seed."""

    @property
    def run(self) -> RunLog | None:
        """The run of its training, else the one with the score."""
        return self.trained or self.scored

    @property
    def logs(self) -> list[RunLog]:
        """The runs that it consists of, each once."""
        return each_once([self.trained, self.scored])

    def __str__(self) -> str:
        return f"seed {self.key}" if isinstance(self.key, int) else self.key


@dataclass(frozen=True)
class ClaimedRuns:
    """The claimed results, and the runs that none of them consists of."""

    results: Sequence[ClaimedRun] = ()
    others: Sequence[RunLog] = ()
    of_one: bool = False
    """Whether the figures of submission.json are those of one run and no mean."""
    kin: Sequence[RunLog] = ()
    """Where no seeds are listed: the other runs that are other seeds of the same configuration."""

    @property
    def runs(self) -> list[RunLog]:
        """The runs of the trainings, each once."""
        return each_once(result.run for result in self.results)

    @property
    def scored(self) -> list[tuple[ClaimedRun, RunLog, Score]]:
        """The results that a log has, each with the run that has its score, and the score."""
        return [(result, result.scored, result.score) for result in self.results if result.scored and result.score]

    @property
    def ended(self) -> list[ClaimedRun]:
        """The results that a log has; all where none has one."""
        return [result for result, _, _ in self.scored] or list(self.results)

    @property
    def bpb(self) -> list[float]:
        """Bits per byte of each, from the logs."""
        return [score.bpb.value for _, _, score in self.scored]

    @property
    def nats(self) -> list[float]:
        """Nats per token of each; empty where a log does not have them."""
        losses = [score.nats for _, _, score in self.scored]
        values = [loss.value for loss in losses if loss is not None and math.isfinite(loss.value)]
        return values if len(values) == len(losses) else []

    def unit(self, name: str) -> float:
        """Returns the unit of the last decimal of the logs' val_bpb or val_loss."""
        numbers = [score.number(name) for _, _, score in self.scored]
        return max((number.unit for number in numbers if number is not None), default=0.0)


def each_once(runs: Iterable[RunLog | None]) -> list[RunLog]:
    """Returns the runs that are there, each once."""
    return list({id(run): run for run in runs if run is not None}.values())


def claimed_runs(folder: RecordFolder) -> ClaimedRuns:
    """Returns the runs that the folder's submission.json claims."""
    claims, runs = folder.claims, _without_copies([run for run in folder.runs if run.scores or run.trained])
    if claims.by_seed:
        results = [_of_seed(seed, claims.by_seed.get(seed, Claims()), runs) for seed in claims.seeds or claims.by_seed]
        if any(result.run is not None for result in results):
            return _with_others([_without_repeat(result, results) for result in results], runs)
    if claims.seeds:
        results = _of_seeds(claims, runs)
        if any(result.run is not None for result in results):
            return _with_others(results, runs, of_one=len(results) == 1)
    return _of_unnamed(claims, runs)


def _with_others(results: Sequence[ClaimedRun], runs: Sequence[RunLog], of_one: bool = False) -> ClaimedRuns:
    taken = {id(run) for result in results for run in result.logs}
    return ClaimedRuns(results, [run for run in runs if id(run) not in taken], of_one)


def _key(run: RunLog) -> int | str:
    """Returns what a run is called: the seed in its file's name, else its seed, else its name."""
    seed = run.seed_of_name if run.seed_of_name is not None else run.seed
    return run.name if seed is None else seed


def _of_seed(seed: int, claims: Claims, runs: Sequence[RunLog]) -> ClaimedRun:
    """Returns the result of a seed: from the seed's runs the one whose score and size agree best."""
    own = [run for run in runs if seed in (run.seed, run.seed_of_name)]
    agreeing = _agreeing(own, claims)
    pairs = agreeing or [(run, run.scores[-1]) for run in own if run.scores]
    result = ClaimedRun(seed, claims=claims)
    if pairs:
        agrees = bool(agreeing) or "val_bpb" not in claims.numbers
        result = replace(_result(seed, *_best(pairs, claims)), agrees=agrees, claims=claims)
    return _with_training(result, own)


def _agreeing(runs: Sequence[RunLog], claims: Claims) -> list[tuple[RunLog, Score]]:
    """Returns the scores that are the claimed one: by the bits per byte where they are claimed, else by the loss."""
    name = "val_bpb" if "val_bpb" in claims.numbers else "val_loss"
    return [(run, score) for run in runs for score in run.scores if claims.near(name, score.number(name))]


def _best(pairs: Sequence[tuple[RunLog, Score]], claims: Claims) -> tuple[RunLog, Score]:
    """Returns the run that suits best: its loss and size agree, it was trained there, it is at the top or the last."""
    sizes = [claims.numbers[name] for name in ("bytes_total", "bytes_either", "bytes_model") if name in claims.numbers]

    def rank(pair: tuple[RunLog, Score]) -> tuple[bool, bool, tuple[bool, int, int], int]:
        run, score = pair
        own = [size.value for size in (run.total_bytes, run.model_bytes) if size is not None]
        same = any(size.is_size(value) for size in sizes for value in own)
        return claims.near("val_loss", score.nats), same, run.place, -int(1e8 * score.bpb.unit)

    return max(pairs, key=rank)


def _result(key: int | str, run: RunLog, score: Score | None) -> ClaimedRun:
    """Returns a result; without a score where the run ended before it."""
    return ClaimedRun(key, None if score is None else run, score, score is not None, run if run.trained else None)


def _with_training(result: ClaimedRun, runs: Sequence[RunLog]) -> ClaimedRun:
    """Returns a result with its training out of the runs of its seed where it has none yet.

    It is the one whose artifact the evaluation scored, by its size, else the last at the top.
    """
    size = result.scored.model_bytes if result.scored is not None else None
    trainings = [run for run in runs if run.trained]
    same = [run for run in trainings if size is not None and run.model_bytes == size]
    best = max(same or trainings, key=lambda run: run.place, default=None)
    return replace(result, trained=result.trained or best)


def _without_repeat(result: ClaimedRun, results: Sequence[ClaimedRun]) -> ClaimedRun:
    """Returns a result, without its run where that is another seed's: logs may have another seed than their names."""
    sharing = [other for other in results if other.scored is result.scored]
    if result.scored is None or max(sharing, key=lambda other: other.agrees) is result:
        return result
    return ClaimedRun(result.key, claims=result.claims)


def _of_seeds(claims: Claims, runs: Sequence[RunLog]) -> list[ClaimedRun]:
    """Returns the results of listed seeds without figures of each: those whose mean is the claimed one."""
    scored = sorted((run for run in runs if run.scores), key=lambda run: run.place, reverse=True)  # the likeliest first
    named = {seed: [run for run in scored if _key(run) == seed] for seed in claims.seeds}
    by_seed = {seed: own or [run for run in scored if run.seed == seed] for seed, own in named.items()}
    present = {seed: own for seed, own in by_seed.items() if own}
    chosen = _with_mean(list(present.values()), claims) or _usual(list(present.values()))
    results = {seed: _result(seed, run, score) for seed, (run, score) in zip(present, chosen, strict=True)}
    trainings = {seed: [run for run in runs if seed in (run.seed, run.seed_of_name)] for seed in claims.seeds}
    return [_with_training(results.get(seed, ClaimedRun(seed)), own) for seed, own in trainings.items()]


def _with_mean(by_seed: Sequence[Sequence[RunLog]], claims: Claims) -> list[Scored]:
    """Returns a run and a score for each seed: the first combination whose mean is claimed; empty without one."""
    bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
    for runs, scores in itertools.islice(_combinations(by_seed), _MOST_COMBINED):
        unit = max(score.bpb.unit for score in scores)
        if bpb is not None and bpb.near(statistics.fmean(score.bpb.value for score in scores), unit):
            losses = [score.nats.value for score in scores if score.nats is not None]
            agrees = nats is None or len(losses) < len(scores) or nats.near(statistics.fmean(losses), 1e-6)
            if agrees or len(by_seed) > 1:
                return list(zip(runs, scores, strict=True))
    return []


def _combinations(by_seed: Sequence[Sequence[RunLog]]) -> Iterator[tuple[Sequence[RunLog], list[Score]]]:
    """Yields runs of each seed with the scores that all of them have, the last first; exact ones before rounded."""
    for chosen in itertools.product(*by_seed) if by_seed else ():
        names = [score.name for score in reversed(chosen[0].scores) if all(run.score(score.name) for run in chosen)]
        for name in sorted(names, key=lambda name: f"{name}_exact" in names):
            yield chosen, [score for run in chosen if (score := run.score(name)) is not None]
        yield chosen, [run.scores[-1] for run in chosen]


def _usual(by_seed: Sequence[Sequence[RunLog]]) -> list[Scored]:
    """Returns the likeliest run of each seed with the last score of most of them; None where it ended before it."""
    first = [runs[0] for runs in by_seed]
    last = [run.scores[-1].name for run in first]
    if len(set(last)) == len(last) > 1:  # each calls it otherwise
        return [(run, run.scores[-1]) for run in first]
    return [(run, run.score(max(last, key=last.count))) for run in first]


def _of_unnamed(claims: Claims, runs: Sequence[RunLog]) -> ClaimedRuns:
    """Returns results without listed seeds: runs whose mean is claimed, else the run whose figures are."""
    scored = [run for run in runs if run.scores]
    if not scored:
        return ClaimedRuns([ClaimedRun(_key(run), trained=run) for run in runs])
    groups = [[[run] for run in group] for group in _groups_alike(scored)]
    chosen = next((found for group in groups if len(group) > 1 and (found := _with_mean(group, claims))), None)
    single = None if chosen else _of_one(scored, claims)
    if single is not None:
        own = [run for run in runs if _key(run) == single.key]
        claimed = _with_others([_with_training(single, own)], runs, of_one=True)
        return replace(claimed, kin=list(_other_seeds(claimed)))
    results = []
    for run, score in chosen or _usual(groups[0]):
        own = [other for other in runs if _key(other) == _key(run)]
        results.append(_with_training(_result(_key(run), run, score), own))
    keys = [result.key for result in results]
    distinct = [  # by the log's name where two have one seed
        result if keys.count(result.key) == 1 or result.scored is None else replace(result, key=result.scored.name)
        for result in results
    ]
    return _with_others(distinct, runs)


def _of_one(runs: Sequence[RunLog], claims: Claims) -> ClaimedRun | None:
    """Returns the run that submission.json's figures are of: its score, or its training's own validation."""
    pairs = _agreeing(runs, claims)
    if pairs:
        run, score = _best(pairs, claims)
        return _result(_key(run), run, score)
    curve = next((run for run in runs if claims.near("val_bpb", run.curve_bpb)), None)
    return None if curve is None else replace(_result(_key(curve), curve, curve.scores[-1]), agrees=False)


def _other_seeds(claimed: ClaimedRuns) -> Iterator[RunLog]:
    """Yields the runs that are other seeds of the claimed one's configuration."""
    own = claimed.runs
    for run in claimed.others:
        other_seed = run.seed is not None and all(run.seed != claimed_run.seed for claimed_run in own)
        if other_seed and run.trained and run.scores and same_configuration(run, own):
            yield run


def _without_copies(runs: Sequence[RunLog]) -> list[RunLog]:
    """Returns each run once: a log may be in the folder twice, under another name."""
    first: list[RunLog] = []
    for run in sorted(runs, key=lambda run: (run.seed_of_name is None, run.file.count("/"))):
        if not run.scores or all(_identity(run) != _identity(other) for other in first):
            first.append(run)
    return [run for run in runs if any(run is other for other in first)]


def _identity(run: RunLog) -> tuple[object, ...]:
    return run.seed, run.scores, run.steps, run.train_seconds, run.model_bytes, run.total_bytes


def _groups_alike(runs: Sequence[RunLog]) -> Iterator[list[RunLog]]:
    """Yields groups of runs that may be the seeds of one configuration, the likeliest first.

    By the stem of the file's name, by the folder and by all settings; of several runs in one file the last counts.
    """
    latest = {run.file: run for run in runs}
    for key in (_stem, lambda file: file.rpartition("/")[0], lambda file: "any"):
        parts: dict[tuple[str, str | None, int | None], list[RunLog]] = {}
        for file, run in latest.items():
            parts.setdefault((key(file), run.tokenizer, run.validation_tokens), []).append(run)
        groups = sorted(parts.values(), key=lambda group: (-len(group), group[0].file.count("/")))
        yield from groups
        yield from ([run for run in group if _agree(run, group[0])] for group in groups if len(group) > 2)


def _stem(file: str) -> str:
    """Returns a file's name without the numbers that tell runs apart."""
    plain = re.sub(r"(?:[_-]?(?:seed|rerun|run|s|final)?[_-]?\d+)+", "", file.lower())
    return re.sub(r"[_-]+(?=[./]|$)", "", plain.replace("rerun", "train"))


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
