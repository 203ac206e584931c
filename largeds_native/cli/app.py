"""The application with all commands."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from largeds_native.cli import bench, demo, doctor, export, import_hdf5, info, pack, pull, push, train, verify, view
from largeds_native.cli.guard import with_exit_code

HELP = """Pack an image data set once, then train at memory bandwidth.

\b
  largeds demo                               see everything work, on real images
  largeds pack photos/train train.lds        decode and resize a class-per-folder tree once
  largeds doctor photos/train                find what limits an epoch, and what packing would save
  largeds info train.lds                     print the contents of a store
  largeds view train.lds --html              see the images, the classes and the failures
  largeds train train.lds --model resnet18   train a torchvision model on a store
  largeds bench photos/train                 compare with other libraries on your images
  largeds verify train.lds                   compare every row with its hash from the pack
  largeds export train.lds train.h5          write a store as one HDF5 file
  largeds import other.h5 other.lds          make a store of any HDF5 file
  largeds push train.lds s3://bucket/t.lds   copy a store to object storage
  largeds pull s3://bucket/t.lds train.lds   copy it back

Each command has --help with examples, and --json if it has a result.
Progress goes to stderr, and only if that is a terminal.

\b
Exit codes:
  0    success
  1    failure, or `verify` found damage; one sentence on stderr says why
  2    usage error
  75   `train --stop-on-signal` saved the run and stopped at SIGTERM; the same command continues it
  130  Ctrl-C; the same command continues an interrupted pack or train
  141  the reader of the output closed it, as in `largeds info x | head -1`
"""

app = typer.Typer(
    name="largeds",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
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
    ("push", push.push),
    ("pull", pull.pull),
    ("bench", bench.bench),
    ("demo", demo.demo),
):
    app.command(name)(with_exit_code(command))
