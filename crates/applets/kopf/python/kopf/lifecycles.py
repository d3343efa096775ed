"""In which order the handlers of an object are called; the engine knows `asap` and `all_at_once`."""


def asap(handlers, *, state, **_):
    """One per pass, the one with the fewest tries."""
    return sorted(handlers, key=lambda handler: state[handler.id].retries)[:1]


def all_at_once(handlers, **_):
    """All that are due."""
    return handlers


def one_by_one(handlers, **_):
    return handlers[:1]


def randomized(handlers, **_):
    raise NotImplementedError("gantry runs handlers asap or all_at_once, not in a random order")


def shuffled(handlers, **_):
    raise NotImplementedError("gantry runs handlers asap or all_at_once, not in a random order")


_default = [asap]


def get_default_lifecycle():
    return _default[0]


def set_default_lifecycle(lifecycle):
    if lifecycle not in (None, asap, all_at_once, one_by_one):
        name = getattr(lifecycle, '__name__', repr(lifecycle))
        raise ValueError(f"the lifecycle {name} is not known to gantry; asap, one_by_one and all_at_once are")
    _default[0] = lifecycle or asap
