"""Which runs of a record folder its submission.json claims: chosen by their scores and sizes, not by their files.

A claimed result may have its score in one log and its training in another, as where the same artifact was evaluated
again later; the runs that no result needs are listed as other runs.
"""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from golf.submission.record_folder.claims import Claims
from golf.submission.record_folder.configurations import group_alike, same_configuration, without_copies
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog, Score

_MOST_COMBINED = 2000
"""Combinations of runs and scores whose mean is compared with the claimed one."""


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
    def logs(self) -> tuple[RunLog, ...]:
        """The runs that it consists of, each once."""
        return tuple({id(run): run for run in (self.trained, self.scored) if run is not None}.values())

    def __str__(self) -> str:
        return f"seed {self.key}" if isinstance(self.key, int) else self.key


@dataclass(frozen=True)
class ClaimedRuns:
    """The claimed results, and the runs that none of them consists of."""

    results: tuple[ClaimedRun, ...] = ()
    others: tuple[RunLog, ...] = ()
    of_one: bool = False
    """Whether the figures of submission.json are those of one run and no mean."""
    kin: tuple[RunLog, ...] = ()
    """Where no seeds are listed: the other runs that are other seeds of the same configuration."""

    @property
    def runs(self) -> tuple[RunLog, ...]:
        """The runs of the trainings, each once."""
        return tuple({id(result.run): result.run for result in self.results if result.run is not None}.values())

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
        numbers = [score.bpb if name == "val_bpb" else score.nats for _, _, score in self.scored]
        return max((number.unit for number in numbers if number is not None), default=0.0)


def claimed_runs(folder: RecordFolder) -> ClaimedRuns:
    """Returns the runs that the folder's submission.json claims."""
    claims, runs = folder.claims, without_copies([run for run in folder.runs if run.scores or run.trained])
    if claims.by_seed:
        results = [_of_seed(seed, claims.by_seed.get(seed, Claims()), runs) for seed in claims.seeds or claims.by_seed]
        if any(result.run is not None for result in results):
            return _with_others(_without_repeats(results), runs)
    if claims.seeds:
        results = _of_seeds(claims, runs)
        if any(result.run is not None for result in results):
            return _with_others(results, runs, of_one=len(results) == 1)
    return _of_unnamed(claims, runs)


def _with_others(results: Sequence[ClaimedRun], runs: Sequence[RunLog], of_one: bool = False) -> ClaimedRuns:
    taken = {id(run) for result in results for run in result.logs}
    return ClaimedRuns(tuple(results), tuple(run for run in runs if id(run) not in taken), of_one)


def _key(run: RunLog) -> int | str:
    """Returns what a run is called: the seed in its file's name, else its seed, else its name."""
    seed = run.seed_of_name if run.seed_of_name is not None else run.seed
    return run.name if seed is None else seed


def _of_seed(seed: int, claims: Claims, runs: Sequence[RunLog]) -> ClaimedRun:
    """Returns the result of a seed: from the seed's runs the one whose score and size agree best."""
    own = [run for run in runs if seed in (run.seed, run.seed_of_name)]
    agreeing = _agreeing(own, claims)
    pairs = agreeing or [(run, run.scores[-1]) for run in own if run.scores]
    trainings = [run for run in own if run.trained]
    if not pairs:
        return ClaimedRun(seed, trained=_training(trainings, None), claims=claims)
    run, score = max(pairs, key=lambda pair: _rank(pair[0], pair[1], claims))
    trained = run if run.trained else _training(trainings, run)
    return ClaimedRun(seed, run, score, bool(agreeing) or "val_bpb" not in claims.numbers, trained, claims)


def _agreeing(runs: Sequence[RunLog], claims: Claims) -> list[tuple[RunLog, Score]]:
    """Returns the scores that are the claimed one: by the bits per byte where they are claimed, else by the loss."""
    name = "val_bpb" if "val_bpb" in claims.numbers else "val_loss"
    pairs = [(run, score) for run in runs for score in run.scores]
    return [(run, score) for run, score in pairs if claims.near(name, score.bpb if name == "val_bpb" else score.nats)]


