"""metainf serve | keys: the service."""

from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.names import one_of
from metainf.cli.options import Json, Predictor, Store
from metainf.cli.show import print_json, table

SCOPES = ("read", "write", "admin")
keys = typer.Typer(help="Who may ask the service.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command()(serve)
    app.add_typer(keys, name="keys")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; beyond this machine only with keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8321,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    store: Store = None,
    predictor: Predictor = None,
    uploads: Annotated[
        Path | None, typer.Option(help="Folder of files handed in; beside the store by default.")
    ] = None,
    rate: Annotated[
        str, typer.Option(help="Most requests of one key or address, such as 200/second, or none.")
    ] = "200/second",
    max_upload: Annotated[int, typer.Option(min=1, help="Largest file handed in, in MiB.")] = 512,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web page that may call it (CORS), such as https://a.example.")
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Look unknown models up on the Hugging Face hub.")
    ] = False,
    swarm: Annotated[
        str | None, typer.Option(help="A swarm to watch: its directory, such as nats://host:4222.")
    ] = None,
    reputation: Annotated[
        Path | None, typer.Option(help="A file of reputations of that swarm's nodes, to be shown.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="The broker whose queues are shown, such as nats://host:4222.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """Answer over HTTP under /v1: selections, predictions, records, imports; for a team."""
    from metainf.domain import MissingExtra
    from metainf.hosts import https

    try:
        from metainf.service.settings import MIB, Settings
        from metainf.service.start import Listening, listen
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        raise MissingExtra("the service", "serve") from None
    https.both(tls_certificate, tls_key)
    settings = Settings(
        store=store,
        predictor=None if predictor is None else str(predictor),
        spool=None if uploads is None else str(uploads.absolute()),
        offline=not hub,
        rate=None if rate == "none" else rate,
        origins=tuple(origin or ()),
        most_upload=max_upload * MIB,
        swarm=swarm,
        reputation=None if reputation is None else str(reputation.absolute()),
        queue=queue,
    )
    listen(settings, Listening(host, port, workers, tls_certificate, tls_key), typer.echo)


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        str,
        typer.Option(
            help="read, write (also adds records) or admin (also keys).", autocompletion=one_of(*SCOPES)
        ),
    ] = "read",
    store: Store = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown this once; only a digest of it is kept."""
    from metainf import api
    from metainf.api import imports

    with api.store(store) as opened:
        key, secret = imports.keyring(opened).add(name, scope, imports.now())
    if json:
        print_json({"key": key, "secret": secret})
        return
    typer.echo(f"key {key.key_id} ({key.scope}) for {key.name}; it is shown this once:", err=True)
    typer.echo(secret)


@keys.command("list")
def keys_list(store: Store = None, json: Json = False) -> None:
    """All keys, revoked ones too; never what opens the door."""
    from metainf import api
    from metainf.api import imports

    with api.store(store) as opened:
        found = imports.keyring(opened).all()
    if json:
        print_json(found)
        return
    head = ("key", "name", "scope", "made", "revoked")
    table(head, [(k.key_id, k.name, k.scope, k.made_at[:19], (k.revoked_at or "")[:19]) for k in found])


@keys.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `keys list` shows it.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Make a key useless for good. A running service follows within two seconds."""
    from metainf import api
    from metainf.api import imports

    with api.store(store) as opened:
        key = imports.keyring(opened).revoke(key_id, imports.now())
    print_json(key) if json else typer.echo(f"key {key.key_id} of {key.name} is revoked")
