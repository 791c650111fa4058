from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402  after the applications are loaded
from django.urls import path  # noqa: E402

from board.consumers import BoardConsumer, DeviceConsumer  # noqa: E402

sockets = URLRouter([path("ws", BoardConsumer.as_asgi()), path("node", DeviceConsumer.as_asgi())])
application = ProtocolTypeRouter({"http": http, "websocket": sockets})
