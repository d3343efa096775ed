"""Started as `python -c`: takes the package from the engine's socket, which is file descriptor 0, and serves."""

import importlib.abc
import importlib.machinery
import json
import os
import socket
import struct
import sys


def read(connection):
    def exactly(size):
        data = bytearray()
        while len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                sys.exit(1)
            data += part
        return bytes(data)
    return json.loads(exactly(struct.unpack('>I', exactly(4))[0]))


class Embedded(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """The package that the binary carries, ahead of any that is installed."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=self.get_filename(name), is_package=name == 'kopf')
        spec.has_location = True
        return spec

    def get_filename(self, name):
        return f"<gantry>/{name.replace('.', '/')}{'/__init__' if name == 'kopf' else ''}.py"

    def is_package(self, name):
        return name == 'kopf'

    def get_source(self, name):
        return self.sources[name]

    def get_code(self, name):
        return compile(self.sources[name], self.get_filename(name), 'exec', dont_inherit=True)


if sys.version_info < (3, 10):
    print(f"error: gantry kopf needs Python 3.10 or newer, {sys.executable} is {sys.version.split()[0]}",
          file=sys.stderr)
    sys.exit(1)
connection = socket.socket(fileno=os.dup(0))
os.set_inheritable(connection.fileno(), False)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.meta_path.insert(0, Embedded(read(connection)['sources']))
sys.argv[:] = ['kopf']
from kopf._worker import main  # noqa: E402
main(connection, read(connection))
