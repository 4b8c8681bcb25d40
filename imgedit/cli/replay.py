"""``imgedit replay``: do the recorded steps of a picture again, and say whether the pixels are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgedit.cli.command import model_options, shared_options

if TYPE_CHECKING:
    from imgedit.frame import Frame
    from imgedit.history import Outcome

SCHEMA = "imgedit-replay/1"


def _replay(picture: str, **options: Any) -> int:
    """Do the recorded steps of PICTURE again on what it was made from, and say whether the pixels are the same.

    What it was made from, and pictures and files that steps were given, are known by their digests, whatever they are
    called: they are looked for in --from, in --keep, and beside PICTURE; models that are no Hub ids, by their names.
    No model is fetched because a record names it: only those that are here are used, as with --offline.
    Each step's result is held against the record.
    With --verify the exit code is 0 where PICTURE has the same pixels, and 1 where not; on another machine, or with
    other versions, also from a PSNR of 40 dB on, over the mask where there is one. Without it, the result is written
    to --output.

    Of a step that cannot be done again, an edit by another program or one whose files or model are not here, the kept
    result is taken from --keep, with a warning.
    """
    from imgedit import codec, history
    from imgedit.cli import sinks, talk
    from imgedit.cli.sources import Source
    from imgedit.cli.start import configure, limits
    from imgedit.errors import DataError, GateFailed, UsageError

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    configure({**options, "offline": True})  # a record may come from anyone, and name any model
    if options["verify"] == (options["output"] is not None):
        raise UsageError("replay either checks or writes", "give --verify, or -o FILE")
    path, bounds = Path(picture), limits(options)
    result = codec.read_file(path, bounds)
    steps = result.sidecar.steps
    if not steps:
        raise DataError(
            f"{codec.show(path)} has no recorded steps", "replay what imgedit wrote, with its .json beside it"
        )
    source = Source(path)
    sink = None if options["verify"] else sinks.plan(options["output"], [source], json=False)
    given = [Path(name) for name in options["from_"]]
    folders = [*(p for p in given if p.is_dir()), *(Path(p) for p in options["keep"]), path.absolute().parent]
    places = history.Places([p for p in given if not p.is_dir()], folders, bounds)
    name = (result.sidecar.image.source if result.sidecar.image else None) or ""
    outcome = history.replay(steps, places, name)
    if outcome.why and not options["quiet"]:
        _warn(outcome)
    if sink is not None:
        sink.put(outcome.frame, source)
        return 0
    same, said = _compared(outcome, result, len(steps))
    if options["json"]:
        click.echo(json.dumps({"schema": SCHEMA, **said}))
    elif not options["quiet"]:
        click.echo(_words(said))
    if not same:
        which = (
            f"step {outcome.differs} ({steps[min(outcome.differs, len(steps)) - 1].stage})" if outcome.differs else ""
        )
        raise GateFailed(
            f"the pixels are not the same: the first difference is in {which or 'the picture itself'}",
            "see what is said above, and that PICTURE was not changed since",
        )
    return 0


def _warn(outcome: Outcome) -> None:
    """Say which steps were not done again, and why."""
    from imgedit.cli import talk

    which = "step 1 was" if outcome.first == 2 else f"steps 1 to {outcome.first - 1} were"
    talk.say("warning", f"{which} not done again, the kept result was taken: {outcome.why}")
    if outcome.hint:
        talk.say("hint", outcome.hint)


def _compared(outcome: Outcome, result: Frame, count: int) -> tuple[bool, dict[str, Any]]:
    """Return whether the result counts as the same, and what is to be said."""
    from imgedit import history

    said: dict[str, Any] = {
        "steps": count,
        "first": outcome.first,
        "differs": outcome.differs,
        "same": outcome.frame.digest == result.digest,
        "machine": outcome.machine,
        "models": outcome.models,
        "why": outcome.why,
    }
    if said["same"]:
        return True, said
    if outcome.frame.pixels.shape != result.pixels.shape or outcome.frame.pixels.dtype != result.pixels.dtype:
        return False, said
    said |= history.difference(outcome.frame, result)
    said["tolerance"] = history.TOLERANCE if outcome.machine and not outcome.models else None
    return bool(said["tolerance"] and said["psnr"] is not None and said["psnr"] >= said["tolerance"]), said


def _words(said: dict[str, Any]) -> str:
    """Return what came of it in words."""
    from imgedit.cli import talk

    lines = []
    if said["first"] > 1 and not said["why"]:  # else it was a warning
        lines.append(f"steps 1 to {said['first'] - 1} were not done again: the picture has them")
    lines += [f"not as it was recorded: {each}" for each in said["machine"]]
    lines += [f"not as it was recorded: the model of {each} is another one" for each in said["models"]]
    if said["same"]:
        count = said["steps"] - said["first"] + 1
        lines.append(f"{count} step{'s' if count > 1 else ''}, the same pixels")
    elif "psnr" in said:
        psnr = "–" if said["psnr"] is None else f"{said['psnr']} dB"
        bound = f"; the same is {said['tolerance']} dB or more" if said["tolerance"] else ""
        lines.append(f"{said['pixels']} pixels differ, by at most {said['most']}, PSNR {psnr}{bound}")
    else:
        lines.append("the size or the bit depth differs")
    return "\n".join(talk.printable(line) for line in lines)


command = click.Command(
    "replay",
    callback=_replay,
    help=_replay.__doc__,
    params=[
        click.Argument(["picture"], type=click.Path(readable=False)),
        click.Option(
            ["--from", "from_"],
            metavar="FILE",
            multiple=True,
            type=click.Path(readable=False),
            help="What the first step began with, a file or model that a step was given, or their folder; may be "
            "repeated.",
        ),
        click.Option(
            ["--keep"],
            metavar="FOLDER",
            multiple=True,
            type=click.Path(readable=False),
            help="A folder where results of steps were kept; may be repeated.",
        ),
        click.Option(
            ["--verify"], is_flag=True, help="Say whether the pixels are the same; exit 1 where they are not."
        ),
        click.Option(
            ["-o", "--output"], metavar="OUTPUT", type=click.Path(readable=False), help="A PNG file, or - for a pipe."
        ),
        *model_options(),
        *(option for option in shared_options(output=False) if option.name != "files0_from"),
    ],
)
