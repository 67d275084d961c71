"""The command line: parse, call one function of a stage, print."""

from __future__ import annotations

import logging
import sys
from typing import Any

from cyclopts import App, Parameter
from rich.text import Text

from vidvec import __version__
from vidvec.cli import (
    bench,
    competition,
    compress,
    data,
    dedup,
    doctor,
    download,
    encoders,
    ensemble,
    index,
    interop,
    labels,
    objects,
    plan,
    run,
    search,
    serve,
    sources,
    submit,
    tools,
    train,
    tune,
    vectors,
)
from vidvec.cli.shared import err, refuse_urls
from vidvec.errors import VidvecError
from vidvec.pipeline.child import bind_to_parent

app = App(
    name="vidvec",
    version=__version__,
    default_parameter=Parameter(validator=refuse_urls),
    suppress_keyboard_interrupt=False,  # what to do next is said below
    help="One vector per video: ingest, pretrain, finetune, embed, evaluate, fuse, search.",
)
# In the order of ``vidvec --help``.
app.command(data.ingest)
app.command(encoders.reencode)
app.command(sources.compact)
app.command(data.inspect)
app.command(labels.labels)
app.command(doctor.doctor)
app.command(train.pretrain)
app.command(train.finetune)
app.command(train.distill)
app.command(labels.pseudo_label, name="pseudo-label")
app.command(tune.tune)
app.command(vectors.embed)
app.command(vectors.evaluate)
app.command(ensemble.fuse)
app.command(ensemble.soup)
app.command(compress.compress)
app.command(index.index)
app.command(search.search)
app.command(dedup.calibrate)
app.command(dedup.dedup)
app.command(interop.map_videos, name="map")
app.command(serve.serve)
app.command(interop.import_vectors, name="import-vectors")
app.command(interop.export_vectors, name="export-vectors")
app.command(objects.push)
app.command(objects.pull)
app.command(submit.submit)
app.command(plan.plan)
app.command(run.run)
app.command(bench.bench)
app.command(tools.demo)
app.command(competition.make_competition)
app.command(tools.import_checkpoint, name="import-checkpoint")
app.command(tools.check_reference, name="check-reference")
app.command(tools.recipes)
app.command(download.download)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; the user's errors become one line and exit status 1."""
    bind_to_parent()
    logging.captureWarnings(True)
    try:
        return app(arguments)
    except KeyboardInterrupt:
        err.print("stopped; the same command carries on")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except (VidvecError, OSError) as error:
        line = " ".join(str(error).splitlines())
        err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True, highlight=False)
    sys.exit(1)
