"""Parameters to and from the names of the published checkpoints of the PR #598 family.

A state dictionary under the published names enters, the project's leaves, and the other way round; values
are never changed. Published files are unpickled with weights only: nothing in them is executed.

| ours | published |
|---|---|
| token_embedding.weight | tok_emb.weight |
| bigram.{table,projection}.weight, bigram.scale | bigram_emb.{embed,proj}.weight, bigram_emb.scale |
| value.{table,projection}.weight, value.scale | ve_shared.{embed,proj}.weight, ve_shared.scale |
| value.layer_scales (n) | ve_layer_scales.0 .. ve_layer_scales.n-1 (1 each) |
| smear.gate, skip_weights, skip_gates | smear_gate.gate, skip_weights, skip_gates |
| blocks.i.attention.{query,key,value,output}.weight, .query_gain | blocks.i.attn.{c_q,c_k,c_v,proj}.weight, .q_gain |
| blocks.i.mlp.{up,down}.weight, .scale, .bias | blocks.i.mlp.{up_proj,down_proj}.weight, .scale, .bias |
| blocks.i.{attention_scale,mlp_scale,residual_mix} | blocks.i.{attn_scale,mlp_scale,resid_mix} |
"""

import io
import lzma
import pickle
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.artifact.codec import decompress
from golf.config import ModelConfig

_PAIRS = [
    ("token_embedding.weight", "tok_emb.weight"),
    ("bigram.table.", "bigram_emb.embed."),
    ("bigram.projection.", "bigram_emb.proj."),
    ("bigram.scale", "bigram_emb.scale"),
    ("value.table.", "ve_shared.embed."),
    ("value.projection.", "ve_shared.proj."),
    ("value.scale", "ve_shared.scale"),
    ("smear.gate", "smear_gate.gate"),
    (".attention.query.", ".attn.c_q."),
    (".attention.key.", ".attn.c_k."),
    (".attention.value.", ".attn.c_v."),
    (".attention.output.", ".attn.proj."),
    (".attention.query_gain", ".attn.q_gain"),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
    (".attention_scale", ".attn_scale"),
    (".residual_mix", ".resid_mix"),
]
