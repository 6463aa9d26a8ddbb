"""The command line: `tupate-hub VERB`. Verbs live in one file per group and are imported when they are called."""

from __future__ import annotations

import difflib
import errno
import io
import os
import sys
from typing import Any

import click

from tupate_hub import __version__
from tupate_hub.cli import output
from tupate_hub.cli.hints import for_command
from tupate_hub.cli.nearby import command_nearby
from tupate_hub.cli.verbs import VERBS as VERBS
from tupate_hub.cli.verbs import command_of
from tupate_hub.errors import TupateHubError, WorkFailed


class LazyGroup(click.Group):
    """A group whose verbs are imported on use; an unknown verb gets the nearest one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command."""
        return command_of(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with "did you mean"."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean: tupate-hub {near[0]}" if near else "tupate-hub --help"
            raise TupateHubError(f"There is no command {args[0]!r}.", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their sentences, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, sentence) for verb, (_, sentence) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tupate-hub")
def app() -> None:
    """Say which tuned adapter or dataset to start from.

    A zoo of task embeddings made of parameters that others have tuned, ranked by similarity.

    \b
      tupate-hub similar squad            tasks closest to SQuAD
      tupate-hub similar ./my-adapter     the same for an adapter of yours
      tupate-hub pull sst2 --as peft      weights ready to load
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 1 failed, 2 the user's input, 3 not offline."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or pipe that is not UTF-8
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; without arguments it prints the help."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with output.arrivals():
            result: Any = app.main(args=given or ["--help"], prog_name="tupate-hub", standalone_mode=False)
    except TupateHubError as error:
        output.error(error.message, command_nearby(error, given) or for_command(error.hint, given))
        return error.exit_code
    except click.ClickException as error:
        output.error(error.format_message(), _usage_hint(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.error("Interrupted.", "")
        return 130
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _discard_output()
        output.error("The disk is full: not all of the output was written.", "free some space")
        return WorkFailed.exit_code
    return result if isinstance(result, int) else 0


def _discard_output() -> None:
    """What is left in the buffer would raise the same error once more when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else ""
