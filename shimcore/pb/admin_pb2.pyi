# mypy: disable-error-code="type-arg"
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("serving", "shim_socket", "runtime", "config", "cache", "registries", "calls", "calls_by_method", "shim_version", "started_at", "pulls", "starting", "last_failed_pull", "older", "older_unknown", "unkept")
    class CallsByMethodEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SERVING_FIELD_NUMBER: _ClassVar[int]
    SHIM_SOCKET_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    REGISTRIES_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CALLS_BY_METHOD_FIELD_NUMBER: _ClassVar[int]
    SHIM_VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    PULLS_FIELD_NUMBER: _ClassVar[int]
    STARTING_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILED_PULL_FIELD_NUMBER: _ClassVar[int]
    OLDER_FIELD_NUMBER: _ClassVar[int]
    OLDER_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    UNKEPT_FIELD_NUMBER: _ClassVar[int]
    serving: bool
    shim_socket: str
    runtime: RuntimeState
    config: ConfigState
    cache: CacheState
    registries: _containers.RepeatedCompositeFieldContainer[RegistryState]
    calls: int
    calls_by_method: _containers.ScalarMap[str, int]
    shim_version: str
    started_at: _timestamp_pb2.Timestamp
    pulls: _containers.RepeatedCompositeFieldContainer[PullState]
    starting: str
    last_failed_pull: ImageCall
    older: _containers.RepeatedCompositeFieldContainer[OlderProcess]
    older_unknown: str
    unkept: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, serving: bool = ..., shim_socket: _Optional[str] = ..., runtime: _Optional[_Union[RuntimeState, _Mapping]] = ..., config: _Optional[_Union[ConfigState, _Mapping]] = ..., cache: _Optional[_Union[CacheState, _Mapping]] = ..., registries: _Optional[_Iterable[_Union[RegistryState, _Mapping]]] = ..., calls: _Optional[int] = ..., calls_by_method: _Optional[_Mapping[str, int]] = ..., shim_version: _Optional[str] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., pulls: _Optional[_Iterable[_Union[PullState, _Mapping]]] = ..., starting: _Optional[str] = ..., last_failed_pull: _Optional[_Union[ImageCall, _Mapping]] = ..., older: _Optional[_Iterable[_Union[OlderProcess, _Mapping]]] = ..., older_unknown: _Optional[str] = ..., unkept: _Optional[_Iterable[str]] = ...) -> None: ...

class OlderProcess(_message.Message):
    __slots__ = ("pid", "version", "calls")
    PID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    version: str
    calls: int
    def __init__(self, pid: _Optional[int] = ..., version: _Optional[str] = ..., calls: _Optional[int] = ...) -> None: ...

class ImageCall(_message.Message):
    __slots__ = ("number", "started_at", "call", "image", "pod", "outcome", "grpc_code", "registry", "bytes", "seconds", "reason", "attempts")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GRPC_CODE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    number: int
    started_at: _timestamp_pb2.Timestamp
    call: str
    image: str
    pod: str
    outcome: str
    grpc_code: int
    registry: str
    bytes: int
    seconds: float
    reason: str
    attempts: _containers.RepeatedCompositeFieldContainer[RegistryAttempt]
    def __init__(self, number: _Optional[int] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., call: _Optional[str] = ..., image: _Optional[str] = ..., pod: _Optional[str] = ..., outcome: _Optional[str] = ..., grpc_code: _Optional[int] = ..., registry: _Optional[str] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., reason: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[RegistryAttempt, _Mapping]]] = ...) -> None: ...