def _rank(run: RunLog, score: Score, claims: Claims) -> tuple[bool, bool, bool, int, int, int]:
    """Returns how well a run suits: its loss and size agree, it was trained there, it is at the top, it is the last."""
    loss = claims.near("val_loss", score.nats)
    sizes = [claims.numbers[name] for name in ("bytes_total", "bytes_either", "bytes_model") if name in claims.numbers]
    own = [size.value for size in (run.total_bytes, run.model_bytes) if size is not None]
    same = any(size.is_size(value) for size in sizes for value in own)
    exact = -int(1e8 * score.bpb.unit)
    return loss, same, run.trained, -run.file.count("/"), run.part, exact


def _training(trainings: Sequence[RunLog], scored: RunLog | None) -> RunLog | None:
    """Returns the training whose artifact a later evaluation scored: one of the same size, else the last at the top."""
    size = scored.model_bytes if scored is not None else None
    same = [run for run in trainings if size is not None and run.model_bytes == size]
    return max(same or trainings, key=lambda run: (-run.file.count("/"), run.part), default=None)


def _without_repeats(results: Sequence[ClaimedRun]) -> list[ClaimedRun]:
    """Returns the results with each run for one seed only.

    Where logs have another seed than their names, two seeds may have got the same run.
    """
    owners: dict[int, ClaimedRun] = {}
    for result in results:
        other = owners.setdefault(id(result.scored), result)
        if result.agrees and not other.agrees:
            owners[id(result.scored)] = result
    taken = [result.scored is not None and owners[id(result.scored)] is not result for result in results]
    return [
        ClaimedRun(result.key, claims=result.claims) if other else result
        for result, other in zip(results, taken, strict=True)
    ]


def _of_seeds(claims: Claims, runs: Sequence[RunLog]) -> list[ClaimedRun]:
    """Returns the results of listed seeds without figures of each: those whose mean is the claimed one."""
    scored = [run for run in runs if run.scores]
    named = {seed: [run for run in scored if _key(run) == seed] for seed in claims.seeds}
    by_seed = {seed: own or [run for run in scored if run.seed == seed] for seed, own in named.items()}
    present = {seed: _best_first(own) for seed, own in by_seed.items() if own}
    chosen = _with_mean(list(present.values()), claims)
    results = {seed: _result(seed, run, score) for seed, (run, score) in zip(present, chosen, strict=True)}
    trainings = {seed: [run for run in runs if seed in (run.seed, run.seed_of_name)] for seed in claims.seeds}
    return [_with_training(results.get(seed, ClaimedRun(seed)), own) for seed, own in trainings.items()]


def _result(key: int | str, run: RunLog, score: Score | None) -> ClaimedRun:
    """Returns a result; without a score where the run ended before it."""
    return ClaimedRun(key, None if score is None else run, score, score is not None, run if run.trained else None)


def _with_training(result: ClaimedRun, runs: Sequence[RunLog]) -> ClaimedRun:
    """Returns a result with a training out of the runs of its seed where it has none yet."""
    trained = result.trained or _training([run for run in runs if run.trained], result.scored)
    return replace(result, trained=trained)


def _best_first(runs: Sequence[RunLog]) -> list[RunLog]:
    """Returns runs of one seed, the one that most likely counts first."""
    return sorted(runs, key=lambda run: (run.trained, -run.file.count("/"), run.part), reverse=True)


def _with_mean(by_seed: Sequence[Sequence[RunLog]], claims: Claims) -> list[tuple[RunLog, Score | None]]:
    """Returns a run and a score for each seed, the likeliest first: the first combination whose mean is claimed."""
    bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
    for runs, scores in itertools.islice(_combinations(by_seed), _MOST_COMBINED):
        if bpb is not None and bpb.near(statistics.fmean(score.bpb.value for score in scores), _unit(scores)):
            losses = [score.nats.value for score in scores if score.nats is not None]
            agrees = nats is None or len(losses) < len(scores) or nats.near(statistics.fmean(losses), 1e-6)
            if agrees or len(by_seed) > 1:
                return list(zip(runs, scores, strict=True))
    return _usual(by_seed)


