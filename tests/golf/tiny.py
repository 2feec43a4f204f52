"""The smallest model that has every part of the recipe."""

from golf.config.config import ModelConfig

TINY = ModelConfig(
    vocab_size=48,
    num_layers=4,
    model_dim=32,
    num_heads=4,
    num_kv_heads=2,
    mlp_hidden=48,
    rope_dims=4,
    rope_train_length=16,
    bigram_buckets=20,
    bigram_dim=8,
    xsa_layers=2,
    value_dim=8,
    value_layers=(2, 3),
)
