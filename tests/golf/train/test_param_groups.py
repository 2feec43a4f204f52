"""Groups and learning rates against the recipe's sentences, and against what the optimisers then do."""

import pytest
import torch

from golf.config.config import ModelConfig, OptimizerConfig, WeightDecayConfig
from golf.config.presets import PRESETS
from golf.model.gepa import GEPA, build_model
from golf.runtime.process_group import ProcessGroup
from golf.train.param_groups import UNTRAINED, group_lr, make_optimizers, optimizer_group
from golf.train.train_state import TrainState

RATES = OptimizerConfig(matrix_lr=0.011, scalar_lr=0.013, embedding_lr=0.017, decoder_lr_multiplier=3.0)
TINY = ModelConfig(
    vocab_size=31,
    num_layers=5,
    model_dim=16,
    num_heads=2,
    num_kv_heads=1,
    mlp_hidden=12,
    rope_dims=4,
    bigram_buckets=9,
    bigram_dim=4,
    xsa_layers=1,
    value_dim=4,
    value_layers=(3, 4),
)


def recipe_rate(name: str, ndim: int, num_layers: int) -> tuple[str, float] | None:
    """Optimiser and peak rate of a parameter by the recipe's words; None: in no group."""
    if name.startswith("blocks."):
        decoder = int(name.split(".")[1]) >= num_layers // 2
        matrix = ndim == 2 and "residual_mix" not in name
        return ("muon", 0.011 * (3 if decoder else 1)) if matrix else ("adamw", 0.013 * (3 if decoder else 1))
    if name == "bigram.scale":
        return None
    if name == "bigram.projection.weight":
        return "muon", 0.011
    return "adamw", 0.017 if name == "token_embedding.weight" else 0.013


def rounded(place: tuple[str, float]) -> tuple[str, float]:
    """Without the last bits of a product."""
    return place[0], round(place[1], 12)


def all_rates(model: GEPA) -> dict[str, list[tuple[str, float]]]:
    """Every place in the optimisers in which each parameter stands."""
    parameters = dict(model.named_parameters())
    muon, adamw = make_optimizers(parameters, model.num_encoder, RATES, ProcessGroup())
    places: dict[str, list[tuple[str, float]]] = {name: [] for name in parameters}
    names = {id(parameter): name for name, parameter in parameters.items()}
    for matrix, lr in zip(muon.matrices, muon.lrs, strict=True):
        places[names[id(matrix)]].append(rounded(("muon", lr)))
    for settings in adamw.param_groups:
        assert settings["lr"] == settings["peak_lr"]
        for parameter in settings["params"]:
            places[names[id(parameter)]].append(rounded(("adamw", settings["lr"])))
    return places


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        ModelConfig(**(vars(TINY) | {"bigram_buckets": None, "value_dim": None, "value_layers": ()})),
        ModelConfig(**(vars(TINY) | {"num_layers": 2, "value_layers": (1,)})),
        ModelConfig(**(vars(TINY) | {"num_layers": 12, "value_layers": (1, 10)})),
        *(preset.model for name, preset in PRESETS.items() if name in ("demo", "pr598")),
    ],
)
def test_every_parameter_stands_in_its_one_place(config: ModelConfig) -> None:
    """Catches a parameter that is not trained, trained twice, or with another half's rate."""
    with torch.device("meta"):
        model = GEPA(config)
    places = all_rates(model)
    for name, parameter in model.named_parameters():
        expected = recipe_rate(name, parameter.ndim, config.num_layers)
        assert places[name] == ([] if expected is None else [rounded(expected)]), name


@pytest.mark.parametrize("name", ["blocks.4.attention_scale", "blocks.10.mlp.up.weight", "smear.gate", "bigram.scale"])
def test_rate_of_a_name_is_that_of_its_group(name: str) -> None:
    """Catches "10" compared as text with the number of encoder blocks."""
    group = optimizer_group(name, 5)
    expected = recipe_rate(name, 2 if name.endswith(".weight") else 1, 11)
    assert (group == UNTRAINED) == (expected is None)
    if expected is not None:
        assert rounded((group.split("_")[0], group_lr(group, RATES))) == rounded(expected)


def test_one_step_moves_all_but_the_bigram_scale() -> None:
    """Catches a parameter that is in a group on paper but whose gradient the optimiser never sees."""
    state = TrainState(build_model(TINY, 3), RATES, ProcessGroup())
    before = state.live_weights()
    for gradient in state.gradients:
        gradient.normal_(generator=torch.Generator().manual_seed(4))
    state.adamw.step()
    state.muon.step(1.0, 0.9)
    still = [name for name, tensor in state.live_weights().items() if torch.equal(tensor, before[name])]
    assert still == ["bigram.scale"]


def test_settings_reach_the_optimisers() -> None:
    """Catches a decay, beta or epsilon that stays at the library's default."""
    decay = WeightDecayConfig(matrices=0.3, embedding=0.2, others=0.1)
    config = OptimizerConfig(beta1=0.7, beta2=0.8, epsilon=1e-5, weight_decay=decay, newton_schulz_steps=2)
    parameters = dict(build_model(TINY, 0).named_parameters())
    muon, adamw = make_optimizers(parameters, 2, config, ProcessGroup())
    assert (muon.weight_decay, muon.steps) == (0.3, 2)
    for settings in adamw.param_groups:
        assert settings["betas"] == (0.7, 0.8)
        is_embedding = settings["params"][0] is parameters["token_embedding.weight"]
        assert (settings["eps"], settings["weight_decay"]) == (1e-5, 0.2 if is_embedding else 0.1)
        assert not settings["amsgrad"]
