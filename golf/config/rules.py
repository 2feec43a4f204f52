"""Limits of the competition's tracks, as numbers.

Source: openai/parameter-golf, its README and issues #402 and #1017.
"""

from golf.config.config import RunConfig

RECORD, NON_RECORD = "record", "non-record"
TRACK_FOLDERS = {RECORD: "track_10min_16mb", NON_RECORD: "track_non_record_16mb"}
"""Folder of each track below records/."""
TRACK_SECONDS: dict[str, float | None] = {RECORD: 600.0, NON_RECORD: None}
"""Seconds that a track allows for training, and again for evaluation."""
RECORD_DEVICE = "8 x ", "H100"
"""Number and kind of the devices that the record track is timed on."""
CAP_BYTES = RunConfig().cap_bytes
"""Largest sum of model and code."""
MIN_SEEDS = 3
"""Seeds that a result needs."""
MARGIN_NATS = 0.005
"""Nats per token by which a claimed record has to beat the previous one."""
P_CLAIM, P_LOOSE = 0.01, 0.25
"""Significance levels of a claim: as the rules state it, and as the board was later ordered."""
SP1024_TOKENS, SP1024_BYTES = 62_021_846, 151_080_891
"""Size of the competition's validation split under its tokenizer of 1,024 pieces."""
RECIPE_PR = 598
"""Pull request of the GEPA recipe."""
