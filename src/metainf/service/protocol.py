"""HTTP/1.1 by httptools, and what a service besides needs: a limit to what is kept of a request that does not
get on, and a problem document for what is no HTTP."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metainf.api.problems import refusal

LARGEST_HEAD = 64 * 1024
"""Bytes after which a head, or whatever else brings a request no further, is refused."""


class Bounded(HttpToolsProtocol):
    """One connection."""

    _idle = 0

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        self._idle += len(data)
        super().data_received(data)
        if self._idle > LARGEST_HEAD and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response(f"expected a head of at most {LARGEST_HEAD:,} bytes")
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._idle = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._idle = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse, and close."""
        text = refusal("no-http", 400, "No HTTP", msg).problem.model_dump_json().encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + text)
        self.transport.close()
