"""One GEPA trial from its first optimiser step to its outcome: train, pack, screen, score."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from golf.config.config import from_plain
from golf.pipeline.bundle import counted_code
from golf.pipeline.identity import training_identity
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import AVERAGED, LIVE, PackedModel
from golf.train.hooks import Hooks
from golf.train.loop import Preempted
from golf.train.run_log import LOG_FILE, LogFile
from tune.cache.cached_runner import stage_runner
from tune.cache.stage_graph import StageName, StageOutput
from tune.records.entries import Outcome, ScreeningEntry, Series
from tune.records.ledger import Ledger
from tune.search.successive_halving import ScreeningRank, screening_rank
from tune.workloads.base import StageExecutor, TrialSpec
from tune.workloads.gepa.checkpoints import directories_alike, link_latest_checkpoint
from tune.workloads.gepa.outcome import Screened, outcome_of, read_first_chunks
from tune.workloads.gepa.settings import GepaSettings, config_of
from tune.workloads.gepa.stage_worker import EvaluateRequest, TrainRequest
from tune.workloads.gepa.stages import seconds_of
from tune.workloads.gepa.training_stop import outcome_of_stopped
from tune.workloads.trial_process import PROVENANCE, only_stored


class GepaRunner:
    """Runs one trial; stages that a process group computes go through an executor."""

    def __init__(self, settings: GepaSettings, spec: TrialSpec, execute: StageExecutor) -> None:
        self.settings, self.spec, self.execute = settings, spec, execute
        config, dataset = settings.open(spec.trial)
        self.directory = RunDirectory(spec.directory)
        self.context = StageContext(config=config, dataset=dataset, directory=self.directory)
        self.stages = settings.stages(spec.trial)
        self.ranks: dict[StageName, ScreeningRank] = {}
        """First chunks of a rung -> the trial's rank on them."""

    @property
    def code(self) -> bytes:
        """The counted code: made when it is first needed, after the training, since that takes seconds."""
        return counted_code(self.context.config)

    def run(self) -> tuple[Outcome, Series]:
        """Trains, packs and, where the artifact fits, screens and scores; a training may be stopped early."""
        try:
            return self._run()
        except Preempted:
            stopped = outcome_of_stopped(self.spec.directory)
            if stopped is None:
                raise
            return stopped

    def _run(self) -> tuple[Outcome, Series]:
        spec, store = self.spec, None if self.spec.cache is None else self.spec.cache.open()
        with stage_runner(store, spec.directory, spec.trial.trial, self.stages, seconds_of) as self.runner:
            self.runner.train(self.stages.training, self._train)
            self.runner.obtain([self.stages.pack], self._pack, with_weights=True)
            promoted = pack_trained(self.context, self.code).fits and all(map(self._is_promoted, self.stages.screens))
            if promoted:
                self.runner.obtain(self.stages.rungs, self._score)
        # All results are read from the directory; the log, whoever computed its parts, is whole then.
        hooks = Hooks(log=LogFile(self.directory.file(LOG_FILE), ProcessGroup()))
        results = run_stages(self.context, self.code, hooks, evaluate=promoted)
        return outcome_of(results, self.directory, self.stages, self.runner, self.ranks, self._screened())

    def _screened(self) -> Screened | None:
        """Returns how trials are screened; None where they are not."""
        screening, config = self.settings.screening, self.context.config
        if screening is None:
            return None
        return Screened(screening.top, config.score.chunk_tokens / self.settings.num_targets)

    def _train(self, start: Path | None, keep: Mapping[int, Path]) -> None:
        """Trains to the end. Args: start: state to continue from; keep: steps -> where the state after them is kept."""
        if self.spec.cache is not None:
            identity = partial(training_identity, self.context.config, self.context.dataset)
            others = directories_alike(self.directory.file(PROVENANCE))
            link_latest_checkpoint(self.directory.path, others, start, keep, identity)
        self.execute(TrainRequest(spec=self.spec, start=start, keep=dict(keep)))

    def _pack(self, outputs: Sequence[StageOutput]) -> None:
        self.runner.train(self.stages.training, self._train, with_weights=True)
        pack_trained(self.context, self.code)

    def _is_promoted(self, screen: StageOutput) -> bool:
        """Whether the trial continues after the first chunks of a rung, compared with the sweep's other trials."""
        self.runner.obtain([screen], self._evaluate)
        rung, screening = screen.name.kind, self.settings.screening
        assert screening is not None
        assert self.settings.screening_file is not None
        ledger, trial = Ledger(self.settings.screening_file), self.spec.trial.trial
        chunks = read_first_chunks(self.directory, screen.name).chunks
        entries = (entry for entry in ledger.screening() if entry.rung == rung and len(entry.chunks) == len(chunks))
        seen = {entry.trial: entry.chunks for entry in entries}
        if seen.get(trial) != chunks:
            ledger.append(ScreeningEntry(trial=trial, rung=rung, chunks=chunks))
        rank = self.ranks[screen.name] = screening_rank(trial, {**seen, trial: chunks}, screening)
        return rank.promoted

    def _score(self, outputs: Sequence[StageOutput]) -> None:
        rungs = {output.name.kind for output in outputs}
        if {LIVE, AVERAGED} & rungs:
            self.runner.train(self.stages.training, self._train, with_weights=True)
        self._evaluate(outputs)

    def _evaluate(self, outputs: Sequence[StageOutput]) -> None:
        """Scores rungs, or the first chunks of one, each from the chunks that it was screened on before."""
        for output in outputs:
            screens = self.stages.screens
            earlier = screens[: screens.index(output)] if output in screens else screens
            before = [screen for screen in earlier if screen.name.kind == output.name.kind]
            if before:
                self.runner.obtain(before[-1:], self._evaluate, with_weights=True)
        rungs, first_chunks = tuple(output.name.kind for output in outputs), outputs[0].name.steps
        code_bytes = len(self.code)
        self.execute(EvaluateRequest(spec=self.spec, rungs=rungs, first_chunks=first_chunks, code_bytes=code_bytes))


def load_from_cache(settings: GepaSettings, spec: TrialSpec) -> tuple[Outcome, Series] | None:
    """Returns the outcome of a trial all of whose results are stored; None where something has to be computed."""
    if spec.cache is None:
        return None
    config, stages, store = config_of(spec.trial), settings.stages(spec.trial), spec.cache.open()
    packed = store.find(stages.pack.key)
    if store.find(stages.training[-1].key) is None or packed is None:
        return None
    if not all(store.find(output.key) for output in (*stages.screens, *stages.rungs)):
        model = from_plain(PackedModel, json.loads(store.read(packed, "pack.json"))["result"])
        # Whatever its code takes, which the driver has no seconds to make for every trial.
        if model.model_bytes <= config.cap_bytes:
            return None
    return GepaRunner(settings, spec, only_stored).run()
