"""Parts of a handler's work that are retried on their own; the engine keeps their records."""

import collections.abc

from kopf import _context, _registry


async def execute(*, fns=None, handlers=None, registry=None, lifecycle=None, cause=None):
    """Calls parts of the current handler: functions, handlers, or those registered in it so far."""
    call = _context.call()
    if call is None or call.parts is None:
        raise LookupError("kopf.execute() is called within a handler that reacts to changes")
    if len([given for given in (fns, handlers, registry) if given is not None]) > 1:
        raise TypeError("only one of fns, handlers and registry can be given")
    if fns is not None and isinstance(fns, collections.abc.Mapping):
        parts = [_registry.Handler(kind='sub', fn=fn, id=str(id)) for id, fn in fns.items()]
    elif fns is not None and isinstance(fns, collections.abc.Iterable):
        parts = [_registry.Handler(kind='sub', fn=fn, id=_registry.id_of(fn)) for fn in fns]
    elif fns is not None:
        raise ValueError(f"fns must be a mapping or an iterable, not {fns.__class__.__name__}")
    elif handlers is not None:
        parts = list(handlers)
    elif registry is not None:
        parts = list(registry.handlers)
    elif call.executed:
        return
    else:
        parts = call.parts
        call.executed = True
    if parts:
        await _context.worker().execute(call, parts)
