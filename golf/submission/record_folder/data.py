"""On which data a record folder's runs were trained and scored, as far as the logs say it (points 12, 13, 15)."""

import math
import re
import statistics
from collections.abc import Sequence

from golf.compliance.points import FAILED, ONLY_RUNNING, REMARK, Cause, Evidence, PointResult, not_applicable, weighed
from golf.config.rules import SP1024_BYTES, SP1024_TOKENS
from golf.submission.record_folder.claimed import ClaimedRuns, each_once
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog, Score

LONGEST_SEQUENCE = 1 << 16
"""Tokens at the end of the validation split that a log may leave out, since they fill no sequence."""
_SMALLEST_SHARE, _MOST_BYTES = 0.9, 1.005
"""Share of the split's bytes of text: fewer are a part of it, more are counted twice or another split's."""
_TOKENS_ELSEWHERE = (45_508_608, 40_540_160, 47_851_520)
"""Tokens of the split in published logs of sp4096, of sp8192 and of sp8192 with marked capitals."""
RATIO_SLACK = 1e-4
"""Relative: logs leave out the last tokens that fill no sequence."""
_SP1024 = ["sp1024"]
_SPLIT = f"FineWeb's validation split ({SP1024_TOKENS:,} tokens under sp1024)"


def training_data(claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 12, as far as logs say it."""
    shards = sorted({run.train_shards for run in claimed.runs if run.train_shards})
    evidence = {"training_shards": shards or None}
    causes = []
    if any(run.trains_on_validation for run in claimed.runs):
        causes.append(Cause("a log's training shards are those of the validation split", "train on the training split"))
    if len(shards) > 1:
        text = f"the logs name different numbers of training shards ({' | '.join(map(str, shards))})"
        causes.append(Cause(text, "use the same"))
    if causes:
        return weighed(12, evidence, causes)
    return not_applicable(12, "whether documents are shared, only the data show", evidence)


def validation_data(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 13: FineWeb's validation split, all of it, as far as its size is known."""
    if folder.claims.claims_nothing and folder.runs:
        return not_applicable(13, "no result is claimed: which runs are meant is unknown")
    runs = each_once([*(run for _, run, _ in claimed.scored), *claimed.runs])
    tokens = sorted({run.validation_tokens for run in runs if run.validation_tokens})
    tokenizers = sorted({run.tokenizer for run in runs if run.tokenizer is not None})
    named = folder.claims.text("dataset") or folder.claims.text("data")
    datasets = sorted({run.dataset for run in runs if run.dataset is not None} | ({named} if named else set()))
    evidence: Evidence = {"validation_tokens": tokens or None, "tokenizer": tokenizers or None}
    wrong = _other_data(runs, datasets, tokens)
    if wrong is not None:
        return weighed(13, evidence | ({"dataset": datasets} if datasets else {}), [wrong])
    if not tokens:
        return not_applicable(13, "no log has the number of validation tokens", evidence)
    text_bytes = _text_bytes(claimed)
    evidence |= {"bytes_of_text": round(text_bytes)} if text_bytes is not None else {}
    if tokenizers == _SP1024:
        evidence |= {"validation_tokens_whole": SP1024_TOKENS, "validation_sha256": None}
        return weighed(13, evidence, [cause for count in tokens if (cause := _not_whole(count)) is not None])
    known = any(abs(count - split) < LONGEST_SEQUENCE for count in tokens for split in _TOKENS_ELSEWHERE)
    if text_bytes is not None and text_bytes < _SMALLEST_SHARE * SP1024_BYTES and not known:
        text = f"{tokens[0]:,} tokens of about {text_bytes:,.0f} bytes were scored; the split has {SP1024_BYTES:,}"
        return weighed(13, evidence, [Cause(f"{text}: it was not scored whole", "score all of it")])
    return not_applicable(13, "the right number is known only for the tokenizer sp1024", evidence)


def _other_data(runs: Sequence[RunLog], datasets: Sequence[str], tokens: Sequence[int]) -> Cause | None:
    """Returns why the runs were not scored on all of FineWeb's validation split, by the names in logs; None if so."""
    files = sorted({run.validation_files for run in runs if run.validation_files is not None})
    names = [*datasets, *files]
    if names and not any("fineweb" in name.lower() for name in names):
        counted = f" ({tokens[0]:,} tokens)" if tokens else ""
        text = f"scored on {names[0]}{counted}, not on {_SPLIT}: no maintainer can compare it"
        return Cause(text, "score FineWeb's split")
    of_training = [name for name in files if re.search(r"_train_|/train/", name)]
    if of_training:
        text = f"the validation files are {of_training[0]}, which are those of the training"
        return Cause(text, "score the validation split")
    limited = sorted({run.limited for run in runs if run.limited is not None})
    if limited:
        return Cause(f"the log says {limited[0]}: the validation split was not scored whole", "score all of it")
    return None


def _text_bytes(claimed: ClaimedRuns) -> float | None:
    """Returns the bytes of text that val_loss, val_bpb and the number of tokens imply; None where one is missing."""
    counts = [
        run.validation_tokens * ratio
        for _, run, score in claimed.scored
        if run.validation_tokens and (ratio := _bytes_per_token(score)) is not None
    ]
    return statistics.median(counts) if counts and all(map(math.isfinite, counts)) else None


def _bytes_per_token(score: Score) -> float | None:
    """Returns the bytes per token that val_loss / val_bpb implies; None where they do not say."""
    if score.nats is None or not score.bpb.value or not math.isfinite(score.bpb.value):
        return None
    return score.nats.value / score.bpb.value / math.log(2)


def _not_whole(tokens: int) -> Cause | None:
    """Returns what is wrong with a number of validation tokens under sp1024."""
    if tokens > SP1024_TOKENS:
        text = f"{tokens:,} tokens were scored, more than the {SP1024_TOKENS:,} of the validation split"
        return Cause(f"{text}: another split, or another export of it", "score the published split")
    if tokens < SP1024_TOKENS - LONGEST_SEQUENCE:
        text = f"{tokens:,} of {SP1024_TOKENS:,} tokens: the validation split was not scored whole"
        return Cause(text, "score all of it")
    return None


def byte_counts(claimed: ClaimedRuns, validation: PointResult) -> PointResult:
    """Returns the result on point 15, as far as logs say it: the split's tokens and bytes fix val_loss / val_bpb.

    Args: validation: the result on the split; another split has another ratio.
    """
    ratios: dict[str, float] = {}
    slack = RATIO_SLACK
    for result, _, score in claimed.scored:
        ratio = _bytes_per_token(score)
        if ratio and math.isfinite(ratio) and score.nats is not None:
            ratios[str(result.key)] = ratio
            slack = max(slack, RATIO_SLACK + score.nats.unit / score.nats.value + score.bpb.unit / score.bpb.value)
    evidence: Evidence = {"bytes_per_token": ratios}
    if ratios and validation.state == FAILED:
        return not_applicable(15, "another split has other bytes a token", evidence)
    known = {run.tokenizer for _, run, _ in claimed.scored} == {*_SP1024}
    right = SP1024_BYTES / SP1024_TOKENS if known else _of_most(list(ratios.values()), slack)
    wrong = {key: ratio for key, ratio in ratios.items() if right is not None and abs(ratio - right) > slack * right}
    text_bytes = _text_bytes(claimed)
    if wrong:
        shown = ", ".join(f"{key} {ratio:.5f}" for key, ratio in list(wrong.items())[:4])
        whose = "sp1024's validation split has" if known else "the other seeds have"
        text = f"val_loss / val_bpb means {shown} bytes a token; {whose} {right:.5f}"
        cause = Cause(text, "count each token's bytes as the decoded text has them")
        return weighed(15, evidence | {"bytes_per_token_right": right}, [cause])
    if ratios and not known and text_bytes is not None and text_bytes > _MOST_BYTES * SP1024_BYTES:
        text = f"val_loss / val_bpb and the tokens mean {text_bytes:,.0f} bytes of text; the split has {SP1024_BYTES:,}"
        cause = Cause(f"{text}: of one evaluation, they agree", "say how val_bpb was computed", REMARK)
        return weighed(15, evidence | {"bytes_of_text": round(text_bytes)}, [cause])
    return not_applicable(15, ONLY_RUNNING)


def _of_most(ratios: list[float], slack: float) -> float | None:
    """Returns the ratio that all but one of three or more have."""
    middle = statistics.median_low(ratios) if ratios else 0.0
    same = [ratio for ratio in ratios if abs(ratio - middle) <= slack * middle]
    return middle if len(ratios) > 2 and len(same) == len(ratios) - 1 else None
