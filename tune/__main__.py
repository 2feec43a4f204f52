"""`python -m tune COMMAND`: report, ledger, store and mirror."""

import importlib
import sys

COMMANDS = {
    "report": "the report of a sweep or a seed study, from the ledger",
    "ledger": "what the ledger holds, as text and as tables",
    "store": "the store of stage results: what is kept, what can go",
    "mirror": "copies of a storage folder in a bucket, and their way back",
}


def main(arguments: list[str]) -> int:
    """Run a command; its own module is loaded for it alone."""
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:8s} {text}" for name, text in COMMANDS.items()]
        print("\n".join(["usage: python -m tune COMMAND ...", "", *lines, "", "COMMAND --help tells more."]))
        return 0 if arguments[:1] in ([], ["-h"], ["--help"]) else 2
    return int(importlib.import_module(f"tune.cli.{arguments[0]}").main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
