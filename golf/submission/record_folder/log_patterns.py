"""The forms of the lines in the logs below `records/` of openai/parameter-golf.

No pattern looks far ahead, so that a hostile log takes seconds at most.
"""

import re

from golf.submission.record_folder.numbers import NUMBER, SIZE

_COUNT = r"(\d[\d,]{0,30})"
_SECONDS = r"(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds|m|min)\b"
_PLAIN_SECONDS = r" *(\d+(?:\.\d+)?) (s)"
_IS = r"\"?\s*[:=]\s*"
_CODEC = r"[^:|=\n]{0,60}"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


TELLING = _pattern(
    r"bpb|loss|seed|code|model|total|bytes|budget|artifact|submission|step|time|train |\d s$|gptq|calib|hessian|"
    r"val_|scor|first|world|device|gpu|nvidia|tesla|apple|\d ?[x×*] ?[a-z]|tokens|shards|loader|fineweb|running p|"
    r"python|batches|limited|\d+/\d+"
)
"""Only lines with one of these are looked at further."""
BPB, NATS = _pattern(rf"\bval_bpb{_IS}{NUMBER}"), _pattern(rf"\bval_loss{_IS}{NUMBER}")
PROGRESS = _pattern(r"\b\d+/\d+\b")
"""Progress of something."""
CURVE = _pattern(r"\b\d+/\d+\b|(?:step|iter|epoch|chunk)[\s:=_]*\d")
CURVE_LINE = re.compile(r"(?:step:? ?)?\d+/\d+ (?:train|val)_loss")
CURVE_BPB = _pattern(rf"^(?:step:? ?)?\d+/\d+ .{{0,60}}\bval_bpb{_IS}{NUMBER}")
TOOK = _pattern(rf"\b(?:eval_time|elapsed|t){_IS}{_SECONDS}")
SEED = _pattern(rf"(?:^|[\s\[(,])seed{_IS}(\d{{1,18}})\b")
SEED_OF_NAME, S_OF_NAME = _pattern(r"seed[_-]?(\d{1,18})(?!\d)"), _pattern(r"(?:^|[_-])s[_-]?(\d{1,18})(?!\d)")
CODE = _pattern(
    rf"\b(?:code[ _]size|code[ _]bytes|bytes_code|(?<!exit )(?<!return )(?<!status )code(?=:? \d[\d,]* bytes))"
    rf"(?:\s*\([^)]{{0,40}}\))?{_IS}{_COUNT}(?![\d.]) ?(?![km]i?b)"
)
CODE_HASH = _pattern(rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b")
MODEL = _pattern(
    rf"\b(?:(?:serialized|compressed|quantized|packed)[ _]model(?:[ _]size)?[ _]{_CODEC}|"
    r"(?!raw|serialized)[\w+.-]{2,30} model|"
    rf"model_bytes|bytes_model\w{{0,20}}|compressed model(?: size)?|artifact model){_IS}{SIZE}"
)
RAW_MODEL = _pattern(rf"\bserialized[ _]model{_IS}{_COUNT} bytes")
TOTAL = _pattern(
    rf"\b(?:total[ _]submission(?:[ _]size)?(?:[ _]{_CODEC})?|submission[ _]size|total(?:_| )artifact(?: size)?|"
    r"total_bytes|bytes_total|"
    rf"artifact(?:_size|_bytes| size)?){_IS}{SIZE}(?!\w|\.)"
)
BUDGET = _pattern(rf"\bbudget{_IS}{_COUNT}/16,?000,?000\b")
RAW_TOTAL = _pattern(rf"\btotal[ _]submission[ _]size{_IS}{_COUNT} bytes")
STEP = _pattern(r"\bstep\"?\s*[:= ]\s*(\d{1,12})/\d|^(\d{1,12})/\d+ (?:train|val)_loss")
TRAINED = _pattern(rf"\btrain(?:ing)?_time{_IS}{_SECONDS}|^train {_PLAIN_SECONDS}$")
STOPPED = _pattern(rf"\bstopping_early\b.{{0,80}}\btrain_time{_IS}{_SECONDS}")
STEP_TIME = _pattern(rf"\bstep_avg{_IS}{_SECONDS}")
EVALUATED = _pattern(rf"\btotal_eval_time{_IS}{_SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB")
CALIBRATED = _pattern(
    rf"\b(?:calibrat\w{{0,9}}|hessians?)\b.{{0,80}}?(?:\b(?:in|took|done|complete|collection)\b:?|\() ?{_SECONDS}|"
    rf"calibration(?:_time)?\s*[:=]\s*{_SECONDS}"
)
GENERATED = _pattern(
    rf"\bgptq:? ?generated \d[\d,]* (?:sequences|seqs|tokens).{{0,40}}?\bin {_SECONDS}|"
    rf"\bar_selfgen\w{{0,20}}={_SECONDS}"
)
"""Sequences that the model itself makes after training, for the calibration."""
NOT_CALIBRATION = _pattern(r"compress|saved|serializ|quantized in|reserv")
WORLD = _pattern(rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b")
DATASET = _pattern(rf"\b(?:train_loader:\s*)?dataset(?:_name)?{_IS}\"?([\w.+-]{{1,80}})")
TOKENIZER = _pattern(r"\bfineweb\w{0,20}?_((?:sp|byte)?)([1-9]\d{2,5})(?:_bpe\b|\b|_)")
SHARDS = _pattern(rf"\btrain_shards{_IS}{_COUNT}")
VALIDATION = _pattern(rf"(?:\bval(?:idation)?[_ ]tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){_COUNT}")
LIMITED = _pattern(
    r"\b(\d[\d,]* (?:eval |val )?(?:batches|sequences|documents|docs|tokens) \(?limited\)?|"
    r"(?:eval|val)\w{0,20} limited to \d[\d,]* \w+|"
    r"(?:evaluat|scor|validat)\w{0,5}(?: on)?(?: the)? first \d[\d,]* (?:documents|docs|sequences|batches|tokens)|"
    r"val_doc_fraction: 0?\.\d+|val_max_tokens[:=] ?[1-9]\d*|ttt_eval_batches: \d[\d,]*)"
)
VALIDATION_FILES = _pattern(r"\bval_loader\b.{0,200}?\bpattern=(\S{1,300})|^\s{0,8}val_files: (\S{1,300})")
ON_VALIDATION = _pattern(
    r"\btrain_loader\b.{0,300}?(fineweb_val|dataset:\S{0,60}val_?only)|^\s{0,8}train_files: \S{0,300}(fineweb_val)"
)
PYTHON = _pattern(r"\b(?:running python|python(?:_version)?\"?\s*[:=]) ?\"?(\d+\.\d+(?:\.\d+)?)")
