"""The command line: parse, call the api, show."""

import sys


def main() -> None:
    """Entry point of `metainf`. An error raised on purpose ends with its sentence and exit code 2."""
    from metainf.cli.app import app

    try:
        app()
    except BrokenPipeError:
        raise SystemExit(141) from None
    except Exception as error:
        from metainf.domain.errors import MetaInfError

        if not isinstance(error, MetaInfError):
            raise
        print(f"metainf: {error}", file=sys.stderr)
        raise SystemExit(2) from None
