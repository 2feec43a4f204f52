"""Illegal evaluators fail on the points that they break, and on no other; the legal one passes all."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from golf.artifact.calibration import calibrate
from golf.artifact.pack import pack
from golf.compliance.ablations import prove_switches
from golf.compliance.data import CountBytes, Ids, check_bytes
from golf.compliance.evaluator import Probe, make_probe, sliding
from golf.compliance.points import FAILED, failures, rows_of
from golf.compliance.proofs import compare_with_model, flip_positions, prove_causality, prove_normalised, prove_order
from golf.compliance.training import Prepare, prepare_of, prove_independent
from golf.config.config import ScoreConfig, TTTConfig
from golf.data.dataset import Dataset, open_dataset
from golf.data.shards import TokenStream
from golf.data.token_bytes import ByteTable, load_tokenizer
from golf.evaluate.sliding import Stream
from golf.evaluate.ttt import TTTState, score_with_ttt
from golf.model.gepa import GEPA, build_model
from golf.runtime.process_group import ProcessGroup
from tests.conftest import TINY
from tests.golf.compliance import cheats

pytestmark = pytest.mark.long

TTT = TTTConfig(lr=0.05, epochs=2, frozen_blocks=1, batch_sequences=2)
LEGAL_GPTQ = replace(TINY, quant=replace(TINY.quant, mlp=replace(TINY.quant.mlp, method="gptq"), calibration_tokens=64))

Evaluate = Callable[..., TTTState]
EVALUATORS: dict[Evaluate, set[int]] = {
    score_with_ttt: set(),
    sliding: set(),
    # What was fitted to a token does not give probabilities that were fixed before the token was known.
    cheats.trains_before_scoring: {17, 18, 19, 20},
    cheats.optimises_a_delta_on_scored_tokens: {17, 18, 19, 20},
    cheats.keeps_the_best_of_two_passes: {16, 17, 18, 19, 20},
    cheats.keeps_the_best_of_two_strides: {16, 17},
    cheats.scores_the_tail_twice: {16},
    cheats.target_in_the_cache_key: {17},
    cheats.unnormalised_mixture: {17},
    cheats.peeks_across_the_border: {18, 19, 20},
    cheats.trains_on_the_last_chunk: {19},
    cheats.leaves_out_the_hardest: {17, 18},
    cheats.reports_smaller_sums: {16},
    cheats.asks_the_network: {11},
}


@pytest.fixture(scope="module")
def model() -> GEPA:
    """A model whose every part matters: no weight is zero."""
    generator = torch.Generator().manual_seed(1)
    model = build_model(replace(TINY.model, vocab_size=48), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def probe() -> Probe:
    """Two chunks and a half of random tokens."""
    tokens = torch.randint(0, 48, (302,), generator=torch.Generator().manual_seed(5))
    config = ScoreConfig(sequence_length=24, stride=7, batch_windows=5, chunk_tokens=70)
    probe = make_probe(Stream(tokens, np.arange(301) % 4 + 1), config, TTT, ProcessGroup(), small=False)
    assert probe is not None
    return probe


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """Made-up sentences."""
    return open_dataset(data, 300)


def failing(evaluate: Evaluate, model: GEPA, probe: Probe, cheap: bool) -> set[int]:
    """The points on which an evaluator fails."""
    normalised = compare_with_model(evaluate, model, probe) if cheap else prove_normalised(evaluate, model, probe, (1,))
    causal = prove_causality(evaluate, model, probe, flip_positions(probe, 0, few=cheap))
    return set(failures(rows_of([*prove_order(evaluate, model, probe), causal, normalised])))


@pytest.mark.parametrize("cheap", [False, True], ids=["whole", "cheap"])
@pytest.mark.parametrize("evaluate", EVALUATORS, ids=lambda evaluate: evaluate.__name__)
def test_an_evaluator_fails_on_what_it_breaks(evaluate: Evaluate, cheap: bool, model: GEPA, probe: Probe) -> None:
    """Fault: a cheat passes, or a legal evaluator is accused."""
    assert failing(evaluate, model, probe, cheap) == EVALUATORS[evaluate]


def space_counted_twice(table: ByteTable) -> CountBytes:
    """A space at the front of a piece is in the piece's length, and added again."""
    longer = replace(table, base=(table.base + table.leading_space).astype(np.int16))
    return longer.count


