"""Which runs of a record folder its submission.json claims: found by their scores and sizes, not by where they lie.

Logs are taken one by one. A claimed result may have its score in one log and its training in another, as where the same
artifact was evaluated again later; the runs that are left over are told as other runs.
"""

import itertools
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from golf.submission.record_folder.claims import Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog, Score
from golf.submission.record_folder.numbers import ParsedNumber

_MOST_COMBINED = 2000
"""Combinations of runs and results whose mean is compared with the claimed one."""


@dataclass(frozen=True, eq=False)
class ClaimedRun:
    """One claimed result.

    Attributes:
        key: the seed; the log's name where neither it nor submission.json tells one.
        scored: the run that has the score; None where no log has a result of the seed.
        score: the score that is claimed, or the last one where none agrees.
        agrees: whether the score is the claimed one.
        trained: the run that tells of its training.
        claims: what submission.json tells of the seed.
    """

    key: int | str
    scored: RunLog | None = None
    score: Score | None = None
    agrees: bool = False
    trained: RunLog | None = None
    claims: Claims = field(default_factory=Claims)

    @property
    def run(self) -> RunLog | None:
        """The run that tells of the training, else the one with the score."""
        return self.trained or self.scored

    @property
    def logs(self) -> tuple[RunLog, ...]:
        """The runs that tell of it, each once."""
        runs = [run for run in (self.trained, self.scored) if run is not None]
        return tuple(runs[:1] if len(runs) == 2 and runs[0] is runs[1] else runs)

    def __str__(self) -> str:
        return f"seed {self.key}" if isinstance(self.key, int) else self.key


@dataclass(frozen=True)
class ClaimedRuns:
    """The claimed results, and the runs that none of them is made of.

    Attributes:
        of_one: whether the figures of submission.json are those of one run and no mean.
        kin: where no seeds are listed, the other runs that are other seeds of the same configuration.
    """

    results: tuple[ClaimedRun, ...] = ()
    others: tuple[RunLog, ...] = ()
    of_one: bool = False
    kin: tuple[RunLog, ...] = ()

    @property
    def runs(self) -> tuple[RunLog, ...]:
        """The runs that tell of the trainings, each once."""
        found = {id(one.run): one.run for one in self.results if one.run is not None}
        return tuple(found.values())

    @property
    def scored(self) -> tuple[ClaimedRun, ...]:
        """The results that a log has."""
        return tuple(one for one in self.results if one.score is not None)

    @property
    def bpb(self) -> list[float]:
        """Bits per byte of each, from the logs."""
        return [one.score.bpb.value for one in self.results if one.score is not None]

    @property
    def nats(self) -> list[float]:
        """Nats per token of each; empty where a log does not tell them."""
        losses = [one.score.nats for one in self.results if one.score is not None]
        found = [loss.value for loss in losses if loss is not None and math.isfinite(loss.value)]
        return found if len(found) == len(losses) else []

    def unit(self, name: str) -> float:
        """Of the last decimal of the logs' val_bpb or val_loss."""
        scores = [one.score for one in self.results if one.score is not None]
        numbers = [score.bpb if name == "val_bpb" else score.nats for score in scores]
        return max((number.unit for number in numbers if number is not None), default=0.0)


def claimed_runs(folder: RecordFolder) -> ClaimedRuns:
    """The runs that the folder's submission.json claims."""
    claims, runs = folder.claims, _without_copies([run for run in folder.runs if run.scores or run.trained])
    if claims.by_seed:
        results = [_of_seed(seed, claims.by_seed.get(seed, Claims()), runs) for seed in claims.seeds or claims.by_seed]
        if any(one.run is not None for one in results):
            return _with_others(_without_repeats(results), runs)
    if claims.seeds:
        results = _of_seeds(claims, runs)
        if any(one.run is not None for one in results):
            return _with_others(results, runs, of_one=len(results) == 1)
    return _of_unnamed(claims, runs)


def _without_copies(runs: Sequence[RunLog]) -> list[RunLog]:
    """Each run once: a log may lie in the folder twice, under another name."""
    kept: list[RunLog] = []
    for run in sorted(runs, key=lambda run: (run.seed_of_name is None, run.file.count("/"))):
        if not any(_is_copy(run, other) for other in kept):
            kept.append(run)
    return [run for run in runs if any(run is other for other in kept)]


