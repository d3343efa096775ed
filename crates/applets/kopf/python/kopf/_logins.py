"""Credentials; under Gantry the engine has its own, from the kubeconfig or the service account."""

import dataclasses
import datetime
from typing import Any, Optional

AiohttpSession = Any


@dataclasses.dataclass(frozen=True)
class ConnectionInfo:
    server: Optional[str] = None
    ca_path: Optional[str] = None
    ca_data: Optional[bytes] = None
    insecure: Optional[bool] = None
    username: Optional[str] = None
    password: Optional[str] = None
    scheme: Optional[str] = None
    token: Optional[str] = None
    certificate_path: Optional[str] = None
    certificate_data: Optional[bytes] = None
    private_key_path: Optional[str] = None
    private_key_data: Optional[bytes] = None
    default_namespace: Optional[str] = None
    proxy_url: Optional[str] = None
    trust_env: Optional[bool] = None
    priority: int = 0
    expiration: Optional[datetime.datetime] = None


def login_via_pykube(**_):
    return None


def login_via_client(**_):
    return None


def login_via_async_client(**_):
    return None


def login_with_kubeconfig(**_):
    return None


def login_with_service_account(**_):
    return None
