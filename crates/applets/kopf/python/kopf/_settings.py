"""What an operator can be told about itself in `kopf.on.startup(settings, ...)`."""

import concurrent.futures
import logging
import types
from typing import Any, Dict

from kopf._dicts import parse_field

ProgressRecord = Dict[str, Any]


class _Group(types.SimpleNamespace):
    """Settings of one subject: attributes that can be read, written and printed."""


class ProgressStorage:
    """Where the engine keeps how far handlers came."""


class AnnotationsProgressStorage(ProgressStorage):
    _ignored = {'verbose': False, 'touch_key': 'touch-dummy'}

    def __init__(self, *, prefix='kopf.zalando.org', verbose=False, touch_key='touch-dummy', v1=True):
        self.prefix, self.verbose, self.touch_key, self.v1 = prefix, verbose, touch_key, v1


class StatusProgressStorage(ProgressStorage):
    def __init__(self, *, name='kopf', field='status.{name}.progress', touch_field='status.{name}.dummy'):
        self.name, self.field = name, parse_field(field.format(name=name))


class MultiProgressStorage(ProgressStorage):
    def __init__(self, storages):
        self.storages = list(storages)


class SmartProgressStorage(MultiProgressStorage):
    """Writes annotations; the engine also reads what older versions left in the status."""

    _ignored = {'name': 'kopf', 'field': 'status.{name}.progress', 'touch_field': 'status.{name}.dummy'}

    def __init__(self, *, name='kopf', field='status.{name}.progress', touch_key='touch-dummy',
                 touch_field='status.{name}.dummy', prefix='kopf.zalando.org', v1=True, verbose=False):
        super().__init__([AnnotationsProgressStorage(prefix=prefix, verbose=verbose, touch_key=touch_key, v1=v1)])
        self.name, self.field, self.touch_field = name, field, touch_field


class DiffBaseStorage:
    """Where the engine keeps what it handled last."""

    def __init__(self, *, ignored_fields=None):
        self.ignored_fields = [parse_field(field) for field in ignored_fields or ()]


class AnnotationsDiffBaseStorage(DiffBaseStorage):
    def __init__(self, *, prefix='kopf.zalando.org', key='last-handled-configuration', ignored_fields=None, v1=True):
        super().__init__(ignored_fields=ignored_fields)
        self.prefix, self.key, self.v1 = prefix, key, v1


class StatusDiffBaseStorage(DiffBaseStorage):
    def __init__(self, *, name='kopf', field='status.{name}.last-handled-configuration', ignored_fields=None):
        super().__init__(ignored_fields=ignored_fields)
        self.name, self.field = name, parse_field(field.format(name=name))


class MultiDiffBaseStorage(DiffBaseStorage):
    def __init__(self, storages):
        super().__init__()
        self.storages = list(storages)


class _Execution(_Group):
    @property
    def max_workers(self):
        return self._max_workers

    @max_workers.setter
    def max_workers(self, value):
        if value < 1:
            raise ValueError(f"execution.max_workers is {value}, it must be at least 1")
        self._max_workers = value
        self.executor._max_workers = value


class OperatorSettings:
    def __init__(self):
        self.process = _Group(ultimate_exiting_timeout=600)
        self.posting = _Group(
            enabled=True, loggers=False, level=logging.INFO, default_backoffs=(1, 1, 2, 3, 5, 8, 13, 21),
            logging_backoffs=(1, 1, 2, 3, 5), worker_limit=None, idle_timeout=1.0,
            reporting_component='kopf', reporting_instance='dev', event_name_prefix='kopf-event-')
        self.peering = _Group(
            name='default', stealth=False, priority=0, lifetime=60, mandatory=False, standalone=False,
            clusterwide=False, namespaced=True)
        self.watching = _Group(
            server_timeout=None, client_timeout=None, connect_timeout=None, reconnect_backoff=0.1,
            inactivity_timeout=70.0, chunk_size=None, initial_streaming=False,
            label_selectors={}, field_selectors={}, shard_selectors={})
        self.queueing = _Group(
            worker_limit=None, idle_timeout=5.0, exit_timeout=2.0, batch_window=0.1,
            error_delays=(1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610))
        self.scanning = _Group(disabled=False)
        self.admission = _Group(server=None, managed=None)
        self.execution = _Execution(
            default_backoff=60, executor=concurrent.futures.ThreadPoolExecutor(), _max_workers=None)
        self.background = _Group(
            cancellation_polling=60, instant_exit_timeout=None, instant_exit_zero_time_cycles=10)
        self.networking = _Group(
            request_timeout=300, connect_timeout=None, error_backoffs=(1, 1, 2, 3, 5, 8, 13, 21),
            enforce_retry_after=False, trust_env=False)
        self.persistence = _Group(
            finalizer='kopf.zalando.org/KopfFinalizerMarker', progress_storage=SmartProgressStorage(),
            diffbase_storage=AnnotationsDiffBaseStorage(), consistency_timeout=5.0)

    @property
    def batching(self):
        return self.queueing


