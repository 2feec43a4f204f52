"""All stages of a run in one process group: train, pack, and the ladder of scores.

A stage whose result is there for exactly these inputs is not run again; an interrupted one continues where it was
saved.
"""

from golf.pipeline.evaluation import measure, rungs_of
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.results import RungResult, RunResults
from golf.train.hooks import NO_HOOKS, Hooks
from golf.train.run_log import exact_line, head_lines, rung_line, size_lines


def run_stages(run: StageContext, code: bytes, hooks: Hooks = NO_HOOKS, evaluate: bool = True) -> RunResults:
    """Runs all stages; `hooks.log` receives the whole log, also of results that are read back.

    Args:
        run: the run.
        code: the counted code.
        hooks: its caller's.
        evaluate: whether the rungs are scored; the ladder is empty otherwise.
    """
    for line in head_lines(run.config, run.dataset):
        hooks.log(line)
    train = train_stage(run, hooks)
    pack = pack_trained(run, code)
    for line in size_lines(pack, run.config.quant):
        hooks.log(line)
    ladder: list[RungResult] = []
    for rung in rungs_of(run.config) if evaluate else ():
        ladder.append(measure(run, rung, hooks))
        hooks.log(rung_line(ladder[-1]))
    for result in ladder:
        hooks.log(exact_line(result.name, result.nats_per_token, result.bpb))
    return RunResults(train=train, pack=pack, ladder=tuple(ladder))
