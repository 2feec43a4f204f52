"""A tiny corpus with every kind of character, and a tokenizer trained on it without this project's code."""

import io
import random
from pathlib import Path

import pytest
import sentencepiece

WORDS = ["the", "of", "and", "to", "in", "is", "you", "that", "it", "for", "on", "are", "as", "with", "they", "this"]
ODD = [
    "naïve",
    "über",
    "日本語",
    "漢字",
    "🙂",
    "👩‍👩‍👧",
    "x = 1\n    return x",
    "\ttab",
    "a  b",
    "<s>",
    "<0x41>",
    "e\u0301",
    "\r\n",
]


def tiny_texts(number: int, seed: int = 0) -> list[str]:
    """`number` different documents of about 400 bytes, with indents, emoji, CJK and markup among the words."""
    chance = random.Random(seed)
    return [f"Page {index}.\n\n" + " ".join(_word(chance) for _ in range(80)) + "\n" for index in range(number)]


def _word(chance: random.Random) -> str:
    word = chance.choice(ODD) if chance.random() < 0.1 else chance.choice(WORDS)
    return word + chance.choice(["", "", "", ",", ".\n", str(chance.randrange(99))])


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sixty tiny documents."""
    return tiny_texts(60)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden numbers, which lies beside the project, or a skip."""
    folder = Path(__file__).parents[3] / "../shared/golden"
    if not folder.is_dir():
        pytest.skip(f"golden numbers are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def plain_tokenizer(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A byte-fallback BPE model with whitespace-only pieces, the hardest case for counting bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["\n    "],
        num_threads=1,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("tokenizer") / "plain.model"
    path.write_bytes(model.getvalue())
    return path
