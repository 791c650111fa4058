"""A stock project: what `startproject` and the tutorial of Channels write, on PostgreSQL with a pool."""

import os

SECRET_KEY = "not secret"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "board.urls"
ASGI_APPLICATION = "board.asgi.application"
INSTALLED_APPS = ["channels", "board"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PEER_DATABASE_HOST"],
        "USER": "postgres",
        "NAME": os.environ["PEER_DATABASE_NAME"],
        "OPTIONS": {"pool": True},
    }
}
# redis-py 8 gives up on a read after five seconds, which is as long as the layer waits in one: with the default its
# consumers die when nothing happens.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ["PEER_LAYER"],
        "CONFIG": {"hosts": [{"address": os.environ["PEER_REDIS_URL"], "socket_timeout": None}]},
    }
}
