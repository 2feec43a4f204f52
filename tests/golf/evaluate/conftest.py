"""A tiny model and a random stream."""

import numpy as np
import pytest
import torch

from golf.config.config import ScoreConfig
from golf.evaluate.sliding import Stream
from golf.model.gepa import GEPA, build_model
from tests.golf.tiny import TINY


@pytest.fixture
def model() -> GEPA:
    """A model whose every part matters: no weight is zero."""
    torch.manual_seed(1)
    model = build_model(TINY, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def stream() -> Stream:
    """301 targets: not a multiple of any length used."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 48, (302,), generator=generator)
    return Stream(tokens, np.arange(301) % 4 + 1)


@pytest.fixture
def config() -> ScoreConfig:
    """Short windows and chunks."""
    return ScoreConfig(sequence_length=24, stride=7, batch_windows=5, chunk_tokens=70)
