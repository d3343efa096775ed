"""One call of a handler: what it is given."""

import datetime

from kopf import _stoppers
from kopf._bodies import Body
from kopf._dicts import resolve
from kopf._diffs import Diff
from kopf._logs import LocalObjectLogger, ObjectLogger
from kopf._patches import Patch
from kopf._registry import CHANGING, Reason, is_async

_MISSING = object()


class Call:
    """A call, or the question whether there shall be one."""

    def __init__(self, worker, frame, body=None):
        self.worker = worker
        self.id = frame.get('id')
        self.resource = worker.resources.get(frame.get('resource'))
        self.body = body if body is not None else Body(frame['body'])
        self.patch = Patch(body=self.body)
        self.reason = frame.get('reason')
        self.old, self.new = frame.get('old'), frame.get('new')
        self.diff = Diff(frame.get('diff') or ())
        self.type = frame.get('type')
        self.retry = frame.get('retry', 0)
        self.started = datetime.datetime.fromtimestamp(frame.get('started', 0.0), datetime.timezone.utc)
        self.runtime = datetime.timedelta(seconds=frame.get('runtime', 0.0))
        self.stopper = _stoppers.Stopper() if self.reason in ('daemon', 'timer') else None
        #: Sub-handlers registered so far, in a handler that may have some.
        self.parts = None
        self.executed = False

    def part(self, frame):
        """The call of a sub-handler: of the same object, with the same patch."""
        part = Call.__new__(Call)
        part.__dict__.update(self.__dict__)
        part.id = frame.get('id')
        part.old, part.new = frame.get('old'), frame.get('new')
        part.diff = Diff(frame.get('diff') or ())
        part.retry = frame.get('retry', 0)
        part.started = datetime.datetime.fromtimestamp(frame.get('started', 0.0), datetime.timezone.utc)
        part.runtime = datetime.timedelta(seconds=frame.get('runtime', 0.0))
        part.parts, part.executed = [], False
        return part

    @property
    def is_change(self):
        return self.type is None and self.stopper is None and self.reason not in ('event', 'index')

    def sides(self, field):
        """The values of a field before and after, or the one there is; absent ones are left out as None."""
        if self.is_change:
            return [self.new, self.old]
        return [resolve(self.body, field, None)]

    def kwargs(self, handler):
        body = self.body
        logger = ObjectLogger if handler.kind in (*CHANGING, 'timer', 'daemon') else LocalObjectLogger
        kwargs = {
            'param': handler.param,
            'retry': self.retry, 'started': self.started, 'runtime': self.runtime,
            'logger': logger(body=body, settings=self.worker.settings),
            'memo': self.worker.memo_of(body),
            'resource': self.resource, 'patch': self.patch, 'body': body,
            'spec': body.spec, 'meta': body.metadata, 'status': body.status,
            'uid': body.metadata.uid, 'name': body.metadata.name, 'namespace': body.metadata.namespace,
            'labels': body.metadata.labels, 'annotations': body.metadata.annotations,
        }
        if handler.kind in CHANGING:
            kwargs.update(reason=Reason(self.reason), diff=self.diff, old=self.old, new=self.new)
        elif handler.kind == 'event':
            kwargs.update(event={'type': self.type, 'object': dict(body)}, type=self.type)
        elif handler.kind in ('daemon', 'timer') and self.stopper is not None:
            checker = (_stoppers.AsyncDaemonStopperChecker if is_async(handler.fn)
                       else _stoppers.SyncDaemonStopperChecker)
            kwargs.update(stopped=checker(self.stopper))
        kwargs.update(self.worker.indices)
        return kwargs
