"""The command line: parse, call the api, show."""

import io
import sys


def main() -> None:
    """Entry point of `metainf`.

    An error raised on purpose ends with its sentence: exit code 2 where the question cannot be understood,
    1 where it can and yet has no answer (nothing feasible, not supported, a store that refuses).
    """
    from metainf.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except BrokenPipeError:
        raise SystemExit(141) from None
    except OSError as error:
        print(f"metainf: the system refuses: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        from metainf.domain.errors import BadInput, MetaInfError

        if not isinstance(error, MetaInfError):
            raise
        print(f"metainf: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BadInput) else 1) from None
