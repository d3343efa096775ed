"""Kopf's interface for handlers that are run by Gantry: the engine is outside, this process runs functions."""

from kopf import lifecycles, on
from kopf._bodies import (
    Annotations, Body, BodyEssence, Labels, Meta, ObjectReference, OwnerReference, RawBody, RawEvent, RawEventType,
    Spec, Status, build_object_reference, build_owner_reference,
)
from kopf._dicts import FieldPath, FieldSpec
from kopf._diffs import Diff, DiffItem, DiffOperation
from kopf._embedding import operator, run, run_tasks, spawn_tasks
from kopf._errors import (
    AdmissionError, ErrorsMode, HandlerRetriesError, HandlerTimeoutError, LoginError, PermanentError,
    TemporaryError,
)
from kopf._events import event, exception, info, warn
from kopf._filters import ABSENT, PRESENT, all_, any_, none_, not_
from kopf._hierarchies import (
    adjust_namespace, adopt, append_owner_reference, harmonize_naming, label, remove_owner_reference,
)
from kopf._indices import Index, Store
from kopf._logs import LocalObjectLogger, LogFormat, Logger, ObjectLogger, configure
from kopf._logins import (
    AiohttpSession, ConnectionInfo, login_via_async_client, login_via_client, login_via_pykube,
    login_with_kubeconfig, login_with_service_account,
)
from kopf._memos import Memo
from kopf._patches import Patch, PatchFn
from kopf._registry import (
    HandlerId, OperatorRegistry, Reason, get_default_registry, set_default_registry,
)
from kopf._resources import EVERYTHING, Resource
from kopf._settings import (
    AnnotationsDiffBaseStorage, AnnotationsProgressStorage, DiffBaseStorage, MultiDiffBaseStorage,
    MultiProgressStorage, OperatorSettings, ProgressRecord, ProgressStorage, SmartProgressStorage,
    StatusDiffBaseStorage, StatusProgressStorage,
)
from kopf._stoppers import AsyncDaemonStopperChecker, DaemonStopped, DaemonStoppingReason, SyncDaemonStopperChecker
from kopf._subhandlers import execute
from kopf._webhooks import (
    Headers, Operation, SSLPeer, UserInfo, WebhookAutoServer, WebhookAutoTunnel, WebhookClientConfig,
    WebhookClientConfigService, WebhookDockerDesktopServer, WebhookFn, WebhookK3dServer, WebhookMinikubeServer,
    WebhookNgrokTunnel, WebhookServer, WebhookServerProtocol,
)
from kopf.lifecycles import get_default_lifecycle, set_default_lifecycle
from kopf.on import daemon, index, register, subhandler, timer

__version__ = '1.45.2'
__version_tuple__ = (1, 45, 2)