def _is_copy(run: RunLog, other: RunLog) -> bool:
    """Whether two logs are of one and the same run."""
    if not run.scores or run.seed != other.seed:
        return False
    facts = (run.scores, run.steps, run.train_seconds, run.model_bytes, run.total_bytes)
    return facts == (other.scores, other.steps, other.train_seconds, other.model_bytes, other.total_bytes)


def _with_others(results: Sequence[ClaimedRun], runs: Sequence[RunLog], of_one: bool = False) -> ClaimedRuns:
    taken = {id(run) for one in results for run in one.logs}
    return ClaimedRuns(tuple(results), tuple(run for run in runs if id(run) not in taken), of_one)


def _key(run: RunLog) -> int | str:
    """What a run is called: its seed, or where another seed stands in the file's name, that one."""
    seed = run.seed_of_name if run.seed_of_name is not None else run.seed
    return run.name if seed is None else seed


def _of_seed(seed: int, claims: Claims, runs: Sequence[RunLog]) -> ClaimedRun:
    """The result of one seed: of the runs of that seed the one whose score and size agree best."""
    own = [run for run in runs if seed in (run.seed, run.seed_of_name)]
    bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
    candidates = [(run, score) for run in own for score in run.scores]
    agreeing = [(run, score) for run, score in candidates if _agrees(score, bpb, nats)]
    trainings = [run for run in own if run.trained]
    if agreeing:
        run, score = max(agreeing, key=lambda pair: _rank(pair[0], pair[1], claims))
        return ClaimedRun(seed, run, score, True, run if run.trained else _training(trainings, run), claims)
    scored = [run for run in own if run.scores]
    if not scored:
        return ClaimedRun(seed, trained=_training(trainings, None), claims=claims)
    run = max(scored, key=lambda one: _rank(one, one.scores[-1], claims))
    return ClaimedRun(seed, run, run.scores[-1], bpb is None, run if run.trained else _training(trainings, run), claims)


def _agrees(score: Score, bpb: ParsedNumber | None, nats: ParsedNumber | None) -> bool:
    """Whether a score is the claimed one: by the bits per byte, where these are not told by the loss."""
    if bpb is not None:
        return bpb.near(score.bpb.value, score.bpb.unit)
    return nats is not None and score.nats is not None and nats.near(score.nats.value, score.nats.unit)


def _rank(run: RunLog, score: Score, claims: Claims) -> tuple[bool, bool, bool, int, int, int]:
    """How well a run suits: its loss and size agree, it was trained there, it lies at the top, it is the last."""
    nats = claims.numbers.get("val_loss")
    loss = nats is not None and score.nats is not None and nats.near(score.nats.value, score.nats.unit)
    sizes = [claims.numbers[name] for name in ("bytes_total", "bytes_either", "bytes_model") if name in claims.numbers]
    own = [size.value for size in (run.total_bytes, run.model_bytes) if size is not None]
    same = any(size.is_size(value) for size in sizes for value in own)
    exact = -int(1e8 * score.bpb.unit)
    return loss, same, run.trained, -run.file.count("/"), run.part, exact


def _training(trainings: Sequence[RunLog], scored: RunLog | None) -> RunLog | None:
    """The training whose artifact a later evaluation scored: one of the same size, else the last at the top."""
    size = scored.model_bytes if scored is not None else None
    same = [run for run in trainings if size is not None and run.model_bytes == size]
    return max(same or trainings, key=lambda run: (-run.file.count("/"), run.part), default=None)


def _without_repeats(results: Sequence[ClaimedRun]) -> list[ClaimedRun]:
    """Each run for one seed only: where logs tell another seed than their names, two may have found the same one."""
    seen: dict[int, ClaimedRun] = {}
    for one in results:
        if one.scored is not None:
            other = seen.get(id(one.scored))
            if other is None or (one.agrees and not other.agrees):
                seen[id(one.scored)] = one
    return [
        one if one.scored is None or seen[id(one.scored)] is one else ClaimedRun(one.key, claims=one.claims)
        for one in results
    ]


