"""The command line: `tupate-hub VERB`. Verbs live in one file per group and are imported when they are called."""

from __future__ import annotations

import difflib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import click

from tupate_hub import __version__
from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

#: Verb -> (module, first sentence of its help). The sentence stands here so that --help imports no verb.
VERBS = {
    "similar": ("rank", "Rank tasks by similarity to a task or an adapter."),
    "explain": ("rank", "Show what each block adds to the similarity of two tasks."),
    "inspect": ("collect", "Say what a file or folder of tuned parameters holds."),
    "add": ("collect", "Read tuned parameters into a registry of your own."),
    "import": ("import_hub", "Read what the Hub lists for a base model into a registry of your own."),
    "stats": ("measure", "Measure a base model's inputs, for --similarity effect."),
    "evaluate": ("measure", "Judge rankings by measured transfer, beside the baselines."),
    "train": ("tune", "Tune a task of your own and add its embedding to a registry."),
    "recommend": ("recommend", "Say which task to start from, for data of your own."),
    "pull": ("fetch", "Fetch a task's embedding, or weights ready to load."),
    "verify": ("fetch", "Check every file of a registry against its hash and its entry."),
    "init": ("publish", "Make an empty registry."),
    "merge": ("publish", "Make one registry of two."),
    "card": ("publish", "Write a registry's dataset card, pictures and browsable table."),
    "push": ("publish", "Publish a registry as a dataset repository of the Hub."),
    "list": ("browse", "List the tasks that a registry holds."),
    "show": ("browse", "Show everything that is known of one embedding."),
    "spaces": ("browse", "List the spaces: base model and method."),
}


class LazyGroup(click.Group):
    """A group whose verbs are imported on use; an unknown verb gets the nearest one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        module = import_module(f"tupate_hub.cli.{VERBS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

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
        result: Any = app.main(args=given or ["--help"], prog_name="tupate-hub", standalone_mode=False)
    except TupateHubError as error:
        output.error(error.message, _about_the_same_registry(error.hint, given))
        return error.exit_code
    except click.ClickException as error:
        output.error(error.format_message(), _usage_hint(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.error("Interrupted.", "")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def _about_the_same_registry(hint: str, given: Sequence[str]) -> str:
    """A hint that is a command gets the --registry of the command that failed, if it takes one."""
    program, _, rest = hint.partition(" ")
    verb = rest.partition(" ")[0]
    named = [one.partition("=")[2] for one in given if one.startswith("--registry=")]
    named += [value for name, value in pairwise(given) if name == "--registry"]
    if program != "tupate-hub" or verb not in VERBS or "--registry" in rest or not named:
        return hint
    command = app.get_command(click.Context(app), verb)
    takes = command is not None and any(option.name == "registry" for option in command.params)
    return f"{hint} --registry {shlex.quote(named[-1])}" if takes else hint


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else ""
