"""All commands in one application."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from largeds_native.cli import bench, demo, doctor, export, import_hdf5, info, pack, train, verify, view
from largeds_native.cli.guard import with_exit_code

HELP = """Pack an image data set once, then train at memory bandwidth.

\b
  largeds demo                               see everything work, on real images
  largeds pack photos/train train.lds        decode and resize a class-per-folder tree once
  largeds doctor photos/train                what limits an epoch, and what packing would save
  largeds info train.lds                     what a store holds
  largeds view train.lds --html              see the images, the classes and what failed
  largeds train train.lds --model resnet18   train a torchvision model on it
  largeds bench photos/train                 ours and the usual ways, measured on your images
  largeds verify train.lds                   compare every row with the hash it was packed with
  largeds export train.lds train.h5          one HDF5 file: nobody is locked in
  largeds import theirs.h5 theirs.lds        and the way back, from anybody's file

Each command has --help with examples, and --json where it has a result.
Progress goes to stderr, and only to a terminal.

\b
Exit codes:
  0    it worked
  1    it failed, or `verify` found damage; one sentence on stderr says why
  2    the command was typed wrongly
  130  Ctrl-C; a stopped pack or train goes on by the same command
  141  the reader of the output went away, as in `largeds info x | head -1`
"""

app = typer.Typer(
    name="largeds",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(version("largeds-native"))
        except PackageNotFoundError:
            print("unknown (not installed)")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


root.__doc__ = HELP

for name, command in (
    ("pack", pack.pack),
    ("info", info.info),
    ("verify", verify.verify),
    ("train", train.train),
    ("view", view.view),
    ("doctor", doctor.doctor),
    ("export", export.export),
    ("import", import_hdf5.import_hdf5),
    ("bench", bench.bench),
    ("demo", demo.demo),
):
    app.command(name)(with_exit_code(command))
