"""The command line: one verb, one typed function, one module of this folder.

Results go to stdout (`--json` for programs), everything else to stderr. Exit 0; 1 for our errors, one line without a
traceback; 2 for usage; 130 for Ctrl-C and for SIGTERM. Heavy imports happen inside the verbs, so `--help` stays quick.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer

from momentret.cli.console import LogLine
from momentret.errors import MomentretError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="momentret",
    help="Find moments in video: which video, from which second to which, how good, and whether it is there at all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The base of all usage errors: click's class or, where typer carries its own copy of click, that one.
_UsageError: Any = typer.BadParameter.__mro__[2]

_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"momentret {version('momentret')}")
        raise typer.Exit


@app.callback()
def _common(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is being done, to stderr."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogLine())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    try:
        result = app(args=list(arguments), prog_name="momentret", standalone_mode=False)
    except _UsageError as error:
        error.show()
        if type(error).__name__ == "NoSuchOption":
            typer.echo("If it is no option: words and names that begin with - go last, after --", err=True)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our stdout went away: not an error
        return 0
    except SystemExit as stop:  # a parser inside a verb: --print_config, --help
        return stop.code if isinstance(stop.code, int) else 0
    except IsADirectoryError as error:
        return _fail(f"{error.filename} is a folder, and a file was expected; name the file", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 1)
    except MomentretError as error:
        return _fail(str(error), 1)
    if result == _INTERRUPTED:  # what typer makes of Ctrl-C, without a word, where it carries its own click
        return _fail("interrupted", _INTERRUPTED)
    return result if isinstance(result, int) else 0


def _fail(message: str, status: int) -> int:
    """Print one line to stderr, whatever the message holds."""
    print("momentret: " + " ".join(message.split()), file=sys.stderr)
    return status


def main() -> None:
    """Run the `momentret` command; SIGTERM, as schedulers and `kill` send it, ends it in order like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


# verbs
from momentret.cli import checkpoint, data, features, hubness, index  # noqa: E402
from momentret.cli.cut import cut  # noqa: E402
from momentret.cli.evaluate import evaluate  # noqa: E402
from momentret.cli.extract import extract  # noqa: E402
from momentret.cli.index_export import export  # noqa: E402
from momentret.cli.predict import predict  # noqa: E402
from momentret.cli.report import report  # noqa: E402
from momentret.cli.search import find, search  # noqa: E402
from momentret.cli.train import train  # noqa: E402

app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)
app.command("evaluate")(evaluate)
app.command("predict")(predict)
app.add_typer(checkpoint.app, name="checkpoint")
app.command("extract")(extract)
app.add_typer(hubness.app, name="hubness")
app.command("cut")(cut)
index.app.command("export")(export)
app.add_typer(index.app, name="index")
app.command("report")(report)
app.command("search")(search)
app.command("find")(find)
