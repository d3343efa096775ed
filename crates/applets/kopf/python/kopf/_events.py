"""Kubernetes events about objects."""

import logging
import sys

from kopf import _context
from kopf._bodies import build_object_reference
from kopf._dicts import walk


def _post(objs, level, type, reason, message):
    posting = _context.settings().posting
    if not posting.enabled or (level is not None and posting.level > level):
        return
    for obj in walk(objs):
        if not hasattr(obj, 'get') and hasattr(obj, 'to_dict'):
            raise TypeError(f"an event is about a mapping, not about {obj.__class__.__name__}")
        _context.worker().post_event(build_object_reference(obj), str(type), str(reason), str(message))


def event(objs, *, type, reason, message='', backoffs=None):
    _post(objs, None, type, reason, message)


def info(objs, *, reason, message='', backoffs=None):
    _post(objs, logging.INFO, 'Normal', reason, message)


def warn(objs, *, reason, message='', backoffs=None):
    _post(objs, logging.WARNING, 'Warning', reason, message)


def exception(objs, *, reason='', message='', exc=None, backoffs=None):
    if exc is None:
        exc = sys.exc_info()[1]
    reason = reason or exc.__class__.__name__
    message = f'{message} {exc}' if message and exc else f'{exc}' if exc else f'{message}'
    _post(objs, logging.ERROR, 'Error', reason, message)
