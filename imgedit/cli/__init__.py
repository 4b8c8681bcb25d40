"""The command line: the only room with click and rich, and the one place that turns errors into text."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence

import click

from imgedit import __version__, registry
from imgedit.cli import talk
from imgedit.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_MEMORY,
    EXIT_PIPE,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    ImgeditError,
    nearest,
    no_thread,
)

#: commands that are not stages: module of this package → summary for the list of commands
_OWN = {
    "backends": "List methods and models: what is here, what is missing and what to type.",
    "calibrate": "Measure what a diffusion model expects of its latents.",
    "calibrate-prompts": "Fit a map from one model's text encoders to another's.",
    "completion": "Print the completion script for a shell.",
    "info": "Say what is known of pictures.",
    "models": "Fetch, list, check and remove models.",
    "replay": "Do the recorded steps of a picture again, and compare.",
    "profile": "Measure the memory and speed of an upscaler over sizes and tiles.",
    "run": "Run the steps of a pipeline file.",
}


class Commands(click.Group):
    """All commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_OWN, *registry.stage_names()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _OWN:
            import importlib

            found: click.Command = importlib.import_module(f"imgedit.cli.{name.replace('-', '_')}").command
            return found
        from imgedit.cli.command import for_stage

        if name not in registry.stage_names():
            raise click.UsageError(f"there is no command {name!r}, {nearest(name, self.list_commands(ctx))}", ctx)
        return for_stage(registry.stage(name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # a plugin is not imported to be listed: it may be slow, or broken
        summaries = {name: f"From the package {package}." for name, package in registry.plugin_stages().items()}
        for name in registry.stage_names(plugins=False):
            summaries[name] = registry.stage(name).help.partition("\n")[0]
        summaries |= _OWN
        with formatter.section("Commands"):
            formatter.write_dl([(name, summaries[name]) for name in self.list_commands(ctx)])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IMGEDIT"},
    epilog="Commands read and write pictures with what is known of them, so that they chain: "
    "imgedit detect-text in.jpg | imgedit mask | imgedit erase > out.png",
)
@click.version_option(__version__, "-V", "--version", prog_name="imgedit", message="%(prog)s %(version)s")
def cli() -> None:
    """Repair and enlarge pictures, and prove what changed: find text, mask, erase, upscale, compare."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; errors are printed as ``error:`` and ``hint:``."""
    if "_IMGEDIT_COMPLETE" in os.environ:
        cli.main(prog_name="imgedit")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # not cli.main(): that swallows a closed pipe and exits with 1
        with cli.make_context("imgedit", given) as ctx:
            result = cli.invoke(ctx)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except ImgeditError as error:
        error.message += _variables(error.message, given)
        talk.error(error)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as error:
        # of a mistyped option click would name the nearest in the message too
        message = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
        talk.say("error", message + _variables(message, given))
        talk.say("hint", _usage_hint(error))
        return EXIT_USAGE
    except click.ClickException as error:
        talk.say("error", error.format_message())
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # nobody reads on: leave without the interpreter's own complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except MemoryError:
        return _out_of_memory()
    except OSError as error:
        from imgedit.errors import FileError

        wrapped = FileError(f"{error.filename or 'standard output'}: {error.strerror or error}", talk.IO_HINT)
        talk.error(wrapped)
        return wrapped.exit_code
    except Exception as error:
        if no_thread(error):
            return _out_of_memory()
        if isinstance(error, ImportError) and not (error.name or "").startswith("imgedit"):
            talk.say("error", f"a package is broken here: {error}")
            talk.say("hint", "pip install --force-reinstall 'imgedit[models]'")
            return EXIT_UNAVAILABLE
        import traceback

        traceback.print_exc()
        talk.say("error", "this is a bug of imgedit, not of yours")
        talk.say("hint", "please report the lines above with the command that you typed")
        return EXIT_BUG


#: options with a short name
_SHORT = {"-o": "--output", "-q": "--quiet", "-v": "--verbose"}


def _variables(message: str, given: Sequence[str]) -> str:
    """Return, to be added to *message*, which environment variables set what it names: options, or their values."""
    typed = {_SHORT.get(argument[:2], argument.partition("=")[0]) for argument in given}
    found = set()
    for words in (given[:1], given[:2]):
        prefix = "_".join(["IMGEDIT", *words, ""]).upper().replace("-", "_")
        for variable, value in os.environ.items():
            option = "--" + variable.removeprefix(prefix).lower().replace("_", "-")
            named = bool(re.search(rf"{re.escape(option)}\b(?!-)", message))
            named |= bool(value) and value not in given and repr(value) in message
            if variable.startswith(prefix) and option not in typed and named:
                found.add(variable)
    return f" (set by {', '.join(sorted(found))})" if found else ""


def _out_of_memory() -> int:
    talk.say("error", "out of memory")
    talk.say("hint", "give smaller pictures, or free some memory")
    return EXIT_MEMORY


def _usage_hint(error: click.UsageError) -> str:
    ctx = error.ctx
    if isinstance(error, click.NoSuchOption) and ctx is not None:
        if error.option_name == "--mask" and ctx.info_name in ("erase", "inpaint"):
            # other programs have it; here a mask is a stage, and goes with its picture
            return f"imgedit mask PICTURE --from MASK | imgedit {ctx.info_name} …"
        options = [name for param in ctx.command.get_params(ctx) for name in param.opts if name.startswith("--")]
        return nearest(error.option_name, options)
    return f"try `{ctx.command_path} --help`" if ctx is not None else "try `imgedit --help`"
