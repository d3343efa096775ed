"""Owners and their children: references, names, namespaces and labels, on dictionaries and on client models."""

import warnings
from collections.abc import MutableMapping

from kopf import _context
from kopf._bodies import build_owner_reference
from kopf._dicts import walk

_UNSET = object()


class _Meta:
    """The metadata of one object, whether it is a dictionary or a model of the `kubernetes` client."""

    _ATTRIBUTES = {'generateName': 'generate_name', 'ownerReferences': 'owner_references'}

    def __init__(self, obj):
        self._obj = obj
        self._is_dict = isinstance(obj, MutableMapping)
        if self._is_dict:
            return
        if not hasattr(obj, 'attribute_map') or not hasattr(obj, 'metadata'):
            raise TypeError(f"neither a dictionary nor a model of a Kubernetes client: {type(obj)}")
        if obj.metadata is None:
            obj.metadata = self._model('V1ObjectMeta')()

    def _model(self, name):
        """A class of the same client library that the object comes from."""
        import importlib
        package = type(self._obj).__module__.split('.')[0]
        return getattr(importlib.import_module(f'{package}.client'), name)

    def get(self, field):
        if self._is_dict:
            return (self._obj.get('metadata') or {}).get(field)
        return getattr(self._obj.metadata, self._ATTRIBUTES.get(field, field), None)

    def set(self, field, value):
        if not self._is_dict:
            setattr(self._obj.metadata, self._ATTRIBUTES.get(field, field), value)
        elif value is None:
            self._obj.setdefault('metadata', {}).pop(field, None)
        else:
            self._obj.setdefault('metadata', {})[field] = value

    def owner_uids(self):
        refs = self.get('ownerReferences') or []
        return [ref.get('uid') if isinstance(ref, MutableMapping) else ref.uid for ref in refs]

    def add_owner(self, ref):
        if not self._is_dict:
            ref = self._model('V1OwnerReference')(
                api_version=ref['apiVersion'], kind=ref['kind'], name=ref['name'], uid=ref['uid'],
                controller=ref['controller'], block_owner_deletion=ref['blockOwnerDeletion'])
        refs = self.get('ownerReferences')
        if refs is None:
            self.set('ownerReferences', [ref])
        else:
            refs.append(ref)

    def remove_owner(self, uid):
        refs = self.get('ownerReferences') or []
        kept = [ref for ref, own in zip(refs, self.owner_uids()) if own != uid]
        if len(kept) != len(refs):
            refs[:] = kept


def _owner(owner):
    if owner is not None:
        return owner
    call = _context.call()
    if call is not None and call.body is not None:
        return call.body
    raise LookupError("the owner must be given: outside of a handler there is none to be guessed")


def append_owner_reference(objs, owner=None, *, controller=True, block_owner_deletion=True):
    ref = build_owner_reference(_owner(owner), controller=controller, block_owner_deletion=block_owner_deletion)
    for obj in walk(objs):
        meta = _Meta(obj)
        if ref.get('uid') not in meta.owner_uids():
            meta.add_owner(dict(ref))


def remove_owner_reference(objs, owner=None):
    uid = _owner(owner).get('metadata', {}).get('uid')
    for obj in walk(objs):
        _Meta(obj).remove_owner(uid)


def label(objs, labels=_UNSET, *, forced=False, nested=None, force=None):
    if force is not None:
        warnings.warn("force= of kopf.label() is now called forced=", DeprecationWarning)
        forced = force
    if labels is _UNSET:
        labels = _owner(None).get('metadata', {}).get('labels', {})
    for obj in walk(objs, nested=[nested] if isinstance(nested, str) else nested):
        meta = _Meta(obj)
        known = meta.get('labels')
        if known is None:
            known = {}
            meta.set('labels', known)
        for key, value in labels.items():
            if forced:
                known[key] = value
            else:
                known.setdefault(key, value)


def harmonize_naming(objs, name=_UNSET, *, forced=False, strict=False):
    if name is _UNSET:
        name = _owner(None).get('metadata', {}).get('name')
    if name is None:
        raise LookupError("the name must be given: it cannot be guessed here")
    for obj in walk(objs):
        meta = _Meta(obj)
        if forced or (meta.get('name') is None and meta.get('generateName') is None):
            meta.set('name', name if strict else None)
            meta.set('generateName', None if strict else f'{name}-')


def adjust_namespace(objs, namespace=_UNSET, *, forced=False):
    if namespace is _UNSET:
        namespace = _owner(None).get('metadata', {}).get('namespace')
    for obj in walk(objs):
        meta = _Meta(obj)
        if (forced or meta.get('namespace') is None) and namespace is not None:
            meta.set('namespace', namespace)


def adopt(objs, owner=None, *, forced=False, strict=False, nested=None):
    """Makes objects the children of an owner: in its namespace, named after it, labelled as it is."""
    owner = _owner(owner)
    meta = owner.get('metadata', {})
    append_owner_reference(objs, owner=owner)
    harmonize_naming(objs, forced=forced, strict=strict, name=meta.get('name'))
    adjust_namespace(objs, forced=forced, namespace=meta.get('namespace'))
    label(objs, forced=forced, nested=nested, labels=meta.get('labels', {}))