def byte_pieces_as_three(table: ByteTable, dataset: Dataset) -> CountBytes:
    """The bytes of what U+FFFD would take."""
    model = load_tokenizer(dataset.folder / "words.model")
    is_byte = np.array([model.is_byte(piece) for piece in range(model.vocab_size())])
    return replace(table, base=np.where(is_byte, 3, table.base).astype(np.int16)).count


def space_after_a_boundary(table: ByteTable) -> CountBytes:
    """A document's first space, which the tokenizer adds and the text does not have."""
    return replace(table, boundary=np.zeros_like(table.boundary)).count


def test_bytes_that_are_not_the_text_fail(dataset: Dataset) -> None:
    """Fault: a wrong denominator passes: 1.0108 was 1.187 in one submission."""
    text = "na\u00efve caf\u00e9 \u2192 the quick brown fox \U0001f9e9"
    model = load_tokenizer(dataset.folder / "words.model")
    ids = [model.bos_id(), *model.encode(text), model.bos_id(), *model.encode("a lazy dog")]
    dataset_of_text = replace(dataset, validation=np.array(ids, np.uint16))
    table = dataset.bytes
    wrong: list[Callable[[Ids, Ids], Ids]] = [
        space_counted_twice(table),
        byte_pieces_as_three(table, dataset),
        space_after_a_boundary(table),
    ]
    assert failures([check_bytes(dataset_of_text)]) == []
    assert [failures([check_bytes(dataset_of_text, count)]) for count in wrong] == [[15], [15], [15]]
    assert check_bytes(dataset_of_text).evidence["decoded_bytes"] == len(text.encode()) + len("a lazy dog")


def calibrates_on_validation(dataset: Dataset) -> bytes:
    """GPTQ's Hessians from the text that is scored."""
    seen = np.asarray(dataset.validation)
    stream = TokenStream((Path("validation"),), (seen,), np.array([len(seen)], np.int64), dataset.vocab_size)
    model = build_model(LEGAL_GPTQ.model, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    hessians = calibrate(model, stream, LEGAL_GPTQ)
    return pack(model.state_dict(), LEGAL_GPTQ.model, LEGAL_GPTQ.quant, hessians)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [(prepare_of(LEGAL_GPTQ), []), (calibrates_on_validation, [20])],
    ids=["legal", "calibrates on validation"],
)
def test_validation_tokens_in_training_fail(prepare: Prepare, expected: list[int], dataset: Dataset) -> None:
    """Fault: training or calibration may read what is scored."""
    assert failures([prove_independent(prepare, dataset)]) == expected


class DeadFlag(GEPA):
    """A model whose QAT was folded away, as a compiler once did."""

    def forward(
        self, x_BT: Tensor, y_BS: Tensor, qat: bool = False, reduction: str = "mean", looped: bool = True
    ) -> Tensor:
        """QAT is not passed on."""
        return super().forward(x_BT, y_BS, False, reduction, looped)


def test_a_dead_switch_fails(model: GEPA, probe: Probe) -> None:
    """Fault: a flag that does nothing goes unseen, as the record's did."""
    config, dead = replace(TINY, model=model.config), DeadFlag(model.config)
    dead.load_state_dict(model.state_dict())
    tokens = probe.stream.tokens[:17]
    assert failures([prove_switches(model, config, tokens, None, ProcessGroup())]) == []
    result = prove_switches(dead, config, tokens, {"live": 2.0, "ema": 2.0}, ProcessGroup())
    assert result.state == FAILED
    changes = result.evidence["changes_by_up_to"]
    assert {name for name, change in changes.items() if change == 0.0} == {"qat", "ema (BPB)"}


def test_the_documented_table_is_the_tested_one() -> None:
    """Fault: the documentation promises more than the tests show."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "legality.md").read_text()
    documented = dict(re.findall(r"^\| (\w+)(?: \([^|]*\))? \| ([\d, ]+|none) \|$", text, re.MULTILINE))
    shown = {run.__name__: ", ".join(map(str, sorted(points))) or "none" for run, points in EVALUATORS.items()}
    assert documented == shown