class RegistryAttempt(_message.Message):
    __slots__ = ("registry", "outcome", "detail", "bytes", "seconds")
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    registry: str
    outcome: str
    detail: str
    bytes: int
    seconds: float
    def __init__(self, registry: _Optional[str] = ..., outcome: _Optional[str] = ..., detail: _Optional[str] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("calls", "last", "pulls", "process")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PULLS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[ImageCall]
    last: int
    pulls: _containers.RepeatedCompositeFieldContainer[PullState]
    process: str
    def __init__(self, calls: _Optional[_Iterable[_Union[ImageCall, _Mapping]]] = ..., last: _Optional[int] = ..., pulls: _Optional[_Iterable[_Union[PullState, _Mapping]]] = ..., process: _Optional[str] = ...) -> None: ...

class PullState(_message.Message):
    __slots__ = ("image", "registry", "bytes", "total_bytes", "started_at", "layers", "total_layers")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LAYERS_FIELD_NUMBER: _ClassVar[int]
    image: str
    registry: str
    bytes: int
    total_bytes: int
    started_at: _timestamp_pb2.Timestamp
    layers: int
    total_layers: int
    def __init__(self, image: _Optional[str] = ..., registry: _Optional[str] = ..., bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., layers: _Optional[int] = ..., total_layers: _Optional[int] = ...) -> None: ...

class PullsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PullsResponse(_message.Message):
    __slots__ = ("pulls",)
    PULLS_FIELD_NUMBER: _ClassVar[int]
    pulls: _containers.RepeatedCompositeFieldContainer[PullState]
    def __init__(self, pulls: _Optional[_Iterable[_Union[PullState, _Mapping]]] = ...) -> None: ...

class RuntimeState(_message.Message):
    __slots__ = ("socket", "name", "version", "api_version", "ready", "detail")
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    API_VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    socket: str
    name: str
    version: str
    api_version: str
    ready: bool
    detail: str
    def __init__(self, socket: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., api_version: _Optional[str] = ..., ready: bool = ..., detail: _Optional[str] = ...) -> None: ...

class ConfigState(_message.Message):
    __slots__ = ("file", "loaded_at", "valid", "error", "sources", "kubernetes", "unused_logins")
    FILE_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    VALID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    KUBERNETES_FIELD_NUMBER: _ClassVar[int]
    UNUSED_LOGINS_FIELD_NUMBER: _ClassVar[int]
    file: str
    loaded_at: _timestamp_pb2.Timestamp
    valid: bool
    error: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    kubernetes: KubernetesState
    unused_logins: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, file: _Optional[str] = ..., loaded_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., valid: bool = ..., error: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., kubernetes: _Optional[_Union[KubernetesState, _Mapping]] = ..., unused_logins: _Optional[_Iterable[str]] = ...) -> None: ...

class KubernetesState(_message.Message):
    __slots__ = ("state", "detail", "since", "error", "kept_at")
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KEPT_AT_FIELD_NUMBER: _ClassVar[int]
    state: str
    detail: str
    since: _timestamp_pb2.Timestamp
    error: str
    kept_at: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[str] = ..., detail: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ..., kept_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CacheState(_message.Message):
    __slots__ = ("entries", "hits", "misses")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    hits: int
    misses: int
    def __init__(self, entries: _Optional[int] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ...) -> None: ...

class RegistryState(_message.Message):
    __slots__ = ("address", "state", "usable", "since", "retry_in_s", "reason")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    RETRY_IN_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    address: str
    state: str
    usable: bool
    since: _timestamp_pb2.Timestamp
    retry_in_s: float
    reason: str
    def __init__(self, address: _Optional[str] = ..., state: _Optional[str] = ..., usable: bool = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., retry_in_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("config", "changed")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    config: ConfigState
    changed: bool
    def __init__(self, config: _Optional[_Union[ConfigState, _Mapping]] = ..., changed: bool = ...) -> None: ...

class ShowConfigRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShowConfigResponse(_message.Message):
    __slots__ = ("yaml", "values", "config")
    YAML_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    values: _containers.RepeatedCompositeFieldContainer[ConfigValue]
    config: ConfigState
    def __init__(self, yaml: _Optional[str] = ..., values: _Optional[_Iterable[_Union[ConfigValue, _Mapping]]] = ..., config: _Optional[_Union[ConfigState, _Mapping]] = ...) -> None: ...

class ConfigValue(_message.Message):
    __slots__ = ("key", "value", "origin")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    origin: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PrepareResponse(_message.Message):
    __slots__ = ("modules", "failure")
    MODULES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    modules: int
    failure: str
    def __init__(self, modules: _Optional[int] = ..., failure: _Optional[str] = ...) -> None: ...

class HandOverRequest(_message.Message):
    __slots__ = ("command",)
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    command: str
    def __init__(self, command: _Optional[str] = ...) -> None: ...

class HandOverResponse(_message.Message):
    __slots__ = ("pid", "version", "failure", "impossible")
    PID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    IMPOSSIBLE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    version: str
    failure: str
    impossible: str
    def __init__(self, pid: _Optional[int] = ..., version: _Optional[str] = ..., failure: _Optional[str] = ..., impossible: _Optional[str] = ...) -> None: ...
