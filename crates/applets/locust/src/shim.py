"""Runs beside a locustfile in each worker: tells the master which users there are, and sends it exact latencies.

Where the worker is the whole run, a listener of `quitting` finds the statistics of the whole run, and the exit code that it
sets is written into the file that the environment names.
"""

import inspect
import os

from locust import TaskSet, events
from locust.stats import RequestStats

_samples = {}
_exit_code_file = os.environ.pop("GANTRY_LOCUST_EXIT_CODE", None)
_environment = None


def _tasks(tasks):
    counts = {}
    for task in tasks:
        counts[task] = counts.get(task, 0) + 1
    return [
        {
            "name": task.__name__,
            "count": count,
            "tasks": _tasks(task.tasks) if inspect.isclass(task) and issubclass(task, TaskSet) else [],
        }
        for task, count in counts.items()
    ]


@events.init.add_listener
def _describe(environment, runner=None, **_kwargs):
    if type(runner).__name__ != "WorkerRunner":
        return
    classes = [
        {
            "name": user.__name__,
            "weight": user.weight,
            "fixed_count": user.fixed_count or 0,
            "host": user.host,
            "tasks": _tasks(user.tasks),
        }
        for user in environment.user_classes
    ]
    shapes = [type(environment.shape_class).__name__] if environment.shape_class else []
    runner.send_message("x_gantry_describe", {"classes": classes, "shapes": shapes})


@events.request.add_listener
def _sample(request_type, name, response_time, **_kwargs):
    if response_time is None:
        return
    times = _samples.setdefault((name, request_type), {})
    us = int(response_time * 1000 + 0.5)
    times[us] = times.get(us, 0) + 1


@events.report_to_master.add_listener
def _report(client_id, data, **_kwargs):
    data["x_gantry_latencies"] = [
        {"name": name, "method": method, "us": times} for (name, method), times in _samples.items()
    ]
    _samples.clear()


@events.test_start.add_listener
def _forget(**_kwargs):
    _samples.clear()


# A worker forgets its statistics with each report, so they are kept here once more.
if _exit_code_file:
    _whole = RequestStats(use_response_times_cache=False)

    @events.init.add_listener
    def _remember(environment, **_kwargs):
        global _environment
        _environment = environment

    @events.test_start.add_listener
    def _begin(**_kwargs):
        _whole.clear_all()

    @events.spawning_complete.add_listener
    def _spawned(**_kwargs):
        if _environment and _environment.reset_stats:
            _whole.clear_all()

    @events.request.add_listener
    def _count(request_type, name, response_time, response_length, exception=None, **_kwargs):
        _whole.log_request(request_type, name, response_time, response_length)
        if exception:
            _whole.log_error(request_type, name, exception)

    # Listeners of this event are called the last one first, and this file is read last.
    @events.quitting.add_listener
    def _show_whole(environment, **_kwargs):
        environment.stats = _whole

    @events.quit.add_listener
    def _tell_exit_code(**_kwargs):
        code = _environment.process_exit_code if _environment else None
        if code is not None:
            with open(_exit_code_file, "w") as file:
                file.write(str(code & 0xFF) if isinstance(code, int) else "1")
