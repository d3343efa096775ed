"""Logging as users of Kopf know it: prefixed by the object, as text or JSON, or as events of the object."""

import copy
import enum
import json
import logging
import sys
import traceback
from typing import Union

from kopf import _context
from kopf._bodies import build_object_reference

Logger = Union[logging.Logger, logging.LoggerAdapter]

objects_logger = logging.getLogger('kopf.objects')


class LogFormat(enum.Enum):
    PLAIN = '%(message)s'
    FULL = '[%(asctime)s] %(name)-20.20s [%(levelname)-8.8s] %(message)s'
    JSON = '-json-'


class TextFormatter(logging.Formatter):
    def __init__(self, format, prefixed):
        super().__init__(format)
        self._prefixed = prefixed

    def format(self, record):
        ref = getattr(record, 'k8s_ref', None)
        if ref is not None and self._prefixed:
            namespace, name = ref.get('namespace'), ref.get('name', '')
            record = copy.copy(record)
            record.msg = f"[{namespace}/{name}] {record.msg}" if namespace else f"[{name}] {record.msg}"
        return super().format(record)


class JsonFormatter(logging.Formatter):
    def __init__(self, prefixed, refkey):
        super().__init__()
        self._prefixed = prefixed
        self._refkey = refkey or 'object'

    def format(self, record):
        ref = getattr(record, 'k8s_ref', None)
        message = record.getMessage()
        if ref is not None and self._prefixed:
            namespace, name = ref.get('namespace'), ref.get('name', '')
            message = f"[{namespace}/{name}] {message}" if namespace else f"[{name}] {message}"
        levels = {logging.DEBUG: 'debug', logging.INFO: 'info', logging.WARNING: 'warn', logging.ERROR: 'error'}
        line = {'message': message}
        if record.exc_info:
            line['exc_info'] = ''.join(traceback.format_exception(*record.exc_info)).rstrip()
        line['timestamp'] = self.formatTime(record)
        if ref is not None:
            line[self._refkey] = ref
        line['severity'] = levels.get(record.levelno, 'fatal' if record.levelno > logging.ERROR else 'debug')
        return json.dumps(line, default=str)


class _StreamHandler(logging.StreamHandler):
    """Ours, to be told from those that users add."""


def make_formatter(log_format=LogFormat.FULL, log_prefix=False, log_refkey=None):
    prefixed = log_prefix if log_prefix is not None else log_format is not LogFormat.JSON
    if log_format is LogFormat.JSON:
        return JsonFormatter(prefixed, log_refkey)
    return TextFormatter(log_format.value if isinstance(log_format, LogFormat) else str(log_format), prefixed)


def configure(debug=None, verbose=None, quiet=None, log_format=LogFormat.FULL, log_prefix=False, log_refkey=None):
    handler = _StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(log_format, log_prefix, log_refkey))
    root = logging.getLogger()
    root.handlers[:] = [known for known in root.handlers if not isinstance(known, _StreamHandler)]
    root.addHandler(handler)
    root.setLevel('DEBUG' if debug or verbose else 'WARNING' if quiet else 'INFO')
    asyncio_logger = logging.getLogger('asyncio')
    asyncio_logger.propagate = bool(debug)
    if not debug:
        asyncio_logger.handlers[:] = [logging.NullHandler()]


class ObjectLogger(logging.LoggerAdapter):
    """Logs about one object."""

    _skip = False

    def __init__(self, *, body, settings=None):
        super().__init__(objects_logger, {
            'settings': settings, 'k8s_skip': self._skip, 'k8s_ref': build_object_reference(body),
        })

    def process(self, msg, kwargs):
        kwargs['extra'] = {**(self.extra or {}), **(kwargs.get('extra') or {})}
        return msg, kwargs


class LocalObjectLogger(ObjectLogger):
    """The same, never as events."""

    _skip = True


class EventPoster(logging.Handler):
    """Makes events of what is logged about objects, if the settings say so."""

    _TYPES = ((logging.DEBUG, 'Debug'), (logging.INFO, 'Normal'), (logging.WARNING, 'Warning'),
              (logging.ERROR, 'Error'))

    def emit(self, record):
        ref = getattr(record, 'k8s_ref', None)
        if ref is None or getattr(record, 'k8s_skip', False):
            return
        posting = _context.settings().posting
        if not (posting.enabled and posting.loggers) or record.levelno < posting.level:
            return
        try:
            type = next((name for level, name in self._TYPES if record.levelno <= level), 'Fatal')
            _context.worker().post_event(ref, type, 'Logging', self.format(record))
        except Exception:
            self.handleError(record)
