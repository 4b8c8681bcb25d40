"""``imgedit calibrate``: measure what a model expects of its latents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from imgedit.cli.command import keep_going, model_options, shared_options


def _calibrate(model: str, inputs: tuple[str, ...], output: str, **options: Any) -> int:
    """Measure what a diffusion model expects of its latents, for `inpaint --profile`.

    MODEL is a Hub id, a folder or a .safetensors file. INPUT are pictures of the kind that it is to work on, or folders
    of them: a dozen at least, some hundred are better. Of a large picture up to 16 crops of the model's size are taken.
    The profile is JSON: mean and standard deviation of each latent channel, and how much they vary from crop to crop.
    """
    import logging

    from imgedit import calibration, registry
    from imgedit.cli import talk
    from imgedit.cli.sources import expand
    from imgedit.cli.start import configure, limits
    from imgedit.errors import ImgeditError, PartialFailure
    from imgedit.jobs import Sampling

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    configure(options)
    sources = expand(inputs, options["files0_from"], keep_going=options["keep_going"])
    check(output)
    sampling = Sampling(model, device=options["device"], dtype=options["dtype"], latents="mean")
    measuring = calibration.Measuring(registry.backend("diffusion", "diffusers"), sampling)
    failed = []
    total = None if any(source.path is None for source in sources) else len(sources)
    with talk.progress(total, quiet=options["quiet"]) as bar:
        measuring.prepare()
        for source in sources:
            try:
                for frame in source.frames(limits(options)):
                    measuring.add(frame.pixels)
            except ImgeditError as error:
                if not options["keep_going"]:
                    if len(sources) > 1 and source.name not in error.message:
                        error.message = f"{source.name}: {error.message}"
                    raise
                talk.error(error, source.name)
                failed.append(source.name)
            bar.advance()
    profile = measuring.profile()
    if profile.pictures < calibration.FEW_PICTURES:
        logging.getLogger("imgedit").warning(
            f"pictures measured: {profile.pictures}; how much they vary, which is the tolerance, is seen from "
            f"{calibration.FEW_PICTURES} or more"
        )
    write(output, profile.to_json().encode())
    if failed:
        partial = PartialFailure(
            f"{len(failed)} of {len(sources)} pictures failed: {', '.join(failed[:10])}"
            + (" …" if len(failed) > 10 else ""),
            "the profile is of the others; the reasons stand above",
        )
        talk.error(partial)
        return partial.exit_code
    return 0


def check(output: str) -> None:
    """Refuse an -o *output* that cannot be written, before any work: FileError."""
    from imgedit import codec
    from imgedit.errors import FileError

    if output == "-":
        return
    if Path(output).is_dir():
        raise FileError(f"{codec.show(output)} is a folder", "give the name of a file")
    codec.check_writable(Path(output))


def write(output: str, data: bytes) -> None:
    """Write *data* to the file *output*, whole or not at all, or to standard output for ``-``."""
    from imgedit import codec
    from imgedit.errors import FileError

    if output != "-":
        codec.write_whole(Path(output), data)
        return
    if sys.stdout is None:
        raise FileError("standard output is closed", "give -o FILE")
    sys.stdout.buffer.write(data)


def running() -> list[click.Parameter]:
    """Return the options that say how a model is run."""
    words = "auto takes what there is"
    return [
        click.Option(["--device"], metavar="DEVICE", default="auto", help=f"cpu, cuda, cuda:1, mps; {words}."),
        click.Option(["--dtype"], metavar="DTYPE", default="auto", help=f"float32, float16, bfloat16; {words}."),
    ]


command = click.Command(
    "calibrate",
    callback=_calibrate,
    help=_calibrate.__doc__,
    params=[
        click.Argument(["model"], metavar="MODEL"),
        click.Argument(["inputs"], nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False)),
        click.Option(
            ["-o", "--output"],
            metavar="OUTPUT",
            default="-",
            type=click.Path(readable=False),
            help="The profile, a JSON file, or - (the default).",
        ),
        *running(),
        *model_options(),
        keep_going(),
        *(option for option in shared_options(output=False) if option.name != "json"),
    ],
)
