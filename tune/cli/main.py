"""The console commands golf-sweep and golf-seeds, which run_sweep.py, run_seeds.py and `python -m tune` are, too."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from golf.cli.start import announce, function_of, imported, parse
from golf.cli.terminal import quiet_when_closed
from tune.cli.command_file import MakeParser, read_command
from tune.cli.parsers import TOOLS, seeds_parser, sweep_parser
from tune.cli.script_parsers import script_seeds_parser, script_sweep_parser
from tune.records.redaction import redact


def sweep(arguments: Sequence[str] | None = None) -> int:
    """Runs or continues a sweep, or a command that looks after its results. Returns: the exit status.

    Args: arguments: of the command line (those of this process).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in TOOLS:
        return command(TOOLS[words[0]], words[1:])
    return _of_preset_or_script(words, sweep_parser, script_sweep_parser, is_program=arguments is None)


def seeds(arguments: Sequence[str] | None = None) -> int:
    """Runs, continues, compares or plans a seed study. Returns: the exit status.

    Args: arguments: of the command line (those of this process).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return _of_preset_or_script(words, seeds_parser, script_seeds_parser)


def _of_preset_or_script(
    words: list[str], of_preset: MakeParser, of_script: MakeParser, is_program: bool = False
) -> int:
    """Runs a command about what its words, or the file that they name, say. Returns: its exit status."""
    try:
        line = read_command(words, of_preset, of_script)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command(of_script if line.is_script else of_preset, line.words, is_program)


@quiet_when_closed
def command(make_parser: Callable[[], argparse.ArgumentParser], words: list[str], is_program: bool = False) -> int:
    """Runs one command.

    Args: make_parser: of its command line; words: the command line; is_program: whether it is all that this process
        does, so that Ray may be started before it is asked for.

    Returns: its exit status; 2 after an error of input, which is one line on stderr; 130 after Ctrl-C outside the
    trials, which answer it themselves.
    """
    parsed = parse(make_parser(), words)
    early_ray = None
    try:
        target = parsed.name or parsed.preset or parsed.from_sweep if _runs_trials(parsed) else None
        if target:
            announce(Path(target).stem)
            if is_program:
                early_ray = parsed.early_ray = imported("tune.cli.early_ray:start_early")(parsed)
        return function_of(parsed.command)(parsed) or 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command continues", file=sys.stderr)
        return 130
    finally:
        if early_ray is not None:
            with contextlib.suppress(KeyboardInterrupt):  # once more: its processes end with this one
                early_ray.close()


def _runs_trials(parsed: argparse.Namespace) -> bool:
    """Returns whether a command trains, here or on a cluster, instead of showing something."""
    shows = any(getattr(parsed, option, None) for option in ("dry_run", "plan", "compare", "power"))
    return "dry_run" in parsed and not shows
