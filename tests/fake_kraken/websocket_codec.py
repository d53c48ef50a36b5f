"""
The server's side of RFC 6455: handshake and frames. Reads from a file object, returns bytes to send.

No extensions, no compression: a client that offers them is answered without.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import BinaryIO

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0
MAX_MESSAGE = 1 << 20
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ProtocolError(Exception):
    """The client broke the protocol."""


def accept_key(key: str) -> str:
    """
    Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, 1.3).

    >>> accept_key("dGhlIHNhbXBsZSBub25jZQ==")
    's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    """
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def handshake(key: str) -> bytes:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole frame, unmasked as a server must send it."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + payload


def read_message(stream: BinaryIO) -> tuple[int, bytes]:
    """
    The next message or control frame: (opcode, payload). A control frame inside a message comes first.

    Raises EOFError when the client has gone and ProtocolError when it breaks the rules.
    """
    first_opcode, parts = 0, b""
    while True:
        final, opcode, payload = _read_frame(stream)
        if opcode >= CLOSE:
            if first_opcode:
                raise ProtocolError("control frames inside a message are not expected of a client here")
            return opcode, payload
        if (opcode == CONTINUATION) != bool(first_opcode):
            raise ProtocolError("a continuation without a start, or a start without an end")
        first_opcode = first_opcode or opcode
        parts += payload
        if len(parts) > MAX_MESSAGE:
            raise ProtocolError("message too long")
        if final:
            return first_opcode, parts


def _read_frame(stream: BinaryIO) -> tuple[bool, int, bytes]:
    first, second = _exactly(stream, 2)
    if first & 0x70:
        raise ProtocolError("reserved bits are set, but no extension was agreed on")
    if not second & 0x80:
        raise ProtocolError("a client must mask its frames")
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", _exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", _exactly(stream, 8))
    if length > MAX_MESSAGE:
        raise ProtocolError("frame too long")
    mask, masked = _exactly(stream, 4), _exactly(stream, length)
    repeated = (mask * (length // 4 + 1))[:length]
    plain = int.from_bytes(masked) ^ int.from_bytes(repeated)
    return bool(first & 0x80), first & 0x0F, plain.to_bytes(length)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count) if count else b""
    if len(data) < count:
        raise EOFError("the client has gone")
    return data