def _of_seeds(claims: Claims, runs: Sequence[RunLog]) -> list[ClaimedRun]:
    """The results of listed seeds without figures of each: those whose mean is the claimed one."""
    by_seed = {seed: [run for run in runs if run.scores and _key(run) == seed] for seed in claims.seeds}
    by_seed = {seed: own or [run for run in runs if run.scores and run.seed == seed] for seed, own in by_seed.items()}
    present = {seed: _best_first(own) for seed, own in by_seed.items() if own}
    chosen = _with_mean(list(present.values()), claims)
    results = {seed: _result(seed, run, score) for seed, (run, score) in zip(present, chosen, strict=True)}
    trainings = [run for run in runs if run.trained]
    return [
        _with_training(
            results.get(seed, ClaimedRun(seed)), [run for run in trainings if seed in (run.seed, run.seed_of_name)]
        )
        for seed in claims.seeds
    ]


def _result(key: int | str, run: RunLog, score: Score | None) -> ClaimedRun:
    """A result; without a score where the run ended before it."""
    return ClaimedRun(key, None if score is None else run, score, score is not None, run if run.trained else None)


def _with_training(one: ClaimedRun, trainings: Sequence[RunLog]) -> ClaimedRun:
    if one.trained is not None or not trainings:
        return one
    return ClaimedRun(one.key, one.scored, one.score, one.agrees, _training(trainings, one.scored), one.claims)


def _best_first(runs: Sequence[RunLog]) -> list[RunLog]:
    """Runs of one seed, the one that most likely counts first."""
    return sorted(runs, key=lambda run: (run.trained, -run.file.count("/"), run.part), reverse=True)


def _with_mean(own: Sequence[Sequence[RunLog]], claims: Claims) -> list[tuple[RunLog, Score | None]]:
    """One run and score for each seed: the first combination of a result that all have whose mean is the claimed one.

    Args: own: the runs of each seed that has one, the likeliest first.
    """
    bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
    for runs, scores in itertools.islice(_combinations(own), _MOST_COMBINED):
        if bpb is not None and bpb.near(statistics.fmean(score.bpb.value for score in scores), _unit(scores)):
            losses = [score.nats.value for score in scores if score.nats is not None]
            told_so = nats is None or len(losses) < len(scores) or nats.near(statistics.fmean(losses), 1e-6)
            if told_so or len(own) > 1:
                return list(zip(runs, scores, strict=True))
    return _usual(own)


def _combinations(own: Sequence[Sequence[RunLog]]) -> Iterator[tuple[list[RunLog], list[Score]]]:
    """Runs of each seed with the results that all of them have, from the last on; exact figures before rounded ones."""
    for chosen in itertools.product(*own):
        if not chosen:
            return
        names = [score.name for score in reversed(chosen[0].scores) if all(run.score(score.name) for run in chosen)]
        for name in sorted(names, key=lambda name: f"{name}_exact" in names):
            scores = [score for run in chosen if (score := run.score(name)) is not None]
            yield list(chosen), scores
        yield list(chosen), [run.scores[-1] for run in chosen]


def _usual(own: Sequence[Sequence[RunLog]]) -> list[tuple[RunLog, Score | None]]:
    """The likeliest run of each seed with the last result of most of them; one that ended before it has none."""
    first = [runs[0] for runs in own]
    last = [run.scores[-1].name for run in first]
    if len(set(last)) == len(last) > 1:  # each calls it otherwise
        return [(run, run.scores[-1]) for run in first]
    return [(run, run.score(max(last, key=last.count))) for run in first]


def _unit(scores: Sequence[Score]) -> float:
    return max((score.bpb.unit for score in scores), default=0.0)


def _of_unnamed(claims: Claims, runs: Sequence[RunLog]) -> ClaimedRuns:
    """Results without listed seeds: runs whose mean is claimed, else the one whose figures are."""
    scored = [run for run in runs if run.scores]
    if not scored:
        return ClaimedRuns(tuple(ClaimedRun(_key(run), trained=run) for run in runs))
    groups = _alike(scored)
    kin = next((group for group in groups if len(group) > 1 and _mean_is_claimed(group, claims)), None)
    if kin is None:
        one = _of_one(scored, claims) or _of_curve(scored, claims)
        if one is not None:
            found = _with_others([_with_training(one, _trainings_of(one.scored, runs))], runs, of_one=True)
            return replace(found, kin=tuple(_other_seeds(found)))
        kin = groups[0]
    chosen = _with_mean([[run] for run in kin], claims)
    results = [_with_training(_result(_key(run), run, score), _trainings_of(run, runs)) for run, score in chosen]
    return _with_others(_distinct(results), runs)


