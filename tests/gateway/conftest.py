"""The gateway's tests need what it is made of."""

from importlib.util import find_spec

if any(find_spec(name) is None for name in ("aiohttp", "starlette", "uvicorn", "httpx2")):
    collect_ignore_glob = ["test_*.py"]  # they need the extras gateway and client
