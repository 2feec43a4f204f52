"""Whether a model is compiled, and for which device."""

from pathlib import Path

import pytest
import torch

from golf.config.config import ModelConfig
from golf.model.compile import activation_dtype, compile_model
from golf.model.gepa import GEPA

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own, as it loads its compiler
def test_the_choice_of_the_configuration_counts() -> None:
    """Fault: a CPU that compiles for a minute unasked, or a GPU that never does."""
    with torch.device("meta"):
        model = GEPA(ModelConfig())
    plain = {
        (choice, device): compile_model(model, choice, device) is model
        for choice in (None, False)
        for device in (CPU, GPU)
    }
    assert plain == {(None, CPU): True, (None, GPU): False, (False, CPU): True, (False, GPU): True}
    assert compile_model(model, True, CPU) is not model
    assert (activation_dtype(CPU), activation_dtype(GPU)) == (torch.float32, torch.bfloat16)


def test_a_missing_compiler_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fault: a traceback of the compiler's insides in the middle of a run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with torch.device("meta"):
        model = GEPA(ModelConfig())
    with pytest.raises(ValueError, match="compile is true, but neither"):
        compile_model(model, True, CPU)
