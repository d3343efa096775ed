"""Names of the admission part, which Gantry does not serve; handlers that need it are refused at the start."""

from typing import Any, Callable, Dict, Literal

Operation = Literal['CREATE', 'UPDATE', 'DELETE', 'CONNECT']
UserInfo = Dict[str, Any]
Headers = Dict[str, str]
SSLPeer = Dict[str, Any]
WebhookClientConfig = Dict[str, Any]
WebhookClientConfigService = Dict[str, Any]
WebhookFn = Callable[..., Any]
WebhookServerProtocol = Callable[..., Any]


class WebhookServer:
    def __init__(self, **options):
        self.options = options


class WebhookK3dServer(WebhookServer):
    pass


class WebhookMinikubeServer(WebhookServer):
    pass


class WebhookDockerDesktopServer(WebhookServer):
    pass


class WebhookNgrokTunnel(WebhookServer):
    pass


class WebhookAutoServer(WebhookServer):
    pass


class WebhookAutoTunnel(WebhookServer):
    pass