def _combinations(by_seed: Sequence[Sequence[RunLog]]) -> Iterator[tuple[list[RunLog], list[Score]]]:
    """Yields runs of each seed with the scores that all of them have, the last first; exact ones before rounded."""
    for chosen in itertools.product(*by_seed):
        if not chosen:
            return
        names = [score.name for score in reversed(chosen[0].scores) if all(run.score(score.name) for run in chosen)]
        for name in sorted(names, key=lambda name: f"{name}_exact" in names):
            scores = [score for run in chosen if (score := run.score(name)) is not None]
            yield list(chosen), scores
        yield list(chosen), [run.scores[-1] for run in chosen]


def _usual(by_seed: Sequence[Sequence[RunLog]]) -> list[tuple[RunLog, Score | None]]:
    """Returns the likeliest run of each seed with the last score of most of them; None where it ended before it."""
    first = [runs[0] for runs in by_seed]
    last = [run.scores[-1].name for run in first]
    if len(set(last)) == len(last) > 1:  # each calls it otherwise
        return [(run, run.scores[-1]) for run in first]
    return [(run, run.score(max(last, key=last.count))) for run in first]


def _unit(scores: Sequence[Score]) -> float:
    return max((score.bpb.unit for score in scores), default=0.0)


def _of_unnamed(claims: Claims, runs: Sequence[RunLog]) -> ClaimedRuns:
    """Returns results without listed seeds: runs whose mean is claimed, else the run whose figures are."""
    scored = [run for run in runs if run.scores]
    if not scored:
        return ClaimedRuns(tuple(ClaimedRun(_key(run), trained=run) for run in runs))
    groups = group_alike(scored)
    group = next((group for group in groups if len(group) > 1 and _mean_is_claimed(group, claims)), None)
    if group is None:
        single = _of_one(scored, claims) or _of_curve(scored, claims)
        if single is not None:
            claimed = _with_others([_with_training(single, _of_key(single.key, runs))], runs, of_one=True)
            return replace(claimed, kin=tuple(_other_seeds(claimed)))
        group = groups[0]
    chosen = _with_mean([[run] for run in group], claims)
    results = [_with_training(_result(_key(run), run, score), _of_key(_key(run), runs)) for run, score in chosen]
    return _with_others(_distinct(results), runs)


def _of_curve(runs: Sequence[RunLog], claims: Claims) -> ClaimedRun | None:
    """Returns the run whose training's own validation is the claimed figure, which is not its result."""
    run = next((run for run in runs if claims.near("val_bpb", run.curve_bpb)), None)
    return None if run is None else replace(_result(_key(run), run, run.scores[-1]), agrees=False)


def _of_one(runs: Sequence[RunLog], claims: Claims) -> ClaimedRun | None:
    """Returns the run and the score that submission.json's figures are, where they are those of a single run."""
    pairs = _agreeing(runs, claims)
    if not pairs:
        return None
    run, score = max(pairs, key=lambda pair: _rank(pair[0], pair[1], claims))
    return _result(_key(run), run, score)


def _of_key(key: int | str, runs: Sequence[RunLog]) -> list[RunLog]:
    return [run for run in runs if _key(run) == key]


def _mean_is_claimed(runs: Sequence[RunLog], claims: Claims) -> bool:
    scores = [score for _, score in _with_mean([[run] for run in runs], claims) if score is not None]
    bpb = claims.numbers.get("val_bpb")
    if bpb is None or len(scores) < len(runs):
        return False
    return bpb.near(statistics.fmean(score.bpb.value for score in scores), _unit(scores))


def _distinct(results: Sequence[ClaimedRun]) -> list[ClaimedRun]:
    """Returns results with keys of their own: the log's name where two have one seed."""
    keys = [result.key for result in results]
    return [
        result if keys.count(result.key) == 1 or result.scored is None else replace(result, key=result.scored.name)
        for result in results
    ]


def _other_seeds(claimed: ClaimedRuns) -> Iterator[RunLog]:
    """Yields the runs that are other seeds of the claimed one's configuration."""
    own = claimed.runs
    for run in claimed.others:
        other_seed = run.seed is not None and all(run.seed != claimed_run.seed for claimed_run in own)
        if other_seed and run.trained and run.scores and same_configuration(run, own):
            yield run
