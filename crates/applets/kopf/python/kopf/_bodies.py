"""Objects of the cluster as handlers see them."""

from typing import Any, Dict

from kopf._dicts import MappingView

RawEventType = str
RawEvent = Dict[str, Any]
RawBody = Dict[str, Any]
BodyEssence = Dict[str, Any]
ObjectReference = Dict[str, Any]
OwnerReference = Dict[str, Any]
Labels = MappingView
Annotations = MappingView


class Spec(MappingView):
    def __init__(self, source):
        super().__init__(source, 'spec')


class Status(MappingView):
    def __init__(self, source):
        super().__init__(source, 'status')


class Meta(MappingView):
    def __init__(self, source):
        super().__init__(source, 'metadata')
        self._labels = MappingView(self, 'labels')
        self._annotations = MappingView(self, 'annotations')

    @property
    def labels(self):
        return self._labels

    @property
    def annotations(self):
        return self._annotations

    @property
    def uid(self):
        return self.get('uid')

    @property
    def name(self):
        return self.get('name')

    @property
    def namespace(self):
        return self.get('namespace')

    @property
    def creation_timestamp(self):
        return self.get('creationTimestamp')

    @property
    def deletion_timestamp(self):
        return self.get('deletionTimestamp')


class Body(MappingView):
    """A whole object; what it shows can be replaced by a newer one."""

    def __init__(self, source):
        super().__init__(source)
        self._meta = Meta(self)
        self._spec = Spec(self)
        self._status = Status(self)

    def _replace_with(self, source):
        self._src = source

    @property
    def metadata(self):
        return self._meta

    @property
    def meta(self):
        return self._meta

    @property
    def spec(self):
        return self._spec

    @property
    def status(self):
        return self._status


def build_object_reference(body):
    """How an event names the object that it is about."""
    meta = body.get('metadata', {})
    ref = {
        'apiVersion': body.get('apiVersion'),
        'kind': body.get('kind'),
        'name': meta.get('name'),
        'uid': meta.get('uid'),
        'namespace': meta.get('namespace'),
    }
    return {key: value for key, value in ref.items() if value}


def build_owner_reference(body, *, controller=True, block_owner_deletion=True):
    """How a child names its owner."""
    meta = body.get('metadata', {})
    ref = {
        'controller': controller,
        'blockOwnerDeletion': block_owner_deletion,
        'apiVersion': body.get('apiVersion'),
        'kind': body.get('kind'),
        'name': meta.get('name'),
        'uid': meta.get('uid'),
    }
    return {key: value for key, value in ref.items() if value is not None}
