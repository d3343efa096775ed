"""Runs beside a locustfile in each worker: tells the master which users there are, and sends it exact latencies."""

import inspect

from locust import TaskSet, events

_samples = {}


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
