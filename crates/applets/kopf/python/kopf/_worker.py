"""The process that runs the user's functions: loads the files, then does what the engine asks over a socket."""

import asyncio
import contextvars
import copy
import functools
import json
import logging
import os
import signal
import struct
import sys
import traceback

from kopf import _activities, _context, _errors, _logs, _settings
from kopf._bodies import Body
from kopf._calls import Call
from kopf._indices import Index
from kopf._memos import Memo
from kopf._registry import ACTIVITIES, CHANGING, Handler, get_default_registry, is_async
from kopf._resources import Resource
from kopf._stoppers import DaemonStoppingReason
from kopf.lifecycles import get_default_lifecycle


class Worker:
    def __init__(self, socket):
        self._socket = socket
        self.settings = _settings.OperatorSettings()
        self.memo = Memo()
        self.resources = {}
        self.indices = {}
        self.handlers = []
        self._memos = {}
        self._live = {}
        self._tasks = {}
        self._calls = {}
        self._transforms = {}
        self._executions = {}
        self._next_execution = 0
        self._indexed = (0, 0)
        self._index_moved = None
        self._loop = None
        self._writer = None

    # --- talking to the engine ---

    def send(self, frame):
        data = json.dumps(frame, default=_plain, separators=(',', ':')).encode()
        self._writer.write(struct.pack('>I', len(data)) + data)

    def post_event(self, ref, type, reason, message):
        frame = {'op': 'event', 'ref': ref, 'type': type, 'reason': reason, 'message': message}
        # Functions in threads post too.
        self._loop.call_soon_threadsafe(self.send, frame)

    async def run(self):
        self._loop = asyncio.get_running_loop()
        self._index_moved = asyncio.Condition()
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=2 ** 20)
        index_queue = asyncio.Queue()
        indexing = self._loop.create_task(self._index_all(index_queue))
        try:
            while True:
                try:
                    size, = struct.unpack('>I', await reader.readexactly(4))
                    frame = json.loads(await reader.readexactly(size))
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                if frame['op'] == 'exit':
                    return
                if frame['op'] == 'index':
                    self._indexed = (self._indexed[0] + 1, self._indexed[1])
                    index_queue.put_nowait(frame)
                else:
                    self._hear(frame)
        finally:
            indexing.cancel()
            for task in list(self._tasks.values()):
                task.cancel()
            self.settings.execution.executor.shutdown(wait=False, cancel_futures=True)

    def _hear(self, frame):
        op = frame['op']
        if op == 'stop':
            call = self._calls.get(frame['id'])
            if call is not None and call.stopper is not None:
                call.stopper.set(DaemonStoppingReason[frame['reason']])
        elif op == 'cancel':
            task = self._tasks.get(frame['id'])
            if task is not None:
                task.cancel()
        elif op == 'executed':
            waiting = self._executions.pop(frame['id'], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame.get('wait'))
        elif op == 'fresh':
            if frame['uid'] in self._live:
                self._live[frame['uid']][0]._replace_with(frame['body'])
        elif op == 'gone':
            self._memos.pop(frame['uid'], None)
        elif op == 'drop':
            self._transforms.pop(frame['call'], None)
        else:
            task = self._loop.create_task(self._answer(frame))
            self._tasks[frame['id']] = task
            task.add_done_callback(lambda _: self._tasks.pop(frame['id'], None))

    async def _answer(self, frame):
        """Does what a frame asks and tells what came of it."""
        answer = {'op': 'done', 'id': frame['id']}
        try:
            work = getattr(self, f"_do_{frame['op']}")
            await work(frame, answer)
        except asyncio.CancelledError:
            answer.update(op='failed', error={'kind': 'cancelled', 'message': 'cancelled'})
        except _errors.HandlerChildrenRetry as error:
            answer.update(op='failed', error={'kind': 'unfinished', 'message': '', 'delay': error.delay})
        except _errors.TemporaryError as error:
            answer.update(op='failed', error={
                'kind': 'temporary', 'message': str(error) or repr(error), 'delay': error.delay})
        except _errors.PermanentError as error:
            answer.update(op='failed', error={'kind': 'permanent', 'message': str(error) or repr(error)})
        except BaseException as error:
            answer.update(op='failed', error={
                'kind': 'other', 'message': str(error) or repr(error), 'trace': trace_of(error)})
        try:
            self.send(answer)
        except (TypeError, ValueError) as error:
            message = f"what the handler returned or patched cannot be written as JSON: {error}"
            self.send({'op': 'failed', 'id': frame['id'], 'error': {'kind': 'permanent', 'message': message}})

    # --- what the engine asks for ---

    async def _do_declare(self, frame, answer):
        lifecycle = get_default_lifecycle().__name__
        ignored = _settings.ignored(self.settings, self.handlers)
        if ignored:
            logging.getLogger('kopf').warning("without effect under gantry: %s", ', '.join(ignored))
        answer['result'] = {
            'handlers': [handler.declare() for handler in self.handlers],
            'lifecycle': lifecycle,
            'settings': _settings.for_engine(self.settings),
        }

    async def _do_activity(self, frame, answer):
        answer['result'] = await _activities.run(self, frame['kind'])
        if frame['kind'] == 'startup':
            answer['settings'] = _settings.for_engine(self.settings)

    async def _do_resources(self, frame, answer):
        """Which handlers mean which of the kinds that the server has."""
        resources = {key: Resource(**fields) for key, fields in frame['resources'].items()}
        self.resources.update(resources)
        keys = {resource: key for key, resource in resources.items()}
        chosen = []
        for handler in self.handlers:
            selected = handler.selector.select(resources.values()) if handler.selector is not None else []
            chosen.append(sorted(keys[resource] for resource in selected))
        answer['result'] = chosen

    async def _do_ask(self, frame, answer):
        await self._wait_for_indices()
        handler = self.handlers[frame['handler']]
        call = Call(self, frame)
        token = _context.call_var.set(call)
        try:
            answer['result'] = handler.accepts(call, frame['changes'])
        finally:
            _context.call_var.reset(token)

    async def _do_ask_part(self, frame, answer):
        handler, call = self._part(frame)
        answer['result'] = handler.accepts(call, frame['changes'])

    async def _do_delay(self, frame, answer):
        handler = self.handlers[frame['handler']]
        answer['result'] = handler.initial_delay(**Call(self, frame).kwargs(handler))

    async def _do_call(self, frame, answer):
        await self._wait_for_indices()
        handler = self.handlers[frame['handler']]
        body = None
        if handler.kind in ('daemon', 'timer'):
            body = self._go_live(frame)
        call = Call(self, frame, body)
        self._calls[call.id] = call
        try:
            answer['result'] = await self._invoke(handler, call)
        finally:
            del self._calls[call.id]
            if body is not None:
                self._leave_live(frame)
            # Also what a handler has changed before it failed is written.
            if len(call.patch):
                answer['patch'] = dict(call.patch)
            if call.patch.fns:
                answer['transforms'] = True
                self._transforms[call.id] = list(call.patch.fns)

    async def _do_part(self, frame, answer):
        handler, call = self._part(frame)
        self._calls[call.id] = call
        try:
            answer['result'] = await self._invoke(handler, call)
        finally:
            del self._calls[call.id]

    async def _do_transform(self, frame, answer):
        body = frame['body']
        for fn in self._transforms.get(frame['call'], ()):
            fn(body)
        answer['result'] = body

    def _part(self, frame):
        parent = self._calls.get(frame['of'])
        if parent is None:
            raise LookupError("the handler of this sub-handler is gone")
        return parent.asked_parts[frame['index']], parent.part(frame)

    async def execute(self, call, parts):
        """Sub-handlers: the engine decides which are due and keeps their records."""
        call.asked_parts = parts
        self._next_execution += 1
        id = self._next_execution
        waiting = self._executions[id] = self._loop.create_future()
        self.send({'op': 'execute', 'id': id, 'call': call.id, 'parts': [part.declare() for part in parts]})
        wait = await waiting
        if wait is not None:
            raise _errors.HandlerChildrenRetry(delay=wait)

    async def _invoke(self, handler, call):
        call.parts = [] if handler.kind in CHANGING else None
        token = _context.call_var.set(call)
        try:
            result = await invoke(handler.fn, self.settings, call.kwargs(handler))
            if handler.kind in CHANGING and call.parts and not call.executed:
                call.executed = True
                await self.execute(call, call.parts)
            return result
        finally:
            _context.call_var.reset(token)

    # --- what is remembered of objects ---

    def memo_of(self, body):
        uid = body.metadata.uid
        if uid not in self._memos:
            self._memos[uid] = copy.copy(self.memo)
        return self._memos[uid]

    def _go_live(self, frame):
        """The view of an object that follows it for as long as something runs beside it."""
        uid = frame['body'].get('metadata', {}).get('uid')
        body, count = self._live.get(uid, (None, 0))
        if body is None:
            body = Body(frame['body'])
        else:
            body._replace_with(frame['body'])
        self._live[uid] = (body, count + 1)
        return body

    def _leave_live(self, frame):
        uid = frame['body'].get('metadata', {}).get('uid')
        body, count = self._live[uid]
        if count == 1:
            del self._live[uid]
        else:
            self._live[uid] = (body, count - 1)

    # --- indices ---

    async def _wait_for_indices(self):
        """What was heard of before a call is indexed before it."""
        heard = self._indexed[0]
        if self._indexed[1] < heard:
            async with self._index_moved:
                await self._index_moved.wait_for(lambda: self._indexed[1] >= heard)

    async def _index_all(self, queue):
        while True:
            frame = await queue.get()
            try:
                await self._index(frame)
            except Exception:
                logging.getLogger('kopf').exception("an object was not indexed")
            async with self._index_moved:
                self._indexed = (self._indexed[0], self._indexed[1] + 1)
                self._index_moved.notify_all()

    async def _index(self, frame):
        meta = frame['body'].get('metadata', {})
        key = (meta.get('namespace'), meta.get('name'), meta.get('uid'))
        for position in frame['handlers']:
            handler = self.handlers[position]
            index = self.indices[handler.id]
            if frame['gone'] or not handler.accepts_statically(frame['body']):
                index._discard(key)
                continue
            call = Call(self, {**frame, 'reason': 'index'})
            if not handler.accepts(call, True):
                index._discard(key)
                continue
            token = _context.call_var.set(call)
            try:
                result = await invoke(handler.fn, self.settings, call.kwargs(handler))
            except Exception as error:
                index._discard(key)
                call.kwargs(handler)['logger'].error(
                    f"Indexing '{handler.id}' failed: {error}", exc_info=error)
            else:
                if result is not None:
                    index._replace(key, result)
            finally:
                _context.call_var.reset(token)

    # --- beginning ---

    def load(self, frame):
        import importlib
        import importlib.util
        for number, path in enumerate(frame['paths']):
            sys.path.insert(0, os.path.abspath(os.path.dirname(path)))
            name = f'__kopf_script_{number}__{path}'
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise ImportError(f"{path} is no Python file: its name must end in .py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        for name in frame['modules']:
            importlib.import_module(name)
        self.handlers = list(get_default_registry().handlers)
        self.indices = {handler.id: Index() for handler in self.handlers if handler.kind == 'index'}


async def invoke(fn, settings, kwargs):
    """Calls a function: in the loop when it is async, in a thread when it is not."""
    if is_async(fn):
        return await fn(**kwargs)
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    running = loop.run_in_executor(
        settings.execution.executor, functools.partial(context.run, functools.partial(fn, **kwargs)))
    cancelled = None
    while not running.done():
        try:
            # A thread cannot be cut; it is waited for, and the cancellation told after it.
            await asyncio.shield(running)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        raise cancelled
    return running.result()


def trace_of(error):
    """The trace from where the user's own code begins."""
    trace = error.__traceback__
    ours = ('<gantry>', os.path.join(os.path.dirname(os.__file__), 'concurrent'))
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    error = error.with_traceback(trace)
    return ''.join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def _plain(value):
    """Views and the like as JSON."""
    import collections.abc
    import datetime
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple, collections.abc.Sequence)):
        return list(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is neither a mapping nor a list nor a scalar")


def _where(error):
    """The place in the user's files that an error at loading comes from, as `file:line: `."""
    if isinstance(error, SyntaxError) and error.filename:
        column = f':{error.offset}' if error.offset else ''
        return f'{error.filename}:{error.lineno}{column}: '
    own = os.path.dirname(__file__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((own, '<')) and f'{os.sep}importlib{os.sep}' not in frame.filename:
            return f'{frame.filename}:{frame.lineno}: '
    return ''


def main(socket, frame):
    """Loads what `frame` names, then serves until the engine closes the socket."""
    # Signals to the whole group are the engine's to act on; it tells this process when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.stdout.reconfigure(line_buffering=True)
    log = frame['log']
    _logs.configure(debug=log['debug'], verbose=log['verbose'], quiet=log['quiet'],
                    log_format=getattr(_logs.LogFormat, log['format'].upper()),
                    log_prefix=log['prefix'], log_refkey=log['refkey'])
    _logs.objects_logger.addHandler(_logs.EventPoster())
    worker = Worker(socket)
    _context.enter(worker, worker.settings)
    try:
        worker.load(frame)
        ready = {'op': 'ready', 'python': sys.version.split()[0]}
    except BaseException as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error) or repr(error)
        kind = type(error).__name__
        ready = {'op': 'broken', 'message': f'{_where(error)}{kind}: {message}',
                 'trace': '' if isinstance(error, SyntaxError) else trace_of(error)}
    data = json.dumps(ready).encode()
    socket.sendall(struct.pack('>I', len(data)) + data)
    if ready['op'] == 'ready':
        socket.setblocking(False)
        asyncio.run(worker.run())
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that do not end must not keep the process.
    os._exit(0 if ready['op'] == 'ready' else 1)
