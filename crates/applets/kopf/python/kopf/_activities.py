"""Functions of the operator itself: at its start, at its end, and for its probes."""

import asyncio
import datetime
import logging
import time

from kopf import _errors

_MODES = _errors.ErrorsMode


class ActivityError(_errors.PermanentError):
    """An activity failed for good."""


async def run(worker, kind):
    """Calls all functions of `kind`, each until it succeeds or gives up; gives their results by id."""
    handlers = [handler for handler in worker.handlers if handler.kind == kind]
    logger = logging.getLogger(f'kopf.activities.{kind}')
    results, failures = {}, []
    for handler, outcome in zip(handlers, await asyncio.gather(*(
            _until_done(worker, handler, kind, logger) for handler in handlers))):
        if isinstance(outcome, Exception):
            failures.append(f"'{handler.id}': {outcome}")
        elif outcome is not None:
            results[handler.id] = outcome
    if failures:
        raise ActivityError(f"the {kind} activity failed in " + ', '.join(failures))
    return results


async def _until_done(worker, handler, kind, logger):
    from kopf._worker import invoke
    begun = time.monotonic()
    started = datetime.datetime.now(datetime.timezone.utc)
    retry = 0
    while True:
        runtime = time.monotonic() - begun
        try:
            if handler.timeout is not None and runtime >= handler.timeout:
                raise _errors.HandlerTimeoutError(f"timed out after {runtime:.1f} seconds")
            if handler.retries is not None and retry >= handler.retries:
                raise _errors.HandlerRetriesError(f"exceeded {retry} retries")
            result = await invoke(handler.fn, worker.settings, {
                'param': handler.param, 'retry': retry, 'started': started,
                'runtime': datetime.timedelta(seconds=runtime), 'logger': logger, 'memo': worker.memo,
                'settings': worker.settings, 'activity': kind, **worker.indices})
        except _errors.TemporaryError as error:
            logger.error(f"Activity '{handler.id}' failed temporarily: {error or repr(error)}")
            delay = error.delay
        except _errors.PermanentError as error:
            logger.error(f"Activity '{handler.id}' failed permanently: {error or repr(error)}")
            return error
        except Exception as error:
            mode = handler.errors or _MODES.TEMPORARY
            if mode is _MODES.IGNORED:
                logger.exception(f"Activity '{handler.id}' failed with an exception and will ignore it: {error}")
                return None
            if mode is _MODES.PERMANENT:
                logger.exception(f"Activity '{handler.id}' failed with an exception and will stop now: {error}")
                return error
            delay = handler.backoff if handler.backoff is not None else worker.settings.execution.default_backoff
            logger.exception(
                f"Activity '{handler.id}' failed with an exception and will try again in {delay} seconds: {error}")
        else:
            logger.info(f"Activity '{handler.id}' succeeded.")
            return result
        retry += 1
        await asyncio.sleep(delay or 0)