def _annotations(storage, wanted, setting):
    """The one storage in annotations that the engine writes to, out of those that were set."""
    found = [storage] if not hasattr(storage, 'storages') else list(storage.storages)
    chosen = [one for one in found if isinstance(one, wanted)]
    if len(chosen) != 1 or (len(found) > 1 and type(storage) is not SmartProgressStorage):
        names = ', '.join(type(one).__name__ for one in found)
        raise ValueError(f"settings.persistence.{setting} is {names}: gantry keeps it in annotations only, "
                         f"with one {wanted.__name__}")
    return chosen[0]


def for_engine(settings):
    """What of the settings the engine has to know."""
    persistence = settings.persistence
    progress = _annotations(persistence.progress_storage, AnnotationsProgressStorage, 'progress_storage')
    diffbase = _annotations(persistence.diffbase_storage, AnnotationsDiffBaseStorage, 'diffbase_storage')
    return {
        'finalizer': persistence.finalizer,
        'consistency': persistence.consistency_timeout,
        'progress': {'prefix': progress.prefix, 'v1': bool(progress.v1)},
        'diffbase': {
            'prefix': diffbase.prefix, 'key': diffbase.key, 'v1': bool(diffbase.v1),
            'ignored': [list(field) for field in diffbase.ignored_fields],
        },
        'default_backoff': settings.execution.default_backoff,
        'worker_limit': settings.queueing.worker_limit,
        'posting': {
            'component': settings.posting.reporting_component,
            'instance': settings.posting.reporting_instance,
            'prefix': settings.posting.event_name_prefix,
        },
        'peering': {
            'name': settings.peering.name, 'priority': settings.peering.priority,
            'lifetime': settings.peering.lifetime, 'mandatory': settings.peering.mandatory,
            'standalone': settings.peering.standalone, 'clusterwide': settings.peering.clusterwide,
        },
    }


# Settings of Kopf's that nothing here reads; `...` stands for a whole group.
_IGNORED = {
    'process': ('ultimate_exiting_timeout',),
    'posting': ('default_backoffs', 'logging_backoffs', 'worker_limit', 'idle_timeout'),
    'peering': ('stealth', 'namespaced'),
    'watching': ...,
    'queueing': ('idle_timeout', 'exit_timeout', 'batch_window', 'error_delays'),
    'scanning': ...,
    'admission': ...,
    'background': ...,
    'networking': ...,
}


def ignored(settings, handlers):
    """What was set and has no effect here, by its name."""
    defaults = OperatorSettings()
    found = []
    for group, names in _IGNORED.items():
        given, default = vars(getattr(settings, group)), vars(getattr(defaults, group))
        for name in (given if names is ... else names):
            if name in given and (name not in default or given[name] != default[name]):
                found.append(f'settings.{group}.{name}')
    storage = settings.persistence.progress_storage
    for one in (storage, *getattr(storage, 'storages', ())):
        for name, default in getattr(one, '_ignored', {}).items():
            if getattr(one, name, default) != default:
                found.append(f'settings.persistence.progress_storage.{name}')
    for handler in handlers:
        if handler.cancellation_polling is not None:
            found.append(f'cancellation_polling of handler {handler.own_id}')
    return found
