"""Commands of this folder."""

import dataclasses
import json

import typer


def materialize() -> None:
    """Load outs/features into the online store; the last line is JSON with the digest and what changed."""
    from features.materialize import materialize as load
    from shoplens.settings import load_settings
    from shoplens.stage import stage

    settings = load_settings()
    with stage("materialize", settings):
        report = load(settings)
    typer.echo(json.dumps(dataclasses.asdict(report), sort_keys=True))
