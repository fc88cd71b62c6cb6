"""The command line: parse, call the api, show."""

import sys


def main() -> None:
    """Entry point of `metainf`. An error raised on purpose ends with its sentence and exit code 2."""
    from metainf.cli.app import app
    from metainf.domain.errors import MetaInfError

    try:
        app()
    except MetaInfError as error:
        print(f"metainf: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
