"""How large a request body may be, by path; said once for every server in front of the views."""

from django.conf import settings

BATCH_PATH = "/api/v1/tasks/batch"


def limit(path: str) -> int:
    """Bytes a body may have; beyond it is 413."""
    if path.rstrip("/") == BATCH_PATH:
        return int(settings.BATCH_UPLOAD_MAX_MEMORY_SIZE)
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
