"""HTTP to the Hugging Face hub, with the standard library: one repository, whole small files, heads of large.

The hub answers `GET /{repository}/resolve/main/{file}`; X-Error-Code tells a missing repository, a gated
one and a missing file apart, X-Repo-Commit the revision (the hub's own client documents these).
"""

import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import quote, urlsplit

from metainf.catalog.hub import LARGEST, HubError, head_size


class Client:
    """Reads files of one repository. `commit` is the revision of the last file that was read."""

    def __init__(self, endpoint: str, token: str | None, timeout_s: float, repository: str) -> None:
        self.repository, self.commit = repository, ""
        self._base = f"{endpoint}/{quote(repository)}/resolve/main/"
        self._host, self._token, self._timeout_s = urlsplit(endpoint).netloc, token, timeout_s
        self._opener = urllib.request.build_opener(_SameHost(self._host, token))

    def read(self, file: str) -> bytes | None:
        """A whole small file, None where the repository has none of that name. Raises HubError."""
        return self._get(file, None)

    def head(self, file: str) -> bytes | None:
        """A safetensors file up to the end of its header, None where there is none. Raises HubError."""
        beginning = self._get(file, 8)
        size = None if beginning is None else head_size(beginning)
        return None if size is None else self._get(file, size)

    def _get(self, file: str, most: int | None) -> bytes | None:
        request = urllib.request.Request(self._base + quote(file), headers={"User-Agent": "metainf"})
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if most is not None:
            request.add_header("Range", f"bytes=0-{most - 1}")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                self.commit = answer.headers.get("X-Repo-Commit") or self.commit
                data: bytes = answer.read(LARGEST + 1 if most is None else most)
        except urllib.error.HTTPError as error:
            self._refuse(error)
            return None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise HubError(
                f"{self._host} cannot be reached ({reason}): try again, or give a folder with its config.json"
            ) from None
        if most is None and len(data) > LARGEST:
            raise HubError(f"{file} of {self.repository} is larger than {LARGEST >> 20} MiB")
        return data

    def _refuse(self, error: urllib.error.HTTPError) -> None:
        """Return for a file that is not there; raise HubError for everything else."""
        code = error.headers.get("X-Error-Code", "") if error.headers else ""
        error.close()
        if error.code == 404 and code in ("EntryNotFound", ""):
            return
        if code == "GatedRepo" or error.code == 403:
            raise HubError(
                f"{self.repository} is gated on {self._host}: accept its terms there and set HF_TOKEN, "
                "or give a folder with its config.json"
            )
        if code == "RepoNotFound" or error.code in (401, 404):
            private = "" if self._token else " (or it is private: set HF_TOKEN)"
            raise HubError(f"{self._host} has no repository {self.repository}{private}")
        raise HubError(f"{self._host} answered {error.code} {error.reason}: try again later")


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and shows the token to the hub alone, never to the host that stores its files."""

    def __init__(self, host: str, token: str | None) -> None:
        self._host, self._token = host, token

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        found: Any = super().redirect_request(req, fp, code, msg, headers, newurl)
        new, old = urlsplit(newurl), urlsplit(req.full_url)
        kept = new.netloc == self._host and new.scheme in ("https", old.scheme)
        if found is not None and self._token and kept:
            found.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return found if found is None or new.scheme in ("http", "https") else None
