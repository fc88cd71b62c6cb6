from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Open(_message.Message):
    __slots__ = ("version", "session", "model", "start", "end", "dtype", "ticket", "order")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    version: int
    session: str
    model: str
    start: int
    end: int
    dtype: str
    ticket: bytes
    order: str
    def __init__(self, version: _Optional[int] = ..., session: _Optional[str] = ..., model: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., dtype: _Optional[str] = ..., ticket: _Optional[bytes] = ..., order: _Optional[str] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("version", "node", "forwards")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: str
    forwards: bool
    def __init__(self, version: _Optional[int] = ..., node: _Optional[str] = ..., forwards: _Optional[bool] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("address", "node", "certificate", "ticket")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    address: str
    node: str
    certificate: bytes
    ticket: bytes
    def __init__(self, address: _Optional[str] = ..., node: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("version", "ticket")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    version: int
    ticket: bytes
    def __init__(self, version: _Optional[int] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class Joined(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("position", "shape", "codec", "data", "seconds", "direct", "digest", "forwarded")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    position: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    codec: str
    data: bytes
    seconds: float
    direct: bool
    digest: bytes
    forwarded: bool
    def __init__(self, position: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., codec: _Optional[str] = ..., data: _Optional[bytes] = ..., seconds: _Optional[float] = ..., direct: _Optional[bool] = ..., digest: _Optional[bytes] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class Sign(_message.Message):
    __slots__ = ("previous",)
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    previous: str
    def __init__(self, previous: _Optional[str] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: str
    def __init__(self, receipt: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "why", "expected_position")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Refusal.Code]
        MALFORMED: _ClassVar[Refusal.Code]
        WRONG_MODEL: _ClassVar[Refusal.Code]
        WRONG_BLOCKS: _ClassVar[Refusal.Code]
        WRONG_POSITION: _ClassVar[Refusal.Code]
        NO_ROOM: _ClassVar[Refusal.Code]
        DRAINING: _ClassVar[Refusal.Code]
        UNPAID: _ClassVar[Refusal.Code]
        NOT_OBEYED: _ClassVar[Refusal.Code]
    UNSPECIFIED: Refusal.Code
    MALFORMED: Refusal.Code
    WRONG_MODEL: Refusal.Code
    WRONG_BLOCKS: Refusal.Code
    WRONG_POSITION: Refusal.Code
    NO_ROOM: Refusal.Code
    DRAINING: Refusal.Code
    UNPAID: Refusal.Code
    NOT_OBEYED: Refusal.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    code: Refusal.Code
    why: str
    expected_position: int
    def __init__(self, code: _Optional[_Union[Refusal.Code, str]] = ..., why: _Optional[str] = ..., expected_position: _Optional[int] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("version", "model", "request")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    model: str
    request: bytes
    def __init__(self, version: _Optional[int] = ..., model: _Optional[str] = ..., request: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("version", "change")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    version: int
    change: str
    def __init__(self, version: _Optional[int] = ..., change: _Optional[str] = ...) -> None: ...

class Changing(_message.Message):
    __slots__ = ("method",)
    METHOD_FIELD_NUMBER: _ClassVar[int]
    method: str
    def __init__(self, method: _Optional[str] = ...) -> None: ...

class ToNode(_message.Message):
    __slots__ = ("open", "step", "link", "join", "ask", "sign", "change")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    SIGN_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    step: Step
    link: Link
    join: Join
    ask: Ask
    sign: Sign
    change: Change
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., sign: _Optional[_Union[Sign, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class FromNode(_message.Message):
    __slots__ = ("opened", "step", "refusal", "joined", "event", "signed", "changing")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    CHANGING_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    step: Step
    refusal: Refusal
    joined: Joined
    event: Event
    signed: Signed
    changing: Changing
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., joined: _Optional[_Union[Joined, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., signed: _Optional[_Union[Signed, _Mapping]] = ..., changing: _Optional[_Union[Changing, _Mapping]] = ...) -> None: ...
