"""The least Django that django-celery-results needs."""

import os

SECRET_KEY = "benchmark"
INSTALLED_APPS = ["django_celery_results"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": os.environ["BENCH_POSTGRES"],
    }
}
CELERY_BROKER_URL = f"{os.environ['BENCH_REDIS']}/0"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
