"""Running an operator from one's own program: that needs Kopf itself."""

_HINT = ("an operator inside of a program of one's own needs the real Kopf; "
         "under gantry the handlers are given to `gantry kopf run`")


def run(*_, **__):
    raise RuntimeError(f"kopf.run(): {_HINT}")


async def operator(*_, **__):
    raise RuntimeError(f"kopf.operator(): {_HINT}")


async def spawn_tasks(*_, **__):
    raise RuntimeError(f"kopf.spawn_tasks(): {_HINT}")


async def run_tasks(*_, **__):
    raise RuntimeError(f"kopf.run_tasks(): {_HINT}")