def _of_curve(runs: Sequence[RunLog], claims: Claims) -> ClaimedRun | None:
    """The run whose training's own validation is the claimed figure, which is not its result."""
    bpb = claims.numbers.get("val_bpb")
    for run in runs:
        if bpb is not None and run.curve_bpb is not None and bpb.near(run.curve_bpb.value, run.curve_bpb.unit):
            return replace(_result(_key(run), run, run.scores[-1]), agrees=False)
    return None


def _of_one(runs: Sequence[RunLog], claims: Claims) -> ClaimedRun | None:
    """The run and the score that submission.json's figures are, where they are those of a single run."""
    bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
    found = [(run, score) for run in runs for score in run.scores if _agrees(score, bpb, nats)]
    if not found:
        return None
    run, score = max(found, key=lambda pair: _rank(pair[0], pair[1], claims))
    return _result(_key(run), run, score)


def _trainings_of(run: RunLog | None, runs: Sequence[RunLog]) -> list[RunLog]:
    return [other for other in runs if run is not None and other.trained and _key(other) == _key(run)]


def _mean_is_claimed(runs: Sequence[RunLog], claims: Claims) -> bool:
    scores = [score for _, score in _with_mean([[run] for run in runs], claims) if score is not None]
    bpb = claims.numbers.get("val_bpb")
    if bpb is None or len(scores) < len(runs):
        return False
    return bpb.near(statistics.fmean(score.bpb.value for score in scores), _unit(scores))


def _distinct(results: Sequence[ClaimedRun]) -> list[ClaimedRun]:
    """Results with keys of their own: the log's name where two have one seed."""
    keys = [one.key for one in results]
    return [
        one
        if keys.count(one.key) == 1 or one.scored is None
        else ClaimedRun(one.scored.name, one.scored, one.score, one.agrees, one.trained, one.claims)
        for one in results
    ]


def _alike(runs: Sequence[RunLog]) -> list[list[RunLog]]:
    """Groups of runs that may be the seeds of one configuration, the likeliest first.

    By the stem of the file's name, by the folder and by all settings; of several runs in one file the last counts.
    """
    latest = list({run.file: run for run in runs}.values())
    groups: list[list[RunLog]] = []
    for same in (_stem, _folder, lambda run: "any"):
        parts: dict[tuple[str, str | None, int | None], list[RunLog]] = {}
        for run in latest:
            parts.setdefault((same(run), run.tokenizer, run.validation_tokens), []).append(run)
        more = sorted(parts.values(), key=lambda group: (-len(group), group[0].file.count("/")))
        groups += more
        groups += [[run for run in group if _same(run, group[0])] for group in more if len(group) > 2]
    return groups


def _stem(run: RunLog) -> str:
    """A file's name without the numbers that tell runs apart."""
    plain = re.sub(r"(?:[_-]?(?:seed|rerun|run|s|final)?[_-]?\d+)+", "", run.file.lower())
    return re.sub(r"[_-]+(?=[./]|$)", "", plain.replace("rerun", "train"))


def _folder(run: RunLog) -> str:
    return run.file.rpartition("/")[0]


def _other_seeds(claimed: ClaimedRuns) -> Iterator[RunLog]:
    """Runs that are other seeds of the claimed one's configuration."""
    own = claimed.runs
    for run in claimed.others:
        other_seed = run.seed is not None and all(run.seed != one.seed for one in own)
        if other_seed and run.trained and run.scores and same_configuration(run, own):
            yield run


def same_configuration(run: RunLog, others: Sequence[RunLog]) -> bool:
    """Whether a run is another try of the same configuration: the same code, data and settings but for the seed."""
    return any(_same(run, other) for other in others)


def _same(run: RunLog, other: RunLog) -> bool:
    one, two = _identity(run), _identity(other)
    return not any(one[name] != two[name] for name in one.keys() & two.keys())


def _identity(run: RunLog) -> Mapping[str, object]:
    """What two runs of one configuration have in common, as far as the log tells it."""
    facts = {
        **run.settings,
        "tokenizer ": run.tokenizer,
        "validation tokens ": run.validation_tokens,
        "code ": run.code_sizes or None,
        "world size ": run.world_size,
    }
    return {name: value for name, value in facts.items() if value is not None}
